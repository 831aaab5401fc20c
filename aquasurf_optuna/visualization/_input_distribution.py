"""Which part of a function a network uses, before and after training: Figure 9 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.visualization._curves import outputs_of, panel_limits
from aquasurf_optuna.visualization._names import escaped
from aquasurf_optuna.visualization._style import (
    BLUE,
    GREY,
    ORANGE,
    VERMILION,
    empty_figure,
    new_figure,
    style_axes,
)

_TITLE = "Inputs of the function"
_N_POINTS = 801
_TAIL = 0.001
"""This share of the inputs may lie beyond either end of the axis."""
_FILLS = {BLUE: "rgba(0, 114, 178, 0.30)", ORANGE: "rgba(230, 159, 0, 0.30)"}


class InputHistogram(NamedTuple):
    """How often a function's inputs lie in which interval.

    Attributes:
        edges: float64 ``(bins + 1,)``, rising and finite.
        counts: int64 ``(bins,)``, inputs from one edge up to, but not at, the next one.
        below: Inputs below the first edge.
        above: Inputs at or above the last edge.
        not_a_number: Inputs that are NaN.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    below: int = 0
    above: int = 0
    not_a_number: int = 0

    @property
    def total(self) -> int:
        """All inputs."""
        return int(self.counts.sum()) + self.below + self.above + self.not_a_number

    @classmethod
    def of(cls, inputs: ArrayLike, edges: ArrayLike) -> Self:
        """Count inputs.

        Args:
            inputs: Of any shape.
            edges: Rising and finite, two at least.

        Raises:
            AquaSurfError: If the edges are not.
        """
        bounds = np.asarray(edges, dtype=np.float64)
        if bounds.ndim != 1 or len(bounds) < 2 or not np.isfinite(bounds).all():
            raise AquaSurfError(f"edges must be two or more finite numbers, got {edges!r}")
        if not (np.diff(bounds) > 0).all():
            raise AquaSurfError("edges must rise from each to the next")
        values = np.asarray(inputs, dtype=np.float64).ravel()
        known = values[~np.isnan(values)]
        places = np.searchsorted(bounds, known, side="right")
        counts = np.bincount(places, minlength=len(bounds) + 1)
        return cls(
            bounds,
            counts[1 : len(bounds)].astype(np.int64),
            int(counts[0]),
            int(counts[len(bounds)]),
            len(values) - len(known),
        )

    @classmethod
    def joined(cls, several: Sequence[InputHistogram]) -> InputHistogram:
        """Return the histogram of all inputs of several with the same edges.

        Raises:
            AquaSurfError: If there is none, or their edges differ.
        """
        if not several or any(not np.array_equal(h.edges, several[0].edges) for h in several):
            raise AquaSurfError(
                f"histograms that are joined must have the same edges; got {len(several)} of them"
            )
        return cls(
            several[0].edges,
            np.sum([h.counts for h in several], axis=0),
            sum(h.below for h in several),
            sum(h.above for h in several),
            sum(h.not_a_number for h in several),
        )

    def as_json(self) -> dict[str, Any]:
        """Return numbers and lists that JSON can hold."""
        return {
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            "below": self.below,
            "above": self.above,
            "not_a_number": self.not_a_number,
        }

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_json` gave."""
        return cls(
            np.array(kept["edges"], dtype=np.float64),
            np.array(kept["counts"], dtype=np.int64),
            int(kept["below"]),
            int(kept["above"]),
            int(kept["not_a_number"]),
        )


class _InputDistributionInfo(NamedTuple):
    name: str
    inputs: NDArray[np.float64]  # (801,) over the axis
    outputs: NDArray[np.float64]  # (801,)
    limits: tuple[float, float]
    # Name of each distribution -> its edges and densities; densities include what lies outside.
    densities: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    outside: dict[str, float]  # share of each beyond the axis or NaN


def plot_input_distribution(
    expression: str | Expression,
    distributions: Mapping[str, InputHistogram],
) -> go.Figure:
    """Plot a function, and below it how its inputs are spread, for example before and after.

    The axis spans all but a thousandth of the inputs at either end. Areas are densities: each is 1
    in all, with what lies outside the axis, whose share the legend tells where it is not small.

    Args:
        expression: The function.
        distributions: A name, such as "at initialization" and "after training", and a histogram
            for each; those that `lightning_modules.callbacks.ActivationInputs` records, for one
            activation or joined for all.

    Returns:
        The figure; one with a message if no input is finite.

    Raises:
        ExpressionError: If a text does not name a function.
    """
    info = _get_input_distribution_info(expression, distributions)
    if info is None:
        return empty_figure(_TITLE, "There are no inputs.")
    figure = new_figure(_TITLE, height=460, right=64)
    style_axes(figure, x="input of the function", y=f"{info.name}, output")
    for place, (name, (edges, density)) in enumerate(info.densities.items()):
        colour = (BLUE, ORANGE)[place % 2]
        share = info.outside[name]
        figure.add_scatter(
            x=np.repeat(edges, 2),
            y=np.concatenate([[0.0], np.repeat(density, 2), [0.0]]),
            yaxis="y2",
            mode="lines",
            line={"color": colour, "width": 1.2, "dash": ("solid", "dash")[place % 2]},
            fill="tozeroy",
            fillcolor=_FILLS[colour],
            name=escaped(name) + (f" ({share:.1%} outside)" if share >= 0.0005 else ""),
            hovertemplate="density %{y:.3g} at %{x:.2f}<extra>" + escaped(name) + "</extra>",
        )
    figure.add_scatter(
        x=info.inputs,
        y=info.outputs,
        mode="lines",
        line={"color": VERMILION, "width": 2.5},
        name=escaped(info.name),
        hovertemplate="f(%{x:.2f}) = %{y:.3f}<extra></extra>",
        connectgaps=False,
    )
    figure.update_yaxes(range=list(info.limits))
    figure.update_xaxes(range=[float(info.inputs[0]), float(info.inputs[-1])])
    highest = max(float(density.max()) for _, density in info.densities.values())
    figure.update_layout(
        yaxis2={
            "overlaying": "y",
            "side": "right",
            "title": "density of the inputs",
            # The areas keep to the lower half, under the curve's own axis.
            "range": [0.0, 2.0 * highest],
            "showgrid": False,
            "tickmode": "auto",
            "linecolor": GREY,
        }
    )
    return figure


def _get_input_distribution_info(
    expression: str | Expression, distributions: Mapping[str, InputHistogram]
) -> _InputDistributionInfo | None:
    parsed = as_expression(expression)
    known = {name: one for name, one in distributions.items() if one.counts.any()}
    if not known:
        return None
    spans = [_span(one) for one in known.values()]
    low, high = min(span[0] for span in spans), max(span[1] for span in spans)
    inputs = np.linspace(low, high, _N_POINTS)
    outputs = outputs_of(parsed, inputs)
    limits = panel_limits(outputs, np.zeros(1))
    room = limits[1] - limits[0]
    inside = (outputs > limits[0] - room) & (outputs < limits[1] + room)
    densities, outside = {}, {}
    for name, one in known.items():
        shown = (one.edges[:-1] >= low) & (one.edges[1:] <= high)
        first, last = np.flatnonzero(shown)[[0, -1]]
        edges = one.edges[first : last + 2]
        densities[name] = (edges, one.counts[first : last + 1] / (one.total * np.diff(edges)))
        outside[name] = 1.0 - float(one.counts[shown].sum()) / one.total
    return _InputDistributionInfo(
        str(parsed), inputs, np.where(inside, outputs, np.nan), limits, densities, outside
    )


def _span(histogram: InputHistogram) -> tuple[float, float]:
    """Return the edges between which all inputs lie but a thousandth at either end."""
    counts = np.concatenate([[histogram.below], histogram.counts, [histogram.above]])
    share = np.cumsum(counts) / counts.sum()
    first = int(np.searchsorted(share, _TAIL, side="right"))
    last = int(np.searchsorted(share, 1.0 - _TAIL, side="left"))
    n = len(histogram.counts)
    left, right = (int(np.clip(place - 1, 0, n - 1)) for place in (first, last))
    return float(histogram.edges[left]), float(histogram.edges[right + 1])
