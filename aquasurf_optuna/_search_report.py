"""What a report says of a study with one objective: how it went, and what it found."""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
import plotly.graph_objects as go

from aquasurf_optuna._explanation import EXPLANATION_KEY
from aquasurf_optuna._naming import names_of_equals
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.simplify import simplify
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.visualization import (
    plot_embedding,
    plot_functions,
    plot_predictions,
    plot_search_progress,
    plot_value_histogram,
)
from aquasurf_optuna.visualization._comparison import ComparisonRow
from aquasurf_optuna.visualization._names import number
from aquasurf_optuna.visualization._page import Section, Table
from aquasurf_optuna.visualization._trials import Baselines, StudyRecord, TrialRecord

_N_FUNCTIONS = 9
"""How many of the best functions a report draws."""

_PROGRESS_TEXT = (
    "Each point is one training run with one activation function. The line is the best value so "
    "far; dotted lines are the baselines, which were run where the figure is shaded."
)


_PREDICTIONS_TEXT = (
    "Each point is a trial that the surrogate ranked best when it was proposed; bars span the 95% "
    "interval of what it then predicted. A search looks for what may be better than all before, so "
    "that it hopes rather too much."
)


def progress_section(
    study: optuna.Study, space: AnySpace, name: str, baselines: Baselines, value_name: str
) -> Section:
    """Return the section with one point a trial."""
    figure = plot_search_progress(
        study, space, name=name, baselines=baselines, value_name=value_name
    )
    return Section(heading="Search progress", text=[_PROGRESS_TEXT], figures=[figure])


def predictions_sections(
    study: optuna.Study, space: AnySpace, name: str, value_name: str
) -> list[Section]:
    """Return the section on what was predicted, or none where nothing was."""
    if not any(EXPLANATION_KEY in one.system_attrs for one in study.get_trials(deepcopy=False)):
        return []
    figure = plot_predictions(study, space, name=name, value_name=value_name)
    return [Section(heading="How well it predicted", text=[_PREDICTIONS_TEXT], figures=[figure])]


def values_section(
    study: optuna.Study, space: AnySpace, name: str, baselines: Baselines, value_name: str
) -> Section:
    """Return the section with a histogram of all values."""
    figure = plot_value_histogram(
        study, space, name=name, baselines=baselines, value_name=value_name
    )
    text = "How many trials ended where; the dotted line is the best baseline."
    return Section(heading="All values", text=[text], figures=[figure])


def search_lead(record: StudyRecord, value_name: str) -> str:
    """Return what there is to say in a sentence."""
    ranked = record.ranked()
    if not ranked:
        return "No trial is complete yet."
    best, expression = ranked[0]
    lead = f"The best function is {expression}, with {value_name} {number(best.value)}"
    if best.baseline is not None:
        return f"{lead}: it equals {best.baseline}, so nothing better than the baselines yet."
    values = record.baseline_values
    if not values:
        return f"{lead}."
    pick = max if record.direction == "maximize" else min
    standard = pick(values, key=lambda name: values[name])
    return f"{lead}; the best baseline, {standard}, has {number(values[standard])}."


def comparison_lead(rows: Sequence[ComparisonRow], value_name: str) -> str:
    """Say honestly how the found function fares on fresh seeds, whichever is first."""
    places = {row.name: place for place, row in enumerate(rows, start=1)}
    found = next((row for row in rows if row.is_found), None)
    if found is None:
        return f"On fresh seeds {rows[0].name} has the best {value_name}: {rows[0].summary}."
    others = [row for row in rows if not row.is_found]
    lead = f"On fresh seeds the found function has {value_name} {found.summary}"
    if not others:
        return f"{lead}."
    return (
        f"{lead}, place {places[found.name]} of {len(rows)}; the best other one, "
        f"{others[0].name}, has {others[0].summary}."
    )


