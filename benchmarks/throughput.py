"""What the quickstart's features and 40 trials take, beside another version of the project.

    python -m benchmarks.throughput --against FOLDER [--repeats 2] [--pool 1000] [--trials 40]

FOLDER is a checkout of the other version, for example made by `git worktree add FOLDER COMMIT`. The
two take turns in processes of their own, on this environment, and each begins from nothing; what
Python imports before the work begins is not counted, what worker processes import is. The result is
printed, each repeat and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[1]


def measured_here(pool: int, trials: int, jobs: int) -> dict[str, float]:
    """Return the seconds of features and trials with the quickstart that can be imported."""
    import optuna
    import torch

    from examples import quickstart

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    catalogue = quickstart.Catalogue.of(quickstart.SPACE)
    settings = {"n_trials": trials, "jobs": jobs}
    taken = inspect.signature(quickstart.search).parameters
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        if hasattr(quickstart, "start_processes"):
            quickstart.start_processes(jobs)
        sampler = quickstart.make_sampler(catalogue, pool, jobs, folder)
        middle = time.perf_counter()
        quickstart.search(
            sampler,
            folder=folder,
            **{key: value for key, value in settings.items() if key in taken},
        )
        return {"features": middle - start, "trials": time.perf_counter() - middle}


def measured(checkout: Path, options: argparse.Namespace) -> dict[str, float]:
    """Return the same for a checkout, from a process of its own."""
    words = [str(HERE / "benchmarks" / "throughput.py"), "--here"]
    words += [f"--{name}={getattr(options, name)}" for name in ("pool", "trials", "jobs")]
    # `-P` keeps the folder of this script, and so this version, out of the way of the other one.
    done = subprocess.run(
        [sys.executable, "-P", *words],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    """Measure both in turn, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--against", type=Path, help="a checkout of another version")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--pool", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measured_here(options.pool, options.trials, options.jobs)))
        return
    if options.against is None or not (options.against / "examples" / "quickstart.py").exists():
        parser.error(f"--against must be a checkout of this project, got {options.against}")
    versions = {"the other version": options.against.resolve(), "this version": HERE}
    totals: dict[str, list[float]] = {name: [] for name in versions}
    for _ in range(options.repeats):
        for name, checkout in versions.items():
            seconds = measured(checkout, options)
            totals[name].append(sum(seconds.values()))
            parts = ", ".join(f"{part} {value:.1f} s" for part, value in seconds.items())
            print(f"{name}: {parts}, together {totals[name][-1]:.1f} s", flush=True)
    other, this = (statistics.median(totals[name]) for name in versions)
    print(f"this version takes {this / other:.2f} of the other's time")


if __name__ == "__main__":
    main()
