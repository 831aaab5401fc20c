"""Which surrogate finds good functions in the fewest trainings? Every one by name, TPE and random.

The searches run on tables of functions that were really trained (`benchmarks/tables.py`), so all
see the same accuracies: the digits by default, and with ``--tables digits mlp`` those of another
network, once ``python -m benchmarks.mlp_digits`` has trained them.

Each begins with eight functions: the eight baselines, or, as in Section 5 of the paper, ReLU and
seven random ones. Then it proposes a hundred, one after another. A seed decides the seven random
functions, the candidates (a random thousand of those with a valid spectrum), the layouts and the
samplers' own choices; all surrogates get the same. Optuna's samplers do not know which spectra are
invalid, so they meet those functions too; the rows "valid only" are what they would do if such a
function cost nothing: it is told to be at chance, and not counted.

Surrogates are driven directly, embedded once for each seed, as AquaSurfSampler drives them:
``--check`` runs the sampler itself on two seeds and compares the sequences.

    python -m benchmarks.surrogates [--only gp paper] [--seeds 20] [--kept searches.jsonl]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import joblib
import numpy as np
import optuna
import torch
from numpy.typing import NDArray

from aquasurf_optuna import AquaSurfSampler
from aquasurf_optuna.surrogate import SURROGATES, Surrogate, _umap, make_surrogate
from benchmarks.mlp_digits import mlp_table
from benchmarks.search_summary import (
    N_INITIAL,
    N_PROPOSALS,
    RULE,
    Search,
    markdown,
    summary,
    verdict_markdown,
    verdicts,
)
from benchmarks.tables import (
    SPACE,
    Table,
    default_store,
    digits_featurizer,
    digits_table,
)
from benchmarks.trainings import RESULTS

POOL = 1000
STARTS = {"baselines": "the eight baselines", "random": "ReLU and seven random functions"}
TPE, TPE_VALID = "TPE (Optuna)", "TPE (Optuna), valid only"
GP = "GP (Optuna)"
RANDOM, RANDOM_VALID = "random", "random, valid only"
VALID_ONLY = "valid only"
MOST_ASKED = 1500
"""Proposals of a sampler of Optuna's after which a search ends, however few of them counted."""
PEERS = (TPE, TPE_VALID, GP, RANDOM, RANDOM_VALID)
TABLES: dict[str, Callable[[str], Table]] = {"digits": digits_table, "mlp": mlp_table}
"""How each table is read, from the URL of a feature store."""
LEARNING_PEERS = (TPE, TPE_VALID, GP, RANDOM)
TWINS = {"umap-knn"}
"""Names of what has another name too."""
ONE_FEATURE = ("gp, outputs only", "gp, fisher only", "paper, outputs only", "paper, fisher only")


def initial_rows(table: Table, start: str, seed: int) -> list[int]:
    """Return the eight rows that a search begins with."""
    if start == "baselines":
        return [int(row) for row in table.baselines]
    relu = table.catalogue.class_of("relu(x)")
    others = np.setdiff1d(table.candidates, [relu])
    drawn = np.random.default_rng([seed, 1]).choice(others, N_INITIAL - 1, replace=False)
    return [relu, *map(int, drawn)]


def pool_rows(table: Table, seed: int) -> NDArray[np.intp]:
    """Return the rows that may be proposed, in order."""
    candidates = table.candidates
    n = min(POOL, len(candidates))
    return np.sort(np.random.default_rng([seed, 2]).choice(candidates, n, replace=False))


def search_directly(
    surrogate: Surrogate,
    table: Table,
    embedded: NDArray[np.intp],
    pool: NDArray[np.intp],
    first: Sequence[int],
) -> list[int]:
    """Try the best free row again and again.

    Args:
        surrogate: Knows the rows `embedded`, in this order.
        table: Where the accuracies come from.
        embedded: Rows of the table.
        pool: Those of them that may be proposed.
        first: Those that are tried already.

    Returns:
        The rows tried, `first` included.
    """
    place = {int(row): position for position, row in enumerate(embedded)}
    tried = list(first)
    free = [int(row) for row in pool if row not in first]
    for _ in range(min(N_PROPOSALS, len(free))):
        surrogate.fit([place[row] for row in tried], table.accuracies[tried])
        worth = surrogate.acquire([place[row] for row in free])
        tried.append(free.pop(int(np.argmax(worth))))
    return tried