def search_facts(record: StudyRecord, space: AnySpace) -> dict[str, str]:
    """Return a short list of names and values."""
    states = [trial.state for trial in record.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return {
        "Trials": f"{len(states)} ({counts})" if states else "0",
        "Objective": record.direction,
        "Search space": _described(space),
    }


def _described(space: AnySpace) -> str:
    if isinstance(space, SearchSpace):
        return f"{space.schema}, {space.size:,} graphs"
    return repr(space)


def comparison_section(
    rows: Sequence[ComparisonRow], figure: go.Figure, value_name: str
) -> Section:
    """Return the section on the final comparison."""
    cells = [
        (
            row.name,
            row.summary,
            str(len(row.values)),
            str(row.n_failed),
        )
        for row in rows
    ]
    columns = ("function", f"{value_name}, mean ± standard deviation", "seeds", "failed seeds")
    return Section(
        heading="Comparison on fresh seeds",
        text=[
            "Each function was trained anew with seeds that the search has not seen. Bars span one "
            "sample standard deviation to either side of the mean."
        ],
        figures=[figure],
        table=Table(columns=columns, rows=cells, code=frozenset({"function"})),
    )


def embedding_section(
    record: StudyRecord,
    sampler: AquaSurfSampler,
    name: str,
    baselines: Baselines,
    value_name: str,
) -> Section:
    """Return the section with the map of the candidates."""
    embedding = sampler.embedding(name)
    catalogue = sampler.catalogue(name)
    values: dict[int, list[float]] = {}
    first: dict[int, int] = {}
    for trial in record.trials:
        if trial.expression is not None:
            class_id = catalogue.class_of(trial.expression)
            values.setdefault(class_id, []).append(trial.value)
            first.setdefault(class_id, trial.number)
    means, failed = [], []
    for class_id in embedding.classes.tolist():
        finite = [value for value in values.get(class_id, []) if math.isfinite(value)]
        means.append(math.fsum(finite) / len(finite) if finite else math.nan)
        failed.append(class_id in values and not finite)
    figure = plot_embedding(
        embedding.coordinates,
        embedding.expressions,
        means,
        failed=failed,
        baselines=list(baselines),
        direction=record.direction,
        value_name=value_name,
        order=[first.get(class_id, math.nan) for class_id in embedding.classes.tolist()],
    )
    return Section(
        heading="Where the candidates are",
        text=[
            "The surrogate puts functions with similar features close to each other: outputs, and "
            "Fisher spectra where the search computes them. It does so without the values. The "
            "line goes from trial to trial; a click on its name hides it."
        ],
        figures=[figure],
    )


def best_functions_section(
    ranked: Sequence[tuple[TrialRecord, Expression]], value_name: str
) -> Section:
    """Draw the best functions, equal ones once, a figure each, so that they fit any window."""
    chosen: list[tuple[TrialRecord, Expression]] = []
    for trial, expression in ranked:
        if len(chosen) == _N_FUNCTIONS:
            break
        if names_of_equals([expression], [known for _, known in chosen]) == [None]:
            chosen.append((trial, expression))
    return Section(
        heading="The best functions",
        text=[f"Each with its {value_name}, over inputs from -5 to 5; ReLU is dashed."],
        figures=[plot_functions([e], [trial.value], legend=False) for trial, e in chosen],
    )


def trials_section(record: StudyRecord, value_name: str) -> Section:
    """Return the section that lists all trials, the best first."""
    ranked = [trial for trial, _ in record.ranked()]
    rest = [trial for trial in record.trials if trial not in ranked]
    rows = [
        (
            str(rank) if trial in ranked else "-",
            "unknown" if trial.expression is None else str(trial.expression),
            number(trial.value),
            trial.baseline or "",
            trial.state,
            f"{trial.seconds:.3g}" if math.isfinite(trial.seconds) else "-",
            str(trial.number),
        )
        for rank, trial in enumerate([*ranked, *rest], start=1)
    ]
    return Section(
        heading="All trials",
        table=Table(
            columns=("rank", "function", value_name, "known as", "state", "seconds", "trial"),
            rows=rows,
            code=frozenset({"function"}),
            choices=frozenset({"state"}),
            copies=[copies_of(trial.expression) for trial in [*ranked, *rest]],
        ),
    )


def copies_of(expression: Expression | None) -> dict[str, str]:
    """Return what a reader may copy of a function, by the label of the button."""
    if expression is None:
        return {}
    return {
        "Python": f'Activation("{expression}")',
        "LaTeX": simplify(expression).latex(),
        "YAML": yaml_line(expression),
    }


def yaml_line(expression: Expression) -> str:
    """Return the line of a LightningCLI configuration, in its section `model`."""
    return f'activation: "{expression}"'
