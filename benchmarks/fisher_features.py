"""Time and memory of one Fisher feature, against a training step's passes and curvlinops' K-FAC.

Run with ``python -m benchmarks.fisher_features [--threads 1] [--repeats 3] [--cases ...]``. Every
time is the best of the repeats, which take turns in one process, so the ratios hold on any machine.
The curvlinops column is the same work: factors, eigenvalues in float64, all sums of their
logarithms. Memory is what a process of its own needs at its peak, beyond what it needs with the
network and the batch before it starts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from aquasurf_optuna.features.spectra import quantile_vector
from lightning_modules.models import AllCnnC, CoAtNet, MobileViTV2, ResNet56

SMALL = {"width": 1 / 6, "in_channels": 1, "dropout": 0.0}


class Case(NamedTuple):
    """A network, the shape of its batch, and how often a repeat runs to last long enough."""

    build: Callable[[], nn.Module]
    shape: tuple[int, int, int, int]
    runs: int = 1


CASES = {
    "small All-CNN-C": Case(lambda: AllCnnC("relu(x)", **SMALL), (128, 1, 10, 10), runs=20),
    "All-CNN-C": Case(lambda: AllCnnC("relu(x)", dropout=0.0), (128, 3, 32, 32)),
    "ResNet-56": Case(lambda: ResNet56("relu(x)"), (128, 3, 32, 32)),
    "MobileViTv2-0.5": Case(lambda: MobileViTV2("relu(x)"), (128, 3, 160, 160)),
    "CoAtNet": Case(lambda: CoAtNet("relu(x)"), (32, 3, 160, 160)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--memory-of", choices=list(jobs_of(next(iter(CASES)))), help="internal")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # curvlinops' dependencies use torch.jit, which torch has deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    if options.memory_of:
        print(own_memory(options.cases[0], options.memory_of))
        return
    print(f"torch {torch.__version__}, {options.threads} thread(s), best of {options.repeats}")
    print(
        "| network | batch | forward + backward | feature | curvlinops | feature / passes "
        "| curvlinops / feature | memory of passes | of feature | of curvlinops "
        "| feature / passes |\n|" + "---|" * 11
    )
    for name in options.cases:
        print(row(name, options.repeats, options.threads), flush=True)


def row(name: str, repeats: int, threads: int) -> str:
    times = seconds(jobs_of(name), repeats, CASES[name].runs)
    memory = {job: memory_of(name, job, threads) for job in times}
    cells = [
        name,
        " x ".join(map(str, CASES[name].shape)),
        *(f"{value:.3f} s" for value in times.values()),
        f"{times['feature'] / times['passes']:.2f}",
        f"{times['curvlinops'] / times['feature']:.2f}",
        *(f"{value:.0f} MB" for value in memory.values()),
        f"{memory['feature'] / memory['passes']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def jobs_of(name: str, samples: int | None = None) -> dict[str, Callable[[], object]]:
    """Build a network and what is to be compared on it."""
    torch.manual_seed(0)
    case = CASES[name]
    model = case.build()
    shape = (samples or case.shape[0], *case.shape[1:])
    inputs, labels = torch.randn(shape), torch.randint(10, shape[:1])
    return {
        "passes": lambda: two_passes(model, inputs, labels),
        "feature": lambda: quantile_vector(fisher_log_eigenvalues(model, inputs)),
        "curvlinops": lambda: curvlinops_log_eigenvalues(model, inputs, labels),
    }


def seconds(jobs: dict[str, Callable[[], object]], repeats: int, runs: int) -> dict[str, float]:
    """Return the shortest times, after one run to warm up; the jobs take turns."""
    best = dict.fromkeys(jobs, float("inf"))
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            for _ in range(runs):
                job()
            if repeat > 0:
                best[name] = min(best[name], (time.perf_counter() - start) / runs)
    return best


def memory_of(case: str, job: str, threads: int) -> float:
    """Measure the peak memory of a job, in MB, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.fisher_features", "--cases", case]
    command += ["--memory-of", job, "--threads", str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def own_memory(case: str, job: str) -> float:
    """Run a job and return by how many MB it raised the memory of this process at its peak."""
    run = jobs_of(case)[job]
    # Libraries load more of themselves at their first use.
    jobs_of("small All-CNN-C", samples=2)[job]()
    before = resident("VmRSS")
    # Makes the present memory the peak, on Linux.
    Path("/proc/self/clear_refs").write_text("5")
    run()
    return (resident("VmHWM") - before) / 1024


def resident(field: str) -> int:
    """Return a figure of this process from Linux, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def two_passes(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    model.train()
    model.zero_grad()
    nn.functional.cross_entropy(model(inputs), labels).backward()


def curvlinops_log_eigenvalues(
    model: nn.Module, inputs: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    from curvlinops import KFACLinearOperator

    # With the batch's statistics, as the feature takes them.
    model.train()
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    operator = KFACLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        [parameter for layer in layers for parameter in layer.parameters()],
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