class SharedLayouts:
    """Lays equal features out once while it is entered: the slow step of several surrogates.

    Attributes:
        spared: Seconds that were spared by not doing it again.
    """

    def __init__(self) -> None:
        self.spared = 0.0
        self._known: dict[tuple[object, ...], tuple[NDArray[np.float64], float]] = {}
        self._lay_out = _umap.embed

    def __enter__(self) -> SharedLayouts:
        _umap.embed = self._embed
        return self

    def __exit__(self, *error: object) -> None:
        _umap.embed = self._lay_out

    def _embed(
        self, parts: Sequence[tuple[NDArray[np.float64], _umap.GraphSettings]], *, seed: int
    ) -> NDArray[np.float64]:
        key = (seed, *(hashlib.sha1(features.tobytes()).digest() for features, _ in parts))
        if key in self._known:
            self.spared += self._known[key][1]
        else:
            begin = time.process_time()
            layout = self._lay_out(parts, seed=seed)
            self._known[key] = (layout, time.process_time() - begin)
        return self._known[key][0]


LAYOUTS = SharedLayouts()


def surrogate_of(method: str, seed: int) -> Surrogate:
    """Return a surrogate by its name, or by its name and the one feature that it may see."""
    name, _, feature = method.removesuffix(" only").partition(", ")
    return make_surrogate(name, features=feature or "both", random_state=seed)


def run_surrogate(table: Table, method: str, seed: int) -> list[Search]:
    """Run the searches of one surrogate and seed; all starts share the layout."""
    firsts = {start: initial_rows(table, start, seed) for start in STARTS}
    pool = pool_rows(table, seed)
    embedded = np.unique(np.concatenate([pool, *firsts.values()]).astype(np.intp))
    surrogate = surrogate_of(method, seed)
    begin, spared = time.process_time(), LAYOUTS.spared
    with LAYOUTS:
        surrogate.embed(table.outputs[embedded], table.fisher[embedded])
    layout = time.process_time() - begin + LAYOUTS.spared - spared
    searches = []
    for start, first in firsts.items():
        begin = time.process_time()
        rows = search_directly(surrogate, table, embedded, pool, first)
        seconds = time.process_time() - begin + layout
        searches.append(Search(table.name, start, method, seed, rows, seconds))
    return searches


def run_peer(table: Table, method: str, seed: int) -> list[Search]:
    """Run the searches of one sampler of Optuna's and seed."""
    searches = []
    for start in STARTS:
        begin = time.process_time()
        rows = search_with_peer(peer(method, seed), table, initial_rows(table, start, seed), method)
        seconds = time.process_time() - begin
        searches.append(Search(table.name, start, method, seed, rows, seconds))
    return searches


def peer(method: str, seed: int) -> optuna.samplers.BaseSampler:
    """Return a sampler of Optuna's by the name it has in the table."""
    if method.startswith("TPE"):
        return optuna.samplers.TPESampler(seed=seed)
    if method.startswith("GP"):
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def search_with_peer(
    sampler: optuna.samplers.BaseSampler, table: Table, first: Sequence[int], method: str
) -> list[int]:
    """Run a study; rows that cannot be trained are told to be at chance."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for row in first:
        study.enqueue_trial(SPACE.params_of(table.catalogue[row], "activation"))
    tried: list[int] = []
    for _ in range(MOST_ASKED):
        trial = study.ask()
        row = table.catalogue.class_of(SPACE.suggest(trial, "activation"))
        study.tell(trial, float(table.scores[row]))
        if (table.valid[row] and table.known[row]) or not method.endswith(VALID_ONLY):
            tried.append(row)
        if len(tried) == N_INITIAL + N_PROPOSALS:
            break
    return tried


def run(table: Table, method: str, seed: int) -> list[Search]:
    """Run the searches of one method and seed, from each start."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return (run_peer if method in PEERS else run_surrogate)(table, method, seed)


