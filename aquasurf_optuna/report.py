"""Reports: one self-contained HTML file that opens anywhere, without a network.

`study_report` writes what a search has found; `write_report` writes any figures and tables in the
same form.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna

from aquasurf_optuna._front_report import front_facts, front_lead, front_sections
from aquasurf_optuna._pruning_report import pruning_sections
from aquasurf_optuna._search_report import (
    best_functions_section,
    comparison_lead,
    comparison_section,
    embedding_section,
    predictions_sections,
    progress_section,
    search_facts,
    search_lead,
    trials_section,
    values_section,
    yaml_line,
)
from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.exceptions import AquaSurfError, ExpressionError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.simplify import simplify
from aquasurf_optuna.visualization import (
    plot_comparison,
)
from aquasurf_optuna.visualization._comparison import comparison_rows
from aquasurf_optuna.visualization._front import Spaces, get_pareto_info
from aquasurf_optuna.visualization._page import Section, Table, page
from aquasurf_optuna.visualization._trials import (
    Baselines,
    read_study,
)

__all__ = ["Section", "Table", "function_section", "source_section", "study_report", "write_report"]

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
    lead = [search_lead(record, value_name)]
    sections = [progress_section(study, one, name, baselines, value_name)]
    sections.append(values_section(study, one, name, baselines, value_name))
    sections += predictions_sections(study, one, name, value_name)
    if sampler is not None:
        sections.append(embedding_section(record, sampler, name, baselines, value_name))
    ranked = record.ranked()
    chosen = ranked[0][1] if ranked and found is None else found
    if comparison:
        rows = comparison_rows(comparison, found=chosen, direction=record.direction)
        lead.append(comparison_lead(rows, comparison_name))
        figure = plot_comparison(
            comparison, found=chosen, direction=record.direction, value_name=comparison_name
        )
        sections.insert(0, comparison_section(rows, figure, comparison_name))
    if chosen is not None:
        sections.insert(0, function_section(as_expression(chosen)))
    if ranked:
        sections.append(best_functions_section(ranked, value_name))
    if chosen is not None:
        sections.append(source_section(as_expression(chosen)))
    ruled_out = {} if sampler is None else sampler.ruled_out(name)
    valid = 0 if sampler is None else len(sampler.embedding(name).expressions)
    return write_report(
        path,
        title=f"Activation function search: {record.name}",
        lead=lead,
        facts=search_facts(record, one),
        sections=[
            *sections,
            trials_section(record, value_name),
            *pruning_sections(record, ruled_out, valid + len(ruled_out)),
        ],
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
            "other framework needs."
        ],
        code={
            "Expression": text,
            **({} if simplest == expression else {"Simplified": str(simplest)}),
            "Formula in LaTeX": simplest.latex(),
            "In PyTorch": "from aquasurf_optuna import Activation\n\n"
            f'activation = Activation("{text}")\n\n'
            "# for networks that take a class such as nn.ReLU:\n"
            f'act_layer = Activation.factory("{text}")',
            "In a LightningCLI configuration, under model": yaml_line(expression),
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
