"""Features computed ahead while workers are killed: nothing lost, nothing computed twice.

Two worker processes measure functions of the digits task for one SQLite store. At random moments
one of them gets SIGKILL, and another is started in its place. Each process writes what it begins
and what it has stored to a log of its own. At the end the logs and the store are compared: every
function has a row, none was stored twice, and what was begun twice is what a killed process had in
its hands, one function at most.

    python -m benchmarks.precompute_kill --n 2000 --kills 5
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from aquasurf_optuna import Catalogue, FeatureStore, FisherFeature, FisherFeaturizer, SearchSpace
from aquasurf_optuna.features._worker import Job, work_off
from lightning_modules.digits_recipe import DIGITS_RECIPE, build_digits_model

WORKERS = 2
BEGUN, STORED = "begun", "stored"


class Log:
    """What one process began and stored, each line written at once.

    Args:
        folder: Where the logs are; the file is named after the process.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.log"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, what: str, text: str) -> None:
        """Add a line; a killed process leaves whole lines only."""
        os.write(self._file, f"{what} {text}\n".encode())


class LoggedStore(FeatureStore):
    """A store that notes what it has kept.

    Args:
        url: As for `FeatureStore`.
        log: The process's log.
    """

    def __init__(self, url: str, log: Log) -> None:
        super().__init__(url)
        self._log = log

    def put(self, task, expression, feature, **details) -> bool:  # type: ignore[no-untyped-def]
        """Keep a feature, then note it."""
        kept = super().put(task, expression, feature, **details)
        if kept:
            self._log.write(STORED, str(expression))
        return kept


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What logs and store say.

    Attributes:
        functions: How many were asked for.
        rows: How many the store has.
        twice: Functions that were stored twice.
        again: Measurements begun again.
        in_hand: Functions that killed processes had begun and not stored.
        untold: Functions in the store that no log says were stored; a process killed between the
            two may leave one.
        claims: Claims left open.
        kills: Processes killed.
    """

    functions: int
    rows: int
    twice: tuple[str, ...]
    again: int
    in_hand: int
    untold: int
    claims: int
    kills: int

    @property
    def good(self) -> bool:
        """Whether nothing was lost and nothing done twice."""
        return (
            self.rows == self.functions
            and not self.twice
            and self.again <= self.in_hand <= self.kills
            and self.untold <= self.in_hand
            and self.claims == 0
        )


def work(url: str, featurizer: FisherFeaturizer, job: Job, folder: Path) -> None:
    """Be one worker process."""
    torch.set_num_threads(1)
    log = Log(folder)

    def measure(text: str) -> FisherFeature:
        log.write(BEGUN, text)
        return featurizer(text)

    work_off(LoggedStore(url, log), measure, job)


class Team:
    """Worker processes, of which some are killed.

    Args:
        start: Starts one.
    """

    def __init__(self, start: Callable[[], BaseProcess]) -> None:
        self._start = start
        self._live = [start() for _ in range(WORKERS)]
        self.killed: list[int] = []

    def kill_one(self, rng: random.Random, folder: Path) -> int:
        """Kill one that has begun to measure, start another, and return the number of the one."""
        while not (busy := [p for p in self._live if list(folder.glob(f"{p.pid}-*.log"))]):
            time.sleep(0.01)
        victim = rng.choice(busy)
        assert victim.pid is not None  # it was started
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        if victim.exitcode != -signal.SIGKILL:
            raise RuntimeError(f"worker {victim.pid} ended with {victim.exitcode} by itself")
        self._live[self._live.index(victim)] = self._start()
        self.killed.append(victim.pid)
        return victim.pid

    def join(self) -> None:
        """Wait for all."""
        for process in self._live:
            process.join()
            if process.exitcode != 0:
                raise RuntimeError(f"worker {process.pid} ended with {process.exitcode}")


def run_and_kill(
    featurizer: FisherFeaturizer,
    texts: Sequence[str],
    folder: Path,
    *,
    kills: int,
    seed: int,
    tell: Callable[[str], object] = print,
) -> Verdict:
    """Measure functions by two processes, kill some of them, and judge what came of it.

    Args:
        featurizer: Picklable.
        texts: The functions; more than `kills`.
        folder: Empty; the store and the logs go there.
        kills: How many processes to kill, at random numbers of features stored.
        seed: Decides when, and which.
        tell: Called with a line at each kill.
    """
    store = FeatureStore(f"sqlite:///{folder / 'features.db'}")
    url, rng = store.url, random.Random(seed)
    job = Job(featurizer.task, tuple(texts), lease=30.0, tag=secrets.token_hex(4))
    # What starts the processes has loaded torch, but never used it: a replacement is there at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_modules.digits_recipe"])

    def start() -> BaseProcess:
        process = context.Process(target=work, args=(url, featurizer, job, folder))
        process.start()
        return process

    store.tasks()  # opened once, ahead of the crowd
    team = Team(start)
    for number in sorted(rng.sample(range(len(texts) * 9 // 10), kills)):
        while (done := store.count(job.task)) < number:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.2))
        tell(f"  {done:>5} features stored: killed process {team.kill_one(rng, folder)}")
    team.join()
    return judge(store, job, folder, team.killed)


def judge(store: FeatureStore, job: Job, folder: Path, killed: Sequence[int]) -> Verdict:
    """Compare the logs with the store."""
    begun: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    in_hand = 0
    for path in folder.glob("*.log"):
        lines = [line.split(" ", maxsplit=1) for line in path.read_text().splitlines()]
        own = {kind: Counter(text for k, text in lines if k == kind) for kind in (BEGUN, STORED)}
        begun += own[BEGUN]
        stored += own[STORED]
        if int(path.name.partition("-")[0]) in killed:
            in_hand += (own[BEGUN] - own[STORED]).total()
    rows = store.known(job.task, job.texts)
    return Verdict(
        functions=len(job.texts),
        rows=len(rows),
        twice=tuple(text for text, number in stored.items() if number > 1),
        again=begun.total() - len(begun),
        in_hand=in_hand,
        untold=len(rows.keys() - stored.keys()),
        claims=len(store.claims(job.task)),
        kills=len(killed),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--n", type=int, default=2000, help="functions")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    catalogue = Catalogue.of(SearchSpace.three_node())
    texts = [str(catalogue[number]) for number in catalogue.shuffled(options.seed)[: options.n]]
    images = DIGITS_RECIPE.data(seed=0).training_images(epoch=0).images[:128]
    featurizer = FisherFeaturizer(build_digits_model, images)
    started = time.perf_counter()
    print(f"{len(texts)} functions, {WORKERS} processes, {options.kills} kills", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        verdict = run_and_kill(
            featurizer, texts, Path(folder), kills=options.kills, seed=options.seed
        )
    print(f"rows in the store:             {verdict.rows} of {verdict.functions}")
    print(f"functions stored twice:        {len(verdict.twice)}")
    print(f"in hand of killed processes:   {verdict.in_hand}")
    print(f"measurements begun again:      {verdict.again}")
    print(f"claims left open:              {verdict.claims}")
    print(f"time:                          {time.perf_counter() - started:.0f} s")
    print("nothing lost, nothing computed twice" if verdict.good else "FAILED")
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
