"""How many trials a second Optuna's shared storages bear, and what a long study costs.

    python -m benchmarks.storages [--storages sqlite journal] [--sizes 100 1000 5000]

The objective is a no-op, so that nothing counts but the proposal and the storage: a trial is asked
for, its function suggested (two or three parameters), its result told. Random choice shows what
Optuna and the storage need by themselves. One, two, four and eight processes work on a study of the
first size, from the first worker's second result to the last result of all; then one process works
on studies of every size. Long studies are filled beforehand with trials of 1,500 functions, since
the space has 2,791. The time of the processor is that of the worker alone: a server's is not in it.
PostgreSQL waits for the disk at each commit, as it does by default.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, create_trial

from benchmarks.eight_workers import throughput
from tests.aquasurf_optuna import storages
from tests.aquasurf_optuna.worker_program import CATALOGUE, NAME, SPACE, STUDY, VALUES, Job, Step
from tests.aquasurf_optuna.worker_team import Team

SAMPLERS = {"random": "random", "AQuaSurF": None}
PROCESSES = (1, 2, 4, 8)
N_FUNCTIONS = 1500


def fill(address: storages.Address, size: int) -> None:
    """Add finished trials to the shared study until it has so many."""
    with address.look() as storage:
        study = optuna.create_study(
            study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True
        )
        present = len(study.get_trials(deepcopy=False))
        rng = np.random.default_rng(present)
        functions = np.random.default_rng(0).permutation(len(CATALOGUE))[:N_FUNCTIONS]
        study.add_trials(
            finished(int(rng.choice(functions)), rng.normal(scale=0.01))
            for _ in range(present, size)
        )


def finished(class_id: int, noise: float) -> FrozenTrial:
    """Return a trial that has trained a function."""
    params = SPACE.params_of(CATALOGUE[class_id], NAME)
    nodes = SPACE.distributions(NAME)
    return create_trial(
        params=params,
        distributions={node: nodes[node] for node in params},
        value=float(VALUES[class_id]) + noise,
    )


def steps_of(address: storages.Address, sampler: str, workers: int, each: int) -> list[Step]:
    """Let some workers make some trials each, and return their logs."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            address,
            folder,
            surrogate=SAMPLERS[sampler],
            seconds=0.0,
            n_trials=each,
            together=workers,
        )
        with Team(job) as team:
            team.start(workers)
            team.join(seconds=1200)
            return team.steps()


def milliseconds(steps: Sequence[Step]) -> str:
    """Return what a trial takes one worker, and of that the processor: medians."""
    told = [step for step in steps if step.what == "told"]
    walls = [after.moment - before.moment for before, after in itertools.pairwise(told)]
    computed: dict[int, float] = {}
    for step in steps:
        computed[step.trial] = computed.get(step.trial, 0.0) + step.computed
    works = [computed[step.trial] for step in told[1:]]
    return f"{1000 * statistics.median(walls):.0f} ({1000 * statistics.median(works):.0f})"


def rows(kind: str, folder: Path, options: argparse.Namespace) -> list[str]:
    """Measure one storage: a row for each sampler."""
    with storages.fresh(kind, folder, durable=True) as address:
        cells: dict[str, list[str]] = {sampler: [] for sampler in SAMPLERS}
        fill(address, options.sizes[0])
        for sampler, found in cells.items():
            for workers in PROCESSES:
                found.append(f"{throughput(steps_of(address, sampler, workers, options.each)):.1f}")
        for size in options.sizes:
            fill(address, size)
            for sampler, found in cells.items():
                found.append(milliseconds(steps_of(address, sampler, 1, options.each)))
    return [f"| {kind} | {sampler} | {' | '.join(found)} |" for sampler, found in cells.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storages", nargs="+", default=storages.KINDS, choices=storages.KINDS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 1000, 5000])
    parser.add_argument("--each", type=int, default=20, help="trials of each process")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    heads = [
        "storage",
        "sampler",
        *(f"trials/s, {workers} processes" for workers in PROCESSES),
        *(f"ms a trial (processor), {size:,} trials" for size in options.sizes),
    ]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for kind in options.storages:
        with tempfile.TemporaryDirectory() as folder:
            try:
                print("\n".join(rows(kind, Path(folder), options)), flush=True)
            except pytest.skip.Exception as missing:
                print(f"| {kind} | {missing} |", flush=True)
    print(f"\n{os.cpu_count()} processors; load of the machine at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
