"""One study with 1 to 512 workers, simulated on a table: what is found, and how long workers wait.

Training times are drawn (log-normal, median ten minutes); one proposer serves all workers
(`benchmarks/event_engine.py`). The surrogate is the real one, by its default settings. It begins
with the eight baselines, goes on at random until a result is there, and learns from what had
finished when it began. Compared are these ways to propose:

==========================  ====================================================================
one by one                  one proposal when a worker asks; the surrogate is told of what is
                            proposed and not finished (``fit(..., running=...)``)
one by one, blind           it is not told; what is running is not proposed again, though
batches                     an eighth as many as there are workers at once, kept ready ahead of
                            them, and chosen an eighth at a time: the surrogate is told of what is
                            running and of the batch so far
batches, blind              the best of one fit
random                      any function that is not taken
==========================  ====================================================================

Each fit takes `--seconds` of simulated time: one second by default, the most that a proposal may
take with 7,000 candidates of All-CNN-C's feature length; random choices take none. Which proposals
come out hardly depends on it; how long workers wait does, so the second table has other costs too.

Two tables: the digits (real accuracies, outputs and Fisher features) for up to 64 workers; and,
since 512 would try half of them at once, a made one of 5,000 functions of the four-node space. They
are known by their outputs alone, and their values are what the mean of the three functions with
the most similar outputs says in the digits table: the lie of the land is real, the heights are not.

    python -m benchmarks.workers_simulation [--workers 1 8 64 512] [--seeds 5] [--kept runs.jsonl]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsRegressor

from aquasurf_optuna import SearchSpace
from aquasurf_optuna.features.outputs import output_features
from aquasurf_optuna.surrogate import make_surrogate
from benchmarks.event_engine import Team, Trial, simulate
from benchmarks.tables import Table, default_store, digits_table
from benchmarks.trainings import RESULTS

MEDIAN_SECONDS = 600.0
SIGMA = 0.5
"""Of the logarithm of a training time: one in six takes longer than 1.65 times the median."""
N_TRIALS = {1: 128, 8: 128, 64: 256, 512: 1024}
FINISHED = (25, 50, 100, 200, 500, 1000)
HOURS = (0.5, 1, 2, 4)
SHARE = 0.8
"""How much of a table is candidates for one seed: so seeds differ with one worker, too. Regret is
what lacks to the best of them."""
N_MADE = 5000
N_NUMBERS = 64
BOUND = 20.0
WAYS = ("one by one", "one by one, blind", "batches", "batches, blind", "random")
MADE = "made"


class World(NamedTuple):
    """Candidates, one a row.

    Attributes:
        name: Of the table.
        outputs: `(n, p)`.
        fisher: `(n, m)`, or None.
        values: `(n,)`, what a training would give.
        baselines: Rows to try first.
    """

    name: str
    outputs: NDArray[np.float64]
    fisher: NDArray[np.float32] | None
    values: NDArray[np.float64]
    baselines: list[int]


class Run(NamedTuple):
    """One simulated study.

    Attributes:
        table: Name of the world.
        workers: How many.
        way: How proposals were made.
        seed: Of the training times and random choices.
        seconds: Simulated, for one fit.
        finished: When each trial finished, in order, hours.
        regret: What the best value known then lacks to the best candidate.
        idle: Share of the workers' time until the last proposal in which they waited for one.
        longest: Longest wait, simulated seconds.
    """

    table: str
    workers: int
    way: str
    seed: int
    seconds: float
    finished: list[float]
    regret: list[float]
    idle: float
    longest: float


def world_of_digits(table: Table) -> World:
    """Return the functions with a valid spectrum."""
    rows = table.candidates
    baselines = [int(place) for place in np.searchsorted(rows, table.baselines)]
    return World(table.name, table.outputs[rows], table.fisher[rows], table.scores[rows], baselines)


def made_world(table: Table) -> World:
    """Return functions of the four-node space with values from the three-node ones like them."""
    space = SearchSpace.four_node()
    drawn = np.random.default_rng(0).choice(len(space), 3 * N_MADE, replace=False)
    outputs = output_features([space[int(index)] for index in drawn])
    finite = outputs[np.isfinite(outputs).all(axis=1)]
    cut = np.clip(finite[np.ptp(finite, axis=1) > 0], -BOUND, BOUND)
    _, distinct = np.unique(cut.round(6), axis=0, return_index=True)
    known = np.clip(np.nan_to_num(table.outputs, nan=BOUND), -BOUND, BOUND)
    baselines = known[table.baselines]
    chosen = np.vstack([baselines, cut[np.sort(distinct)[: N_MADE - len(baselines)]]])
    like = KNeighborsRegressor(3, weights="distance").fit(
        known[table.candidates], table.scores[table.candidates]
    )
    numbers = PCA(N_NUMBERS, random_state=0).fit_transform(chosen)
    return World(MADE, numbers, None, like.predict(chosen), list(range(len(baselines))))


class Proposer:
    """Proposes rows of a world in one of the ways.

    Attributes:
        rows: What was proposed, by the trials' numbers.
        n_fits: How often the surrogate was fitted.
        best: Best value among the candidates.
    """

    def __init__(self, world: World, way: str, seed: int, seconds: float) -> None:
        self.rows: list[int] = []
        self.n_fits = 0
        self._world = world
        self._way = way
        self._seconds = seconds
        order = np.random.default_rng([seed, 1]).permutation(len(world.values))
        self._order = [int(row) for row in order[: round(SHARE * len(order))]]
        self.best = float(world.values[[*self._order, *world.baselines]].max())
        features = "outputs" if world.fisher is None else "both"
        self._surrogate = make_surrogate(None, features=features, random_state=seed)
        self._surrogate.embed(world.outputs, world.fisher)

    def __call__(self, n: int, finished: Sequence[int], unfinished: Sequence[int]) -> float:
        """Propose `n` rows; return the simulated seconds that it takes."""
        n_fits = self.n_fits
        group = group_of(self._way, n)
        known = [self.rows[number] for number in finished]
        running = [self.rows[number] for number in unfinished]
        wanted = len(self.rows) + n
        while len(self.rows) < wanted:
            if len(self.rows) < len(self._world.baselines):
                new = [self._world.baselines[len(self.rows)]]
            elif self._way == "random" or not known:
                taken = set(self.rows)
                new = [next(row for row in self._order if row not in taken)]
            else:
                blind = self._way.endswith("blind")
                new = self._best(known, () if blind else running)[:group]
                new = new[: wanted - len(self.rows)]
            self.rows += new
            running += new
        return self._seconds * (self.n_fits - n_fits)

    def _best(self, known: list[int], running: Sequence[int]) -> list[int]:
        self._surrogate.fit(known, self._world.values[known], running=running)
        free = np.setdiff1d(self._order, self.rows)
        order = np.argsort(-self._surrogate.acquire(free), kind="stable")
        self.n_fits += 1
        return [int(row) for row in free[order]]


def group_of(way: str, n: int) -> int:
    """Return how many of a batch of `n` are chosen from one fit."""
    if way.endswith("blind"):
        return n
    return max(n // 8, 1)


def team_of(way: str, workers: int) -> Team:
    """Return how the proposer serves its workers."""
    batch = max(workers // 8, 1)
    return Team(workers, batch, ahead=batch) if way.startswith("batches") else Team(workers)


def training_seconds(n: int, seed: int) -> NDArray[np.float64]:
    """Draw training times."""
    return MEDIAN_SECONDS * np.random.default_rng([seed, 2]).lognormal(0.0, SIGMA, n)


def run(world: World, workers: int, way: str, seed: int, seconds: float) -> Run:
    """Simulate one study."""
    torch.set_num_threads(1)
    proposer = Proposer(world, way, seed, seconds)
    trials = simulate(
        team_of(way, workers), list(training_seconds(N_TRIALS[workers], seed)), proposer
    )
    found = world.values[[proposer.rows[trial.number] for trial in trials]]
    regret = proposer.best - np.maximum.accumulate(found)
    return Run(
        world.name,
        workers,
        way,
        seed,
        seconds,
        [round(trial.finished / 3600, 4) for trial in trials],
        [round(float(value), 5) for value in regret],
        idle_share(trials, workers),
        max(trial.begun - trial.asked for trial in trials),
    )


def idle_share(trials: Sequence[Trial], workers: int) -> float:
    """Return the share of the workers' time until the last proposal in which they waited."""
    end = max(trial.begun for trial in trials)
    return sum(trial.begun - trial.asked for trial in trials) / (workers * end) if end else 0.0


