"""Figure 5: the Fisher eigenvalues of functions and of their negatives, in each table's network.

A table that this project built says how its network was trained; the network is built again from
that, and measured; and a few times more with other weights and labels, which says how far apart
spectra are by chance. Of a table that does not say it, the quantile vectors are shown, in which
every layer counts alike; and one that has neither is left out.

    python -m benchmarks.paper.figure5 [--tables NAME_OR_FILE ...] [--output FOLDER]
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from aquasurf_optuna import Activation, Expression, FisherFeaturizer, fisher_log_eigenvalues
from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.exceptions import BenchmarkError, InitializationError, InvalidSpectrumError
from aquasurf_optuna.features.spectra import DEFAULT_QUANTILES, fisher_distance, quantile_vector
from benchmarks.paper import _common as common
from lightning_modules.features import featurizer_of

Floats = NDArray[np.float64]
Layers = Mapping[str, Floats]
"""Name of a layer -> its log eigenvalues."""

BINS = 60
MORE_SEEDS = 4
NEGATIVES = {text: f"negative({text})" for text in common.NEGATED}
_INPUTS = np.linspace(-5.0, 5.0, 201)


class Spectrum(NamedTuple):
    """The log eigenvalues of one function.

    Attributes:
        layers: Name of a layer -> ``(weights,)``; empty if the spectrum is invalid.
        accuracy: The function's validation accuracy; NaN if it was not measured.
    """

    layers: Layers
    accuracy: float

    @property
    def whole(self) -> Floats:
        """The eigenvalues of all layers, sorted."""
        return np.sort(np.concatenate([np.empty(0), *self.layers.values()]))


class Spectra(NamedTuple):
    """Spectra of functions and their negatives in one table.

    Attributes:
        table: Its name.
        source: `"network"` or `"quantiles"`: where they come from.
        own: Text of a function -> its spectrum.
        negative: Text of a function -> the spectrum of its negative.
        redrawn: The layers of each function and negative, by text, from other weights and labels;
            empty where the spectra are the table's own.
        deviation: By how much the spectra differ from the table's own vectors, as a share of them
            (sums of absolute values); NaN where the table has no quantiles.
    """

    table: str
    source: str
    own: dict[str, Spectrum]
    negative: dict[str, Spectrum]
    redrawn: list[dict[str, Layers]]
    deviation: float


class Facts(NamedTuple):
    """How alike a function and its negative are, by Equation 2.

    Attributes:
        negatives: Text of a function -> distance to its negative, the median over the seeds; NaN
            if one of them is invalid each time.
        itself: Text of a function -> distance to itself with other weights and labels, the median;
            NaN where there are none.
        others: Median distance between two different functions of those shown, negatives left out.
    """

    negatives: dict[str, float]
    itself: dict[str, float]
    others: float


def spectra_of(bench: ActBench) -> Spectra:
    """Return the spectra of the functions that are shown and of their negatives.

    Raises:
        BenchmarkError: If the table has neither a network nor quantiles, or lacks a function.
    """
    texts = [*NEGATIVES, *NEGATIVES.values()]
    rows = [bench.row(text) for text in texts]
    config = _config(bench)
    redrawn: list[dict[str, Layers]] = []
    if config is not None:
        source = "network"
        layers, *more = _measured(config, bench, rows)
        redrawn = [dict(zip(texts, each, strict=True)) for each in more]
    elif bench.representation == "quantiles":
        source, layers = "quantiles", [_from_quantiles(bench, row) for row in rows]
    else:
        raise BenchmarkError(
            f"{bench.name} neither says what its network is nor has quantiles of spectra; leave "
            "it out of --tables"
        )
    accuracies = bench.measured["validation_accuracy"][rows]
    found = [Spectrum(own, float(a)) for own, a in zip(layers, accuracies, strict=True)]
    n = len(NEGATIVES)
    return Spectra(
        bench.name,
        source,
        dict(zip(NEGATIVES, found[:n], strict=True)),
        dict(zip(NEGATIVES, found[n:], strict=True)),
        redrawn,
        _deviation(bench, rows, layers),
    )


def facts_of(spectra: Spectra) -> Facts:
    """Measure how alike functions and their negatives are."""
    own = {text: each.layers for text, each in spectra.own.items()}
    first = own | {NEGATIVES[text]: each.layers for text, each in spectra.negative.items()}
    drawn = [first, *spectra.redrawn]
    several = list(own.values())
    return Facts(
        {text: _median([_distance(e[text], e[NEGATIVES[text]]) for e in drawn]) for text in own},
        {text: _median([_distance(own[text], e[text]) for e in spectra.redrawn]) for text in own},
        _median([_distance(a, b) for i, a in enumerate(several) for b in several[:i]]),
    )


def _median(distances: Sequence[float]) -> float:
    finite = [distance for distance in distances if math.isfinite(distance)]
    return float(np.median(finite)) if finite else math.nan


def _distance(a: Layers, b: Layers) -> float:
    return fisher_distance(a, b) if a and b else math.nan


def _config(bench: ActBench) -> str | None:
    training = bench.about.get("training", {})
    config = training.get("config") if isinstance(training, Mapping) else None
    return config if isinstance(config, str) else None


def _measured(config: str, bench: ActBench, rows: Sequence[int]) -> list[list[Layers]]:
    """Return the layers of each row, from the table's seed and from others."""
    first = int(bench.about.get("features", {}).get("seed", 0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(config)
        featurizers = [featurizer_of(path, seed=first + more) for more in range(1 + MORE_SEEDS)]
    # The table's own text of each, since equal functions may round differently.
    texts = [bench.functions[row] for row in rows]
    return [[layers_of(featurizer, text) for text in texts] for featurizer in featurizers]


def layers_of(featurizer: FisherFeaturizer, function: str) -> Layers:
    """Return the log eigenvalues that a featurizer's vector is made of; none if they are invalid.

    Args:
        featurizer: Knows the network and the batch.
        function: The function, as text.

    Returns:
        Name of a layer -> ``(weights,)``.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(featurizer.seed)
            model = featurizer.build_model(Activation.factory(function))
        found = fisher_log_eigenvalues(model, featurizer.inputs, seed=featurizer.seed)
    except (InitializationError, InvalidSpectrumError):
        return {}
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


def _from_quantiles(bench: ActBench, row: int) -> Layers:
    if not bench.valid[row]:
        return {}
    vector = bench.fisher[row].astype(np.float64)
    # A layer's quantiles are divided by their number, see `quantile_vector`.
    layers = vector.reshape(-1, DEFAULT_QUANTILES) * DEFAULT_QUANTILES
    return {f"layer {number}": layer for number, layer in enumerate(layers)}


def _deviation(bench: ActBench, rows: Sequence[int], layers: Sequence[Layers]) -> float:
    if bench.representation != "quantiles":
        return math.nan
    differences, sizes = 0.0, 0.0
    for row, own in zip(rows, layers, strict=True):
        if own and bench.valid[row]:
            there, made = bench.fisher[row].astype(np.float64), quantile_vector(own)
            # Of another network, and so not the table's at all.
            if made.shape != there.shape:
                return math.inf
            differences += float(np.abs(made - there).sum())
            sizes += float(np.abs(there).sum())
    return differences / sizes if sizes else math.nan


def draw(tables: Sequence[ActBench]) -> common.Drawn:
    """Draw the outputs above, and a row of spectra for each table below.

    Raises:
        BenchmarkError: If no table has spectra to show.
    """
    shown, left_out = [], []
    for bench in tables:
        if _config(bench) is None and bench.representation != "quantiles":
            left_out.append(bench.name)
        else:
            shown.append(spectra_of(bench))
    if not shown:
        raise BenchmarkError(
            f"none of the tables has a network or quantiles to show: {', '.join(left_out)}; name "
            "one that this project built with --tables"
        )
    figure = common.new_figure(4.2 * len(NEGATIVES), 2.6 * (1 + len(shown)))
    panels = figure.subplots(1 + len(shown), len(NEGATIVES), squeeze=False)
    for axes, text in zip(panels[0], NEGATIVES, strict=True):
        _draw_outputs(axes, text)
    for row, spectra in zip(panels[1:], shown, strict=True):
        for axes in row[1:]:
            axes.sharex(row[0])
        for axes, text in zip(row, NEGATIVES, strict=True):
            _draw_spectra(axes, spectra, text)
        unit = "eigenvalues" if spectra.source == "network" else "quantiles"
        row[0].set_ylabel(f"{spectra.table}\n{unit}", fontsize=9, color=common.INK)
    return common.Drawn(figure, lines(shown, left_out))


def _draw_outputs(axes: Axes, text: str) -> None:
    x = torch.from_numpy(_INPUTS)
    title = common.title_of(text)
    common.style(axes, title=f"{title} and -{title}", x="x", y="f(x)")
    axes.plot(_INPUTS, Expression.parse(text)(x), color=common.BLUE, linewidth=2.0, label=title)
    axes.plot(
        _INPUTS,
        Expression.parse(NEGATIVES[text])(x),
        color=common.VERMILION,
        linewidth=2.0,
        linestyle="--",
        label=f"-{title}",
    )
    axes.set_ylim(-5.2, 5.2)
    axes.legend(frameon=False, fontsize=8)


def _draw_spectra(axes: Axes, spectra: Spectra, text: str) -> None:
    pair = spectra.own[text], spectra.negative[text]
    shown = [*spectra.own.values(), *spectra.negative.values()]
    everything = np.concatenate([each.whole for each in shown])
    edges = np.linspace(everything.min(), everything.max(), BINS + 1)
    title = common.title_of(text)
    common.style(axes, x="log eigenvalue")
    for spectrum, sign, filled in zip(pair, ("", "-"), (True, False), strict=True):
        label = f"{sign}{title}: " + (
            f"accuracy {spectrum.accuracy:.3f}"
            if math.isfinite(spectrum.accuracy)
            else "not trained"
        )
        axes.stairs(
            np.histogram(spectrum.whole, bins=edges)[0],
            edges,
            fill=filled,
            color=common.BLUE if filled else common.VERMILION,
            alpha=0.45 if filled else 1.0,
            linewidth=1.3,
            label=label if spectrum.layers else f"{label}, spectrum invalid",
        )
    # Room for the legend above the bars.
    axes.set_ylim(top=1.35 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def lines(shown: Sequence[Spectra], left_out: Sequence[str]) -> list[str]:
    """Return what the figure shows as Markdown."""
    titles = [common.title_of(text) for text in NEGATIVES]
    found = [
        "# Figure 5: spectra of functions and of their negatives",
        "",
        "Distances are those of Equation 2, in natural logarithms, summed over the layers. The "
        "last column is the median between two different functions of these. Where the network was "
        f"built again, distances to the negative are medians over {1 + MORE_SEEDS} seeds of the "
        "weights and labels, and those to itself over the other seeds. The paper's text names ELU "
        "and its negative; the other pairs are chosen here.",
        "",
        *common.table_head(
            "table", "from", "values",
            *[f"{title} to -{title} (accuracies)" for title in titles],
            *[f"{title} to itself" for title in titles], "between functions",
        ),
    ]  # fmt: skip
    for spectra in shown:
        facts = facts_of(spectra)
        size = max(len(each.whole) for each in spectra.own.values())
        cells = [
            f"{_number(facts.negatives[text])} ({_number(spectra.own[text].accuracy, 3)}, "
            f"{_number(spectra.negative[text].accuracy, 3)})"
            for text in NEGATIVES
        ]
        cells += [_number(facts.itself[text]) for text in NEGATIVES]
        found.append(
            common.table_row(
                spectra.table, spectra.source, f"{size:,}", *cells, _number(facts.others)
            )
        )
    found += ["", *[_about_deviation(spectra) for spectra in shown]]
    found += [
        f"- {name} has neither a network nor quantiles, and is left out." for name in left_out
    ]
    return found


def _number(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _about_deviation(spectra: Spectra) -> str:
    if spectra.source == "quantiles":
        return (
            f"- {spectra.table}: the table's own quantiles, {DEFAULT_QUANTILES} slices a layer, so "
            "each layer counts alike."
        )
    text = f"- {spectra.table}: the network was built again from the table's configuration"
    if math.isnan(spectra.deviation):
        return f"{text}; the table has no quantiles to compare with."
    return f"{text}; its quantiles differ from the table's by {spectra.deviation:.2%}."


def main() -> None:
    """Draw Figure 5."""
    common.run(5, __doc__, draw)


if __name__ == "__main__":
    main()
