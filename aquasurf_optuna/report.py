"""Reports: one self-contained HTML file that opens anywhere, without a network.

`study_report` writes what a search has found; `write_report` writes any figures and tables in the
same form.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
import plotly.graph_objects as go

from aquasurf_optuna._front_report import front_facts, front_lead, front_sections
from aquasurf_optuna._naming import names_of_equals
from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.exceptions import AquaSurfError, ExpressionError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.simplify import simplify
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.visualization import (
    plot_comparison,
    plot_embedding,
    plot_functions,
    plot_search_progress,
)
from aquasurf_optuna.visualization._comparison import ComparisonRow, comparison_rows
from aquasurf_optuna.visualization._front import Spaces, get_pareto_info
from aquasurf_optuna.visualization._names import number
from aquasurf_optuna.visualization._page import Section, Table, page
from aquasurf_optuna.visualization._trials import (
    Baselines,
    StudyRecord,
    TrialRecord,
    read_study,
)

__all__ = ["Section", "Table", "function_section", "source_section", "study_report", "write_report"]

_N_FUNCTIONS = 9
"""How many of the best functions a report draws."""

_LIBRARIES = {
    "torch": "PyTorch, without this package",
    "numpy": "NumPy",
    "jax": "JAX",
    "keras": "Keras",
}

Results = Mapping[str, Sequence[float]] | Mapping[Expression, Sequence[float]]
"""For each function its results on fresh seeds."""


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    lead: Sequence[str] = (),
    facts: Mapping[str, str] | None = None,
    sections: Sequence[Section] = (),
) -> Path:
    """Write a report as one self-contained HTML file of about 5 MB.

    The file appears whole or not at all: it is written beside its place and then moved there.
    Missing folders are made. All texts are plain and are escaped.

    Args:
        path: Where to write; an existing file is replaced.
        title: Heading and title of the page.
        lead: Paragraphs below it.
        facts: A short list of names and values below those.
        sections: The rest.

    Returns:
        The path.

    Raises:
        OSError: If the file cannot be written.
    """
    text = page(title=title, lead=lead, facts={} if facts is None else facts, sections=sections)
    return write_whole(path, text.encode(), what="a report")


def study_report(
    path: str | os.PathLike[str],
    study: optuna.Study,
    space: Spaces,
    *,
    name: str = "activation",
    baselines: Baselines = BASELINES,
    value_name: str = "objective value",
    value_names: Sequence[str] | None = None,
    sampler: AquaSurfSampler | None = None,
    found: str | Expression | None = None,
    comparison: Results | None = None,
    comparison_name: str = "test accuracy",
) -> Path:
    """Write the report of a search: what it found, how it got there, and all its trials.

    A study with several objectives has its Pareto front in place of a best function and of the
    progress; then `value_names` counts, and `value_name`, `sampler` and `comparison` do not.

    Args:
        path: Where to write; an existing file is replaced.
        study: A study, finished or not.
        space: The space from which its functions come, or the continuous family; or several, by the
            names under which they were suggested.
        name: The name under which the space was suggested. Of several spaces, the one to report on
            where the study has one objective; with several objectives, all are shown together.
        baselines: Functions to mark, as in `plot_search_progress`.
        value_name: What the objective measures, with its unit if it has one.
        value_names: The same for each of several objectives; `study.metric_names` unless given.
        sampler: The study's sampler; with it the report shows the embedding of the candidates.
        found: The function to hand over, where it is another one than the best of the study, for
            example after further runs.
        comparison: Results of the final comparison, as in `plot_comparison`.
        comparison_name: What those results measure.

    Returns:
        The path.

    Raises:
        AquaSurfError: If `name` is none of several spaces, or `value_names` are not as many as the
            objectives.
        SpaceError: If the trials have no activation of that name, or one of another space.
        SamplerError: If the sampler has no activation of that name.
        ExpressionError: If `found` is a text that names no function.
        OSError: If the file cannot be written.
    """
    if len(study.directions) > 1:
        return _front_report(path, study, space, name, baselines, value_names, found)
    one = _one_space(space, name)
    record = read_study(study, one, name=name, baselines=baselines)
    progress = plot_search_progress(
        study, one, name=name, baselines=baselines, value_name=value_name
    )
    lead = [_search_lead(record, value_name)]
    sections = [Section(heading="Search progress", text=[_PROGRESS_TEXT], figures=[progress])]
    if sampler is not None:
        sections.append(_embedding_section(record, sampler, name, baselines, value_name))
    ranked = record.ranked()
    chosen = ranked[0][1] if ranked and found is None else found
    if comparison:
        rows = comparison_rows(comparison, found=chosen, direction=record.direction)
        lead.append(_comparison_lead(rows, comparison_name))
        figure = plot_comparison(
            comparison, found=chosen, direction=record.direction, value_name=comparison_name
        )
        sections.insert(0, _comparison_section(rows, figure, comparison_name))
    if chosen is not None:
        sections.insert(0, function_section(as_expression(chosen)))
    if ranked:
        sections.append(_best_functions_section(ranked, value_name))
    if chosen is not None:
        sections.append(source_section(as_expression(chosen)))
    return write_report(
        path,
        title=f"Activation function search: {record.name}",
        lead=lead,
        facts=_facts(record, one),
        sections=[*sections, _trials_section(record, value_name)],
    )


def _one_space(space: Spaces, name: str) -> AnySpace:
    if not isinstance(space, Mapping):
        return space
    if name not in space:
        raise AquaSurfError(f"name must be one of the spaces {sorted(space)}, but got {name!r}")
    return space[name]


def _front_report(
    path: str | os.PathLike[str],
    study: optuna.Study,
    space: Spaces,
    name: str,
    baselines: Baselines,
    value_names: Sequence[str] | None,
    found: str | Expression | None,
) -> Path:
    known = list(baselines)
    info = get_pareto_info(study, space, name=name, baselines=known, value_names=value_names)
    chosen = [] if found is None else [as_expression(found)]
    return write_report(
        path,
        title=f"Activation function search: {study.study_name}",
        lead=[front_lead(info)],
        facts=front_facts(study, info),
        sections=[
            *(function_section(each) for each in chosen),
            *front_sections(study, space, info, name=name, baselines=known),
            *(source_section(each) for each in chosen),
        ],
    )


def function_section(expression: Expression, *, heading: str = "The function found") -> Section:
    """Return the section that tells a reader how to use a function."""
    text, simplest = str(expression), simplify(expression)
    return Section(
        heading=heading,
        text=[
            "It is applied to every element and has no parameters, so the formula is all that any "
            "other framework needs. A click on a block selects it."
        ],
        code={
            "Expression": text,
            **({} if simplest == expression else {"Simplified": str(simplest)}),
            "Formula in LaTeX": simplest.latex(),
            "In PyTorch": "from aquasurf_optuna import Activation\n\n"
            f'activation = Activation("{text}")\n\n'
            "# for networks that take a class such as nn.ReLU:\n"
            f'act_layer = Activation.factory("{text}")',
        },
    )


def source_section(expression: Expression) -> Section:
    """Return the section with a function's source for each library that has its operators."""
    code = {}
    for backend, title in _LIBRARIES.items():
        # An own operator may have no source for a library.
        with contextlib.suppress(ExpressionError):
            code[title] = expression.to_python(backend).rstrip("\n")
    text = "Each block is a module of its own and needs nothing of this package."
    return Section(heading="Source for other libraries", text=[text], code=code)