def quality_table(runs: Sequence[Run]) -> str:
    """Return what was found, as Markdown: mean and standard error over seeds."""
    lines = [
        "| workers | proposals | "
        + " | ".join(f"after {n}" for n in FINISHED)
        + " | "
        + " | ".join(f"after {hours} h" for hours in HOURS)
        + " | idle | longest wait, s |",
        "|---" * (4 + len(FINISHED) + len(HOURS)) + "|",
    ]
    for workers in sorted({run.workers for run in runs}):
        for way in WAYS:
            own = [run for run in runs if (run.workers, run.way) == (workers, way)]
            if own:
                lines.append(f"| {workers} | {way} | " + " | ".join(_cells(own)) + " |")
    return "\n".join(lines)


def _cells(runs: Sequence[Run]) -> list[str]:
    n_trials = len(runs[0].regret)
    after = [_mean([run.regret[n - 1] for run in runs]) if n <= n_trials else "" for n in FINISHED]
    by_then = [_mean([_regret_at(run, hours) for run in runs]) for hours in HOURS]
    idle = f"{np.mean([run.idle for run in runs]):.1%}"
    longest = f"{np.mean([run.longest for run in runs]):.0f}"
    return [*after, *by_then, idle, longest]


def _regret_at(run: Run, hours: float) -> float:
    """Return the regret at a time; NaN before the first result and after the last proposal."""
    done = int(np.searchsorted(run.finished, hours, side="right"))
    return run.regret[done - 1] if 0 < done < len(run.finished) else np.nan


