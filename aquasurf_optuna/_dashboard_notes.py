"""What optuna-dashboard's notes say, in the Markdown that it shows: no HTML and no formulas.

A note of ours stands between two marks that are not shown, so that what people write beside it
stays where it is when the note is written again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from aquasurf_optuna._explanation import EXPLANATION_KEY, REASONS, Explanation
from aquasurf_optuna._history import claim_key
from aquasurf_optuna._naming import names_of_equals
from aquasurf_optuna._parameter_legend import formulas, meanings
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.visualization._front import ParetoInfo
from aquasurf_optuna.visualization._names import number
from aquasurf_optuna.visualization._trials import Baselines, check_name, expression_of_trial

INVALID_KEY = "aquasurf:fisher_invalid"
PREDICTION_KEY = "aquasurf:prediction"
# Both are written by the Lightning callback, which builds on this package.

_LONGEST_CELL = 40
_GAP = "\u00a0\u00a0"
_BEGIN = "[//]: # (aquasurf: what stands from here on is replaced)"
_END = "[//]: # (aquasurf: what stands from here on is kept)"
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class EndedTrial(NamedTuple):
    """A trial that has ended, with its functions.

    Attributes:
        trial: As Optuna has it.
        functions: The functions that it chose, by the names of the activations.
        equals: For those that equal a baseline, its name.
    """

    trial: FrozenTrial
    functions: dict[str, Expression]
    equals: dict[str, str]

    @property
    def is_ranked(self) -> bool:
        """Whether it has a function and completed with finite values."""
        complete = self.trial.state == TrialState.COMPLETE
        return bool(self.functions) and complete and all(map(math.isfinite, self.trial.values))


def ended_trials(
    trials: Sequence[FrozenTrial], spaces: Mapping[str, AnySpace], baselines: Baselines
) -> list[EndedTrial]:
    """Return those trials that have ended.

    Raises:
        SpaceError: If they have no activation of a name, or one of another space.
    """
    ended = [EndedTrial(trial, {}, {}) for trial in trials if trial.state in _STATES]
    for name, space in spaces.items():
        check_name([each.trial for each in ended], space, name)
        chosen = [expression_of_trial(each.trial, space, name) for each in ended]
        known = names_of_equals(chosen, list(baselines))
        for each, expression, equal in zip(ended, chosen, known, strict=True):
            if expression is not None:
                each.functions[name] = expression
            if equal is not None:
                each.equals[name] = equal
    return ended


def merged(old: str, ours: str) -> str:
    """Return a note in which our part is new and all else as it was."""
    block = f"{_BEGIN}\n\n{ours}\n\n{_END}"
    before, mark, rest = old.partition(_BEGIN)
    if not mark:
        return f"{old.rstrip()}\n\n{block}" if old.strip() else block
    return before + block + rest.partition(_END)[2]


def trial_note(
    study: optuna.Study, ended: EndedTrial, value_names: Sequence[str], pictures: Mapping[str, str]
) -> str:
    """Return what there is to say of a trial.

    Args:
        study: Its study.
        ended: The trial.
        value_names: What the objectives measure.
        pictures: Addresses of drawings of its functions, by the names of the activations.
    """
    facts = [*_outcome(study, ended, value_names), *_origin(ended)]
    return "\n\n".join([*_functions(ended, pictures), "\n".join(facts)])


def study_note(
    study: optuna.Study,
    spaces: Mapping[str, AnySpace],
    every: Sequence[EndedTrial],
    value_names: Sequence[str],
    pictures: Mapping[str, str],
    front: ParetoInfo | None,
) -> str:
    """Return what there is to say of a study: what it found, and what its parameters are.

    Args:
        study: The study.
        spaces: Its spaces by the names of the activations.
        every: The trials that have ended.
        value_names: What the objectives measure.
        pictures: Addresses of drawings of the best trial's functions.
        front: Of a study with several objectives, its Pareto front.
    """
    blocks = [_counts(every)]
    best = best_of(study, every)
    if front is not None:
        blocks += ["#### Pareto front", _front_table(front)]
    elif best is not None:
        value = f"{_escaped(value_names[0])} {number(best.trial.value or 0.0)}"
        blocks.append(f"#### The best function so far: {value}, trial {best.trial.number}")
        blocks += _functions(best, pictures)
    blocks.append("#### What the parameters mean")
    for name, space in spaces.items():
        blocks += _legend(space, name)
    return "\n\n".join(blocks)


def best_of(study: optuna.Study, every: Sequence[EndedTrial]) -> EndedTrial | None:
    """Return the best trial that has a function; None without one or with several objectives."""
    ranked = [each for each in every if each.is_ranked]
    if len(study.directions) > 1 or not ranked:
        return None
    sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
    return max(ranked, key=lambda each: (sign * each.trial.values[0], -each.trial.number))


def _counts(every: Sequence[EndedTrial]) -> str:
    states = [_STATES[each.trial.state] for each in every]
    counted = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    ended = "trial has ended" if len(states) == 1 else "trials have ended"
    return f"{len(states)} {ended}: {counted}." if states else "No trial has ended yet."


def _functions(ended: EndedTrial, pictures: Mapping[str, str]) -> list[str]:
    if not ended.functions:
        return ["The function is unknown."]
    blocks = []
    for name, expression in ended.functions.items():
        label = f"{_code(name)}: " if len(ended.functions) > 1 else ""
        equal = f", which equals {_escaped(ended.equals[name])}" if name in ended.equals else ""
        blocks.append(f"{label}**{_code(str(expression))}**{equal}")
        if name in pictures:
            blocks.append(f"![The function and its derivative]({pictures[name]})")
        blocks += [
            _block("python", f'Activation("{expression}")  # from aquasurf_optuna'),
            _block("latex", expression.latex()),
        ]
    return blocks


def _outcome(study: optuna.Study, ended: EndedTrial, value_names: Sequence[str]) -> list[str]:
    trial = ended.trial
    if trial.state == TrialState.PRUNED:
        return [f"- pruned: {_why_pruned(study, ended)}"]
    if trial.state == TrialState.FAIL:
        before = "" if ended.functions else " before it had a function"
        return [f"- failed{before}"]
    return [
        f"- {_escaped(name)}: "
        + (f"**{number(value)}**" if math.isfinite(value) else f"not finite ({value})")
        for name, value in zip(value_names, trial.values, strict=True)
    ]


def _why_pruned(study: optuna.Study, ended: EndedTrial) -> str:
    trial = ended.trial
    if INVALID_KEY in trial.user_attrs:
        found = _escaped(str(trial.user_attrs[INVALID_KEY]))
        return f"the Fisher eigenvalues at initialisation are invalid: {found}"
    predicted = _prediction(trial)
    if predicted is not None and _is_worse(study, *predicted):
        value, threshold = predicted
        return (
            f"before training it was predicted to reach {number(value)}, worse than the threshold "
            f"{number(threshold)}"
        )
    if trial.intermediate_values:
        step, last = max(trial.intermediate_values.items())
        return f"at step {step}, where it had {number(last)}"
    if not ended.functions and trial.params:
        return "its function is left out of the search space"
    return "no reason was kept"


def _prediction(trial: FrozenTrial) -> tuple[float, float] | None:
    kept = trial.user_attrs.get(PREDICTION_KEY, {})
    value, threshold = kept.get("predicted"), kept.get("worse_than")
    return None if value is None or threshold is None else (value, threshold)


def _is_worse(study: optuna.Study, value: float, threshold: float) -> bool:
    if len(study.directions) > 1:
        return False
    return value < threshold if study.direction == StudyDirection.MAXIMIZE else value > threshold


def _origin(ended: EndedTrial) -> list[str]:
    """Return why the sampler proposed the functions, where it wrote that down."""
    kept = ended.trial.system_attrs.get(EXPLANATION_KEY)
    if kept is None:
        return []
    claims = {name: ended.trial.system_attrs.get(claim_key(name)) for name in ended.functions}
    functions = {name: claim for name, claim in claims.items() if claim is not None}
    explanation = Explanation.of_attribute(kept, functions)
    # The first line repeats the functions.
    more = str(explanation).splitlines()[1:]
    reason = f"- why it was proposed: {REASONS[explanation.reason]}"
    return [reason, *(f"  - {_escaped(line.strip())}" for line in more)]


def _front_table(front: ParetoInfo) -> str:
    if not front.front:
        return "No trial is complete yet."
    header = ["function", *(f"{each.name}, {each.direction}" for each in front.objectives), "trial"]
    rows = []
    for point in front.front:
        texts = [
            _code(str(each)) if len(point.expressions) == 1 else f"{_code(name)} {_code(str(each))}"
            for name, each in point.expressions.items()
        ]
        equal = f", equals {_escaped(point.baseline)}" if point.baseline else ""
        function = f"{', '.join(texts) or 'unknown'}{equal}"
        rows.append([function, *map(number, point.values), str(point.trial)])
    return _table(list(map(_escaped, header)), rows)


def _legend(space: AnySpace, name: str) -> list[str]:
    known = meanings(space, name)
    # Most nodes of one kind may be the same operators, so that these are listed once.
    long = dict.fromkeys(each.allowed for each in known if len(each.allowed) > _LONGEST_CELL)
    lists = {allowed: f"list {place}" for place, allowed in enumerate(long, start=1)}
    rows = [
        [_code(each.key), _escaped(each.words), lists.get(each.allowed, _escaped(each.allowed))]
        for each in known
    ]
    table = _table(["parameter", "what it is", "what it may be"], rows)
    below = [f"- {place}: {_escaped(allowed)}" for allowed, place in lists.items()]
    return [*_schemas(space, name), table, *(["\n".join(below)] if below else [])]


def _schemas(space: AnySpace, name: str) -> list[str]:
    written = formulas(space, name)
    if not written:
        return [_code(repr(space))]
    if len(written) == 1:
        return [_code(f"f(x) = {each}") for each in written.values()]
    lines = [
        f"{place}. {_code(schema)}: {_code(f'f(x) = {formula}')}"
        for place, (schema, formula) in enumerate(written.items(), start=1)
    ]
    return ["\n".join(lines)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = "|" + " --- |" * len(header)
    # The dashboard sets columns side by side without a gap, so each cell ends with one.
    first, *rest = ["|" + "".join(f" {cell}{_GAP} |" for cell in line) for line in (header, *rows)]
    return "\n".join([first, rule, *rest])


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _code(text: str) -> str:
    """Return text as code, also where it stands in a table."""
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


def _escaped(text: str) -> str:
    """Return text in which Markdown sees nothing but text, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", " ".join(text.split()))
