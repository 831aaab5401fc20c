"""What approximations of the Fisher feature do to the distances between functions, and its time.

Run with ``python -m benchmarks.fisher_approximations [--network digits] [--functions 200]``. Each
of the functions, drawn from the three-node space, is measured exactly and with each approximation,
in one process, one thread. For all pairs of functions, the Manhattan distances of the feature
vectors (Equation 2) are compared with the exact ones by Spearman's rank correlation; the seconds
are means a function. Results are kept as they come in ``benchmarks/results``, and a run goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from torch import Tensor, nn

from aquasurf_optuna import Activation, ActivationFactory, Catalogue, Expression, SearchSpace
from aquasurf_optuna.exceptions import InitializationError, InvalidSpectrumError
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from aquasurf_optuna.features.spectra import quantile_vector
from lightning_modules.autoinit import autoinit_
from lightning_modules.digits_recipe import DIGITS_RECIPE, build_digits_model
from lightning_modules.models import AllCnnC

RESULTS = Path(__file__).parent / "results"
VARIANTS: dict[str, dict[str, Any]] = {
    "exact": {"max_uses": None},
    "max_uses=1024": {"max_uses": 1024},
    "max_uses=2048": {"max_uses": 2048},
    "max_uses=4096": {"max_uses": 4096},
    "max_uses=8192": {"max_uses": 8192},
    "sharing='reduce'": {"sharing": "reduce"},
    "other labels": {"seed": 1, "max_uses": None},
}
"""What is compared; "other labels" is how much the sampled labels alone change the distances."""


class Task(NamedTuple):
    """A network around a function, and a batch."""

    build: Callable[[ActivationFactory], nn.Module]
    inputs: Tensor


def digits() -> Task:
    """Return the quickstart's network and batch."""
    images = DIGITS_RECIPE.data(seed=0).training_images(epoch=0).images[:128]
    return Task(build_digits_model, images)


def cifar_sized() -> Task:
    """Return All-CNN-C at half its width with digits of CIFAR's size."""
    small = digits().inputs[:32]
    inputs = nn.functional.interpolate(small, 32, mode="bicubic").expand(-1, 3, -1, -1)

    def build(factory: ActivationFactory) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return autoinit_(AllCnnC(factory, width=0.5, dropout=0.0), inputs.shape[1:])

    return Task(build, inputs.contiguous())


TASKS = {"digits": digits, "cifar-sized": cifar_sized}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=list(TASKS), default="digits")
    parser.add_argument("--functions", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / f"fisher_approximations_{options.network}.npz"
    report(measured(options.network, options.functions, path), options.functions)


def measured(network: str, functions: int, path: Path) -> dict[str, NDArray[Any]]:
    """Measure what is missing: per variant ``vectors`` (n, features) and ``seconds`` (n,)."""
    known = dict(np.load(path)) if path.exists() else {}
    known.setdefault("functions", np.empty(0, dtype="U100"))
    task = TASKS[network]()
    for expression in drawn():
        if len(known["functions"]) >= functions:
            break
        if str(expression) in known["functions"]:
            continue
        row = measure(task, expression)
        if row is not None:
            append(known, str(expression), row)
            path.parent.mkdir(exist_ok=True)
            np.savez_compressed(path, **known)
    return known


def drawn() -> Iterator[Expression]:
    catalogue = Catalogue.of(SearchSpace.three_node())
    for class_id in catalogue.shuffled(0):
        yield catalogue[class_id]


def measure(task: Task, expression: Expression) -> dict[str, tuple[NDArray[Any], float]] | None:
    """Measure one function in every way, or return None if it is invalid."""
    try:
        model = task.build(Activation.factory(expression))
        return {name: timed(model, task.inputs, options) for name, options in VARIANTS.items()}
    except (InitializationError, InvalidSpectrumError):
        return None


def timed(
    model: nn.Module, inputs: Tensor, options: dict[str, Any]
) -> tuple[NDArray[np.float32], float]:
    start = time.perf_counter()
    vector = quantile_vector(fisher_log_eigenvalues(model, inputs, **options))
    return vector.astype(np.float32), time.perf_counter() - start


def append(
    known: dict[str, NDArray[Any]], text: str, row: dict[str, tuple[NDArray[Any], float]]
) -> None:
    known["functions"] = np.append(known["functions"], text)
    for name, (vector, seconds) in row.items():
        for key, value in ((f"{name}: vectors", vector), (f"{name}: seconds", seconds)):
            new = np.asarray(value)[None]
            known[key] = np.concatenate([known[key], new]) if key in known else new


def report(known: dict[str, NDArray[Any]], functions: int) -> None:
    exact = pdist(known["exact: vectors"][:functions], "cityblock")
    print(f"{functions} functions, {len(exact):,} pairs\n")
    print("| feature | rank correlation of distances | seconds a function |\n|---|---|---|")
    for name in VARIANTS:
        distances = pdist(known[f"{name}: vectors"][:functions], "cityblock")
        correlation = spearmanr(exact, distances)[0]
        seconds = known[f"{name}: seconds"][:functions].mean()
        print(f"| `{name}` | {correlation:.5f} | {seconds:.3f} |")


if __name__ == "__main__":
    main()
