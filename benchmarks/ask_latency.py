"""Time and memory that a sampler takes to propose the next function, beside TPE, GP and random.

Candidates are functions of the four-node space. Their Fisher vectors are made up, but as long as
real ones (13,692 numbers are All-CNN-C's histograms, 288 the quantiles of a network of nine
layers), and alike where outputs are; the objective is synthetic and costs nothing. Every sampler
has a process of its own, so that its peak memory is its own, and one thread.

A proposal is ``study.ask()`` and the suggestion of the function. The table tells the first one
after the eight baselines, which reads the features (of 1,000 candidates from a store; those of more
are made up on the spot) and places the candidates; and the median and the worst of the hundred and
one that follow, in elapsed and in processor time, which differ where the machine has other work. A
storage in a database adds its own time for every sampler: each parameter is one transaction.

    python -m benchmarks.ask_latency [--cases 1000:13692 7000:13692 50000:288] [--storage URL]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from torch import nn

from aquasurf_optuna import (
    AquaSurfSampler,
    Catalogue,
    Expression,
    FeatureStore,
    FisherFeaturizer,
    SearchSpace,
)
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.features.outputs import output_features

RESULTS = Path(__file__).parent / "results"
SPACE = SearchSpace.four_node()
N_BASELINES = 8
TARGET = "max(erf(x),arcsinh(x))"
LATENT = 16
MOST_STORED = 1000
PEERS = {"TPE (Optuna)": TPESampler, "GP (Optuna)": GPSampler, "random": RandomSampler}


class Latency(NamedTuple):
    """What one process measured; a proposal is an entry of both lists.

    Attributes:
        sampler: Name of the sampler.
        candidates: How many it chose from, 0 for one that does not know candidates.
        length: Of their Fisher vectors.
        elapsed: Seconds.
        processor: Seconds of processor time.
        before: Peak memory before the sampler was made, MB.
        peak: Peak memory at the end, MB.
    """

    sampler: str
    candidates: int
    length: int
    elapsed: list[float]
    processor: list[float]
    before: float
    peak: float


class MadeUpFeaturizer(FisherFeaturizer):
    """Smooth vectors of any length, alike for functions with like outputs."""

    def __init__(self, length: int) -> None:
        super().__init__(nn.Sequential, torch.zeros(1, 1), task=f"made-up-{length}")
        rng = np.random.default_rng(0)
        steps = rng.normal(size=(LATENT, length)) / np.sqrt(length)
        self._basis = np.cumsum(steps, axis=1).astype(np.float32)

    def __call__(self, expression: str | Expression) -> FisherFeature:
        """Return a vector for a function."""
        return FisherFeature(squashed(expression)[:LATENT].astype(np.float32) @ self._basis, None)


def squashed(expression: str | Expression) -> NDArray[np.float64]:
    """Return a function's outputs, (1000,), between -1 and 1."""
    parsed = Expression.parse(expression) if isinstance(expression, str) else expression
    return np.tanh(np.nan_to_num(output_features([parsed])[0]))


def make_sampler(options: argparse.Namespace) -> BaseSampler:
    """Return the sampler that this process is for."""
    if options.sampler in PEERS:
        return PEERS[options.sampler](seed=0)
    return AquaSurfSampler(
        SPACE,
        features=MadeUpFeaturizer(options.length),
        store=options.store,
        surrogate=options.sampler,
        catalogue=Catalogue.load(options.catalogue),
        pool_size=options.candidates,
        seed=0,
    )