def sampler_rows(table: Table, method: str, seed: int, store: str, n: int) -> list[int]:
    """Return the rows that AquaSurfSampler tries, the eight baselines first."""
    sampler = AquaSurfSampler(
        SPACE,
        features=digits_featurizer(),
        store=store,
        surrogate=method,
        catalogue=table.catalogue,
        pool_size=POOL,
        seed=seed,
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    rows = []
    for _ in range(N_INITIAL + n):
        trial = study.ask()
        row = table.catalogue.class_of(SPACE.suggest(trial, "activation"))
        rows.append(row)
        if np.isfinite(table.accuracies[row]):
            study.tell(trial, float(table.accuracies[row]))
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return rows


def check(table: Table, method: str, seed: int, store: str, n: int = 30) -> bool:
    """Say whether AquaSurfSampler makes the proposals that are made here, on its own candidates."""
    drawn = table.catalogue.shuffled(int(np.random.default_rng(seed).integers(2**31 - 1)))[:POOL]
    order = list(dict.fromkeys([*map(int, table.baselines), *drawn]))
    pool = np.array([row for row in order if table.valid[row]])
    surrogate = surrogate_of(method, seed)
    surrogate.embed(table.outputs[pool], table.fisher[pool])
    direct = search_directly(surrogate, table, pool, pool, [int(row) for row in table.baselines])
    return sampler_rows(table, method, seed, store, n) == direct[: N_INITIAL + n]


class Kept:
    """Searches in a file of JSON lines, so that only what is new or changed runs."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.searches = [Search(**json.loads(line)) for line in lines]

    def add(self, searches: Sequence[Search]) -> None:
        """Keep more searches."""
        self.searches += searches
        if self._path is not None:
            with self._path.open("a") as file:
                file.writelines(json.dumps(search._asdict()) + "\n" for search in searches)

    def forget(self, methods: Sequence[str]) -> None:
        """Drop the searches of methods that have changed."""
        left = [search for search in self.searches if search.method not in methods]
        self.searches = []
        if self._path is not None:
            self._path.write_text("")
        self.add(left)


def report(tables: Sequence[Table], searches: Sequence[Search]) -> str:
    """Return everything as Markdown."""
    texts, groups = [], []
    for table in tables:
        for start in STARTS:
            chosen = [s for s in searches if (s.table, s.start) == (table.name, start)]
            methods = dict.fromkeys(search.method for search in chosen)
            group = [summary(table, [s for s in chosen if s.method == m]) for m in methods]
            groups.append(group)
            texts.append(f"## {table.name}, begun with {STARTS[start]}\n")
            texts.append(f"{_described(table)} Mean ± standard error over seeds.\n")
            texts.append(markdown(group) + "\n")
    found = verdicts(groups, [*PEERS, *ONE_FEATURE])
    texts.append(f"## The default: {found[0].method}\n")
    texts.append(RULE + "\n")
    texts.append(verdict_markdown(found))
    return "\n".join(texts) + "\n"


def _described(table: Table) -> str:
    best, baseline = table.scores.max(), table.scores[table.baselines].max()
    text = (
        f"{len(table.candidates)} functions with a valid spectrum, best {best:.3f}, best baseline "
        f"{baseline:.3f}"
    )
    if not table.is_complete:
        unknown = int((table.valid & ~table.known).sum())
        return f"{text}; {unknown} more are not trained, and left out."
    invalid = int((~table.valid & table.known).sum())
    return (
        f"{text}; of the {int((~table.valid).sum())} others {invalid} were trained, and the rest "
        "count as trained to chance."
    )


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    methods = [name for name in SURROGATES if name not in TWINS]
    methods += [*ONE_FEATURE, *PEERS]
    parser.add_argument("--only", nargs="+", default=methods, choices=methods)
    parser.add_argument("--tables", nargs="+", default=["digits"], choices=list(TABLES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=None, help="file of searches that ran before")
    parser.add_argument("--again", nargs="+", default=[], help="methods to run anew all the same")
    parser.add_argument("--store", default=default_store(), help="URL of the store of features")
    parser.add_argument("--check", action="store_true", help="compare with AquaSurfSampler")
    options = parser.parse_args()
    if options.check:
        torch.set_num_threads(1)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        for seed in range(2):
            same = check(digits_table(options.store), "gp", seed, options.store)
            print(f"gp, seed {seed}: the sampler's proposals are {'' if same else 'not '}the same")
        return
    kept = Kept(options.kept)
    kept.forget(options.again)
    tables = [TABLES[name](options.store) for name in options.tables]
    done = {(search.table, search.method, search.seed) for search in kept.searches}
    wanted = [
        (table, method, seed)
        for seed in range(options.seeds)
        for method in options.only
        for table in tables
        if (table.name, method, seed) not in done
        # What is unknown of an unfinished table would mislead a sampler that proposes it.
        and (table.is_complete or method not in LEARNING_PEERS)
    ]
    runs = joblib.Parallel(n_jobs=options.jobs, verbose=5, return_as="generator_unordered")(
        joblib.delayed(run)(*job) for job in wanted
    )
    for searches in runs:
        kept.add(searches)
    chosen = [s for s in kept.searches if s.method in options.only and s.seed < options.seeds]
    text = report(tables, chosen)
    (RESULTS / "surrogates.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
