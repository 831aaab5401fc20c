"""Time of one Fisher feature, against one training step's two passes and curvlinops' K-FAC.

Run with ``python -m benchmarks.fisher_features [--threads 1] [--repeats 5]``. Every figure is the
best of the repeats, in one process, so the ratios hold on any machine. The curvlinops column is the
same work: factors, eigenvalues in float64, all sums of their logarithms.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from aquasurf_optuna.features.spectra import quantile_vector
from lightning_modules.models.all_cnn_c import AllCnnC


class Case(NamedTuple):
    """A network and the shape of its batch."""

    name: str
    width: float
    shape: tuple[int, int, int, int]


CASES = (
    Case("small, batch 64", 1 / 6, (64, 1, 10, 10)),
    Case("small, batch 128", 1 / 6, (128, 1, 10, 10)),
    Case("full size, batch 32", 1.0, (32, 3, 32, 32)),
    Case("full size, batch 128", 1.0, (128, 3, 32, 32)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # curvlinops' dependencies use torch.jit, which torch has deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    print(f"torch {torch.__version__}, {options.threads} thread(s), milliseconds, best of repeats")
    print("| network | forward + backward | feature | curvlinops | feature / passes "
          "| curvlinops / feature |\n|---|---|---|---|---|---|")  # fmt: skip
    for case in CASES:
        if case.name in options.cases:
            report(case, options.repeats)


def report(case: Case, repeats: int) -> None:
    torch.manual_seed(0)
    model = AllCnnC("relu(x)", width=case.width, in_channels=case.shape[1], dropout=0.0)
    inputs, labels = torch.randn(case.shape), torch.randint(10, case.shape[:1])
    passes = best(lambda: two_passes(model, inputs, labels), repeats)
    feature = best(lambda: quantile_vector(fisher_log_eigenvalues(model, inputs)), repeats)
    peer = best(lambda: curvlinops_log_eigenvalues(model, inputs, labels), repeats)
    print(
        f"| {case.name} | {passes:.1f} | {feature:.1f} | {peer:.1f} "
        f"| {feature / passes:.2f} | {peer / feature:.2f} |",
        flush=True,
    )


def best(run: Callable[[], object], repeats: int) -> float:
    """Return the shortest time in milliseconds, after one run to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def two_passes(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    model.zero_grad()
    nn.functional.cross_entropy(model(inputs), labels).backward()


def curvlinops_log_eigenvalues(
    model: nn.Module, inputs: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    from curvlinops import KFACLinearOperator

    operator = KFACLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(inputs, labels)],
        fisher_type="mc",
        kfac_approx="expand",
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    operator.compute_kronecker_factors()
    spectra = {}
    for name, omega in operator._input_covariances.items():
        pair = [omega, operator._gradient_covariances[name]]
        logs = [torch.linalg.eigvalsh(f.double()).clamp(min=1e-30).log() for f in pair]
        spectra[name] = (logs[0][:, None] + logs[1][None, :]).flatten()
    return spectra


if __name__ == "__main__":
    main()