def measure(options: argparse.Namespace) -> Latency:
    """Run a study in this process and time its proposals."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    target = squashed(TARGET)
    before = _peak()
    sampler = make_sampler(options)
    study = optuna.create_study(direction="maximize", sampler=sampler, storage=options.storage)
    elapsed, processor = [], []
    for _ in range(options.trials):
        start, busy = time.perf_counter(), time.process_time()
        trial = study.ask()
        expression = SPACE.suggest(trial, "activation")
        elapsed.append(time.perf_counter() - start)
        processor.append(time.process_time() - busy)
        study.tell(trial, -float(np.sqrt(np.mean((squashed(expression) - target) ** 2))))
    return Latency(
        options.sampler, options.candidates, options.length, elapsed, processor, before, _peak()
    )


def _peak() -> float:
    """Return this process's peak memory so far, MB.

    What the system tells of resource usage counts, on Linux, also the memory of the process that
    started this one; the status of the process does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def in_own_process(options: argparse.Namespace, **settings: str | int) -> Latency:
    """Measure in a new process."""
    arguments = {"trials": options.trials, "storage": options.storage, **settings}
    command = [sys.executable, "-m", "benchmarks.ask_latency"]
    for name, value in arguments.items():
        if value is not None:
            command += [f"--{name}", str(value)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env={**os.environ, **threads}, stdout=subprocess.PIPE, check=True, text=True
    )
    return Latency(**json.loads(done.stdout.splitlines()[-1]))


def filled_store(catalogue: Catalogue, candidates: int, length: int, folder: str) -> str:
    """Put the features that a sampler with seed 0 will ask for into a store; return its URL."""
    url = f"sqlite:///{folder}/features_{candidates}_{length}.db"
    seed = int(np.random.default_rng(0).integers(2**31 - 1))
    drawn = catalogue.shuffled(seed)[:candidates]
    with FeatureStore(url) as store:
        MadeUpFeaturizer(length).many([catalogue[class_id] for class_id in drawn], store=store)
    return url


def row(latency: Latency) -> str:
    """Return one row of the table."""
    first, *rest = [1000 * seconds for seconds in latency.elapsed[N_BASELINES:]]
    busy = [1000 * seconds for seconds in latency.processor[N_BASELINES + 1 :]]
    candidates = f"{latency.candidates:,} of {latency.length:,}" if latency.candidates else ""
    return (
        f"| {latency.sampler} | {candidates} | {statistics.median(rest):.1f} | {max(rest):.1f} | "
        f"{statistics.median(busy):.1f} | {max(busy):.1f} | {first / 1000:.2f} | "
        f"{latency.peak:.0f} | {latency.peak - latency.before:.0f} |"
    )


HEADER = """\
| sampler | candidates, numbers each | median, ms | worst, ms | median, processor ms \
| worst, processor ms | first, s | peak memory, MB | of it the search's, MB |
|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Measure everything, or one sampler in this process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--cases", nargs="+", default=["1000:13692", "7000:13692", "50000:288"])
    parser.add_argument("--surrogates", nargs="+", default=["ensemble", "gp"])
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--trials", type=int, default=110)
    parser.add_argument("--storage", default=None, help="of the studies; in memory unless given")
    parser.add_argument("--catalogue", default=None, help="a saved one of the four-node space")
    for name in ("sampler", "store"):
        parser.add_argument(f"--{name}", default=None, help=argparse.SUPPRESS)
    for name in ("candidates", "length"):
        parser.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sampler is not None:
        print(json.dumps(measure(options)._asdict()))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure_all(options, folder)


def measure_all(options: argparse.Namespace, folder: str) -> None:
    """Measure every sampler, write the table and print it as it grows."""
    path = options.catalogue or f"{folder}/four_node.safetensors"
    if not Path(path).exists():
        Catalogue.of(SPACE).save(path)
    catalogue = Catalogue.load(path)
    lines = HEADER.splitlines()
    print(HEADER, flush=True)

    def add(latency: Latency) -> None:
        lines.append(row(latency))
        print(lines[-1], flush=True)
        (RESULTS / "ask_latency.md").write_text("\n".join(lines) + "\n")

    for name in options.peers:
        add(in_own_process(options, sampler=name))
    for case in options.cases:
        candidates, length = map(int, case.split(":"))
        settings: dict[str, str | int] = {"candidates": candidates, "length": length}
        if candidates <= MOST_STORED:
            settings["store"] = filled_store(catalogue, candidates, length, folder)
        for name in options.surrogates:
            add(in_own_process(options, sampler=name, catalogue=path, **settings))


if __name__ == "__main__":
    main()
