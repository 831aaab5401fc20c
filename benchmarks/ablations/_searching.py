"""Searches on one table with other features, surrogates or pools, in processes, kept in files.

A layout of the map takes longer than a search in it, and repeats share those of a few seeds. A
process therefore takes all searches in one layout, one after another.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import threadpoolctl
import torch
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, RandomSampler
from tqdm.auto import tqdm

from aquasurf_optuna.benchmark import ActBench, Search, SearchedTable, Summary, search
from aquasurf_optuna.benchmark._kept_searches import SearchesFile
from aquasurf_optuna.benchmark._metrics import summary_of
from aquasurf_optuna.benchmark._samplers import LAYOUT_SEEDS, Method
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.surrogate import Surrogate

DEFAULT, PAPER = "aquasurf", "aquasurf:paper"
"""The searches: with the default surrogate, and with the paper's."""

EVALUATIONS = 100
_START = "random"


@dataclasses.dataclass(frozen=True)
class Surrogated:
    """Makes the sampler of a repeat, as `SAMPLERS` does for the surrogates that have a name.

    Attributes:
        surrogate: Its name, None for the default one; or one whose seed is the repeat's.
        seeds: From how many seeds a repeat's is taken; None for one of its own, where the pool is
            drawn from it.
    """

    surrogate: str | Surrogate | None = None
    seeds: int | None = LAYOUT_SEEDS

    def __call__(self, table: SearchedTable, repeat: int) -> BaseSampler:
        """Make it."""
        seed = repeat if self.seeds is None else repeat % self.seeds
        surrogate = self.surrogate
        if isinstance(surrogate, Surrogate):
            surrogate = copy.deepcopy(surrogate).set_params(random_state=seed)
        return AquaSurfSampler(
            table.bench.space,
            features=table.bench.features,
            surrogate=surrogate,
            baselines=(),
            base_sampler=RandomSampler(seed=seed),
            pool_size=table.pool_size,
            catalogue=table.catalogue,
            seed=seed,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Variant:
    """A setting that is searched with.

    Attributes:
        name: Tells it from the others; also the name of its file.
        makers: Name of each search -> what makes its sampler.
        features: ``(n, m)`` in place of the table's own, NaN where there is none; None for these.
        pool_size: How many functions a sampler draws at a time; None for all.
        layout: Variants with the same one are searched on the same layouts.
    """

    name: str
    makers: Mapping[str, Surrogated]
    features: NDArray[np.float32] | None = None
    pool_size: int | None = None
    layout: str = ""


class VariantTable(SearchedTable):
    """A table as a variant sees it; it begins searches with what the table itself begins with.

    Args:
        base: The table.
        variant: The variant.
    """

    def __init__(self, base: SearchedTable, variant: Variant) -> None:
        bench = base.bench
        if variant.features is not None:
            bench = with_features(bench, variant.features, variant.name)
        super().__init__(bench, base.metric, pool_size=variant.pool_size)
        self._base = base
        self.__dict__["catalogue"] = base.catalogue

    def first_rows(self, start: str, repeat: int) -> list[int]:
        """Return the rows that a search begins with, whatever is valid with these features."""
        return self._base.first_rows(start, repeat)


def with_features(bench: ActBench, features: NDArray[np.float32], name: str) -> ActBench:
    """Return a table with other Fisher features.

    Args:
        bench: The table.
        features: ``(n, m)``; a row with NaN has none.
        name: What they are.
    """
    other = copy.copy(bench)
    other.__dict__.pop("features", None)
    other.fisher = features
    other.valid = np.asarray(np.isfinite(features).all(axis=1))
    other.reasons = {
        int(row): bench.reasons.get(int(row), f"it has no valid spectrum with {name}")
        for row in np.flatnonzero(~other.valid)
    }
    other.representation = name
    return other


Key = tuple[str, str, int]
"""Variant, search and repeat."""


class _Job(NamedTuple):
    """Searches in one layout."""

    variants: dict[str, Variant]
    keys: list[Key]


def run_searches(
    bench: ActBench,
    variants: Sequence[Variant],
    *,
    repeats: int,
    jobs: int = 1,
    kept: Path | None = None,
    evaluations: int = EVALUATIONS,
    progress: bool = True,
) -> dict[Key, Search]:
    """Run the searches of all variants, begun with ReLU and seven random functions.

    Args:
        bench: The table.
        variants: With different names.
        repeats: Searches of each; the repeat decides what it begins with.
        jobs: Processes, of one thread each.
        kept: Folder of searches that ended, a file for each variant; those are not run once more.
        evaluations: Of each search, after the functions that it begins with.
        progress: Whether to show a bar on standard error.

    Raises:
        BenchmarkError: If a file is damaged, or of another table or other features.
    """
    base = SearchedTable(bench)
    by_name = {variant.name: variant for variant in variants}
    keys = [(v.name, s, r) for v in variants for s in v.makers for r in range(repeats)]
    files = {} if kept is None else {n: _file(kept, base, v) for n, v in by_name.items()}
    found: dict[Key, Search] = {}
    for name, file in files.items():
        for (sampler, _, repeat), one in file.read(_START, evaluations).items():
            found[name, sampler, repeat] = one
    missing = [key for key in keys if key not in found]
    with tqdm(
        total=len(keys), initial=len(keys) - len(missing), unit="search", disable=not progress
    ) as bar:
        for some in _results(base, _jobs(by_name, missing), evaluations, jobs):
            for key, one in some:
                if files:
                    files[key[0]].add(one)
                found[key] = one
            bar.update(len(some))
    return {key: found[key] for key in keys}


def _file(folder: Path, base: SearchedTable, variant: Variant) -> SearchesFile:
    path = folder / f"{variant.name.replace(' ', '_')}.jsonl"
    return SearchesFile(path, VariantTable(base, variant), pool_size=variant.pool_size)


def _jobs(variants: Mapping[str, Variant], keys: Sequence[Key]) -> list[_Job]:
    """Put searches in one layout into one job, seed after seed."""

    def layout(key: Key) -> tuple[str, str, int]:
        variant = variants[key[0]]
        return variant.layout or variant.name, key[1], key[2] % LAYOUT_SEEDS

    ordered = sorted(keys, key=layout)
    groups = [list(own) for _, own in itertools.groupby(ordered, layout)]
    return [_Job({key[0]: variants[key[0]] for key in own}, own) for own in groups]


def _results(
    base: SearchedTable, jobs: Sequence[_Job], evaluations: int, processes: int
) -> Iterator[list[tuple[Key, Search]]]:
    if processes == 1:
        for job in jobs:
            yield _run(base, job, evaluations)
        return
    # Made here once, so that it travels with the table.
    _ = base.shared_key
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        pool = joblib.Parallel(n_jobs=processes, batch_size=1, return_as="generator_unordered")
        results = pool(joblib.delayed(_run_elsewhere)(base, job, evaluations) for job in jobs)
    with contextlib.closing(results):
        yield from results


# What searches share is made once in a process, however often the table arrives.
_arrived: dict[str, SearchedTable] = {}


def _run_elsewhere(base: SearchedTable, job: _Job, evaluations: int) -> list[tuple[Key, Search]]:
    known = _arrived.get(base.shared_key)
    if known is None:
        _arrived.clear()
        _arrived[base.shared_key] = known = base
    return _run(known, job, evaluations)


def _run(base: SearchedTable, job: _Job, evaluations: int) -> list[tuple[Key, Search]]:
    tables = {name: VariantTable(base, variant) for name, variant in job.variants.items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            return [
                (key, _search(tables[key[0]], job.variants[key[0]], key, evaluations))
                for key in job.keys
            ]
    finally:
        torch.set_num_threads(threads)


def _search(table: VariantTable, variant: Variant, key: Key, evaluations: int) -> Search:
    _, name, repeat = key
    method = Method(variant.makers[name])
    return search(table, name, start=_START, repeat=repeat, trials=evaluations, method=method)


def summarised(
    bench: ActBench, searches: Mapping[Key, Search], evaluations: int = EVALUATIONS
) -> dict[tuple[str, str], Summary]:
    """Return what the searches of each variant came to, by variant and search.

    Args:
        bench: The table.
        searches: As `run_searches` returns them; of one variant and search in the order of the
            repeats.
        evaluations: Of each search.
    """
    table = SearchedTable(bench)
    by_kind: dict[tuple[str, str], list[Search]] = {}
    for (variant, name, _), one in searches.items():
        by_kind.setdefault((variant, name), []).append(one)
    return {
        kind: summary_of(
            table.scores,
            [table.scores[one.rows] for one in own],
            n_initial=own[0].n_initial,
            evaluations=evaluations,
            relu=table.relu,
            baselines=table.baselines,
        )
        for kind, own in by_kind.items()
    }