def _mean(values: Sequence[float]) -> str:
    known = np.array(values)
    if np.isnan(known).any():
        return ""
    error = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else 0.0
    return f"{known.mean():.3f} ± {error:.3f}"


def idle_table(costs: Sequence[float], seeds: int, waves: int = 8) -> str:
    """Return how long workers wait for what each fit takes, as Markdown.

    What is proposed does not matter for it, so nothing is: each worker trains `waves` times.
    """
    lines = [
        "| workers | proposals | " + " | ".join(f"{cost:g} s a fit" for cost in costs) + " |",
        "|---|---|" + "---|" * len(costs),
    ]
    for workers in N_TRIALS:
        for way in WAYS[:4:2] if workers < 8 else (*WAYS[:4:2], WAYS[3]):
            shares = [_mean_idle(way, workers, cost, seeds, waves) for cost in costs]
            cells = " | ".join(f"{share:.1%}" for share in shares)
            lines.append(f"| {workers} | {way} | {cells} |")
    return "\n".join(lines)


def _mean_idle(way: str, workers: int, cost: float, seeds: int, waves: int) -> float:
    def propose(n: int, *_: object) -> float:
        return cost * -(-n // group_of(way, n))

    shares = []
    for seed in range(seeds):
        times = list(training_seconds(waves * workers, seed))
        shares.append(idle_share(simulate(team_of(way, workers), times, propose), workers))
    return float(np.mean(shares))


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--workers", nargs="+", type=int, default=list(N_TRIALS), choices=N_TRIALS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="simulated, for one fit")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=None, help="file of earlier runs")
    parser.add_argument("--store", default=default_store(), help="URL of the store of features")
    options = parser.parse_args()
    kept = _read(options.kept)
    table = digits_table(options.store)
    worlds = [(world_of_digits(table), (1, 8, 64)), (made_world(table), (64, 512))]
    done = {(run.table, run.workers, run.way, run.seed, run.seconds) for run in kept}
    wanted = [
        (world, workers, way, seed, options.seconds)
        for seed in range(options.seeds)
        for world, sizes in worlds
        for workers in sizes
        for way in options.ways
        if workers in options.workers
        and (world.name, workers, way, seed, options.seconds) not in done
    ]
    made = joblib.Parallel(n_jobs=options.jobs, verbose=5, return_as="generator_unordered")(
        joblib.delayed(run)(*job) for job in wanted
    )
    for one in made:
        kept.append(one)
        if options.kept is not None:
            with options.kept.open("a") as file:
                file.write(json.dumps(one._asdict()) + "\n")
    text = report([run for run in kept if run.seconds == options.seconds], worlds, options.seeds)
    (RESULTS / "workers_simulation.md").write_text(text)
    print(text)


def _read(path: Path | None) -> list[Run]:
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    return [Run(**json.loads(line)) for line in lines]


def report(runs: Sequence[Run], worlds: Sequence[tuple[World, Sequence[int]]], seeds: int) -> str:
    """Return everything as Markdown."""
    texts = []
    for world, _ in worlds:
        own = [run for run in runs if run.table == world.name]
        if own:
            texts.append(
                f"## What is found: {world.name}, {len(world.values)} functions, best "
                f"{world.values.max():.3f}, best baseline "
                f"{world.values[world.baselines].max():.3f}\n\n"
                "Regret after so many finished trials and after so much simulated time "
                f"(mean ± standard error of {len({run.seed for run in own})} seeds); share of the "
                "workers' time in which they wait, and the longest wait.\n"
            )
            texts.append(quality_table(own) + "\n")
    texts.append(
        f"## How long workers wait\n\nShare of their time, trainings of {MEDIAN_SECONDS:g} s "
        "(median), eight for each worker, from a standing start.\n"
    )
    texts.append(idle_table((0.01, 0.1, 1.0, 10.0), seeds) + "\n")
    return "\n".join(texts)


if __name__ == "__main__":
    main()