_PROGRESS_TEXT = (
    "Each point is one training run with one activation function. The line is the best value so "
    "far; dotted lines are the baselines, which were run where the figure is shaded."
)


def _search_lead(record: StudyRecord, value_name: str) -> str:
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


def _comparison_lead(rows: Sequence[ComparisonRow], value_name: str) -> str:
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


def _facts(record: StudyRecord, space: AnySpace) -> dict[str, str]:
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


def _comparison_section(
    rows: Sequence[ComparisonRow], figure: go.Figure, value_name: str
) -> Section:
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


def _embedding_section(
    record: StudyRecord,
    sampler: AquaSurfSampler,
    name: str,
    baselines: Baselines,
    value_name: str,
) -> Section:
    embedding = sampler.embedding(name)
    catalogue = sampler.catalogue(name)
    values: dict[int, list[float]] = {}
    for trial in record.trials:
        if trial.expression is not None:
            class_id = catalogue.class_of(trial.expression)
            values.setdefault(class_id, []).append(trial.value)
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
    )
    return Section(
        heading="Where the candidates are",
        text=[
            "The surrogate puts functions with similar features close to each other: outputs, and "
            "Fisher spectra where the search computes them. It does so without the values."
        ],
        figures=[figure],
    )


def _best_functions_section(
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


def _trials_section(record: StudyRecord, value_name: str) -> Section:
    ranked = [trial for trial, _ in record.ranked()]
    rest = [trial for trial in record.trials if trial not in ranked]
    rows = [
        (
            str(rank) if trial in ranked else "-",
            "unknown" if trial.expression is None else str(trial.expression),
            number(trial.value),
            trial.baseline or "",
            trial.state,
            str(trial.number),
        )
        for rank, trial in enumerate([*ranked, *rest], start=1)
    ]
    columns = ("rank", "function", value_name, "known as", "state", "trial")
    return Section(
        heading="All trials",
        table=Table(columns=columns, rows=rows, code=frozenset({"function"})),
    )
