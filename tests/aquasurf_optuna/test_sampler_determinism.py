"""The same seed and the same trials give the same proposals, in another process too."""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from aquasurf_optuna.catalogue import Catalogue
from tests.aquasurf_optuna.resumed_program import CASES, SPACE, run, what_ran

N_TRIALS = 17
QUICK = ("random-gp-1", "following-gp-1-grown", "following-gp-2")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small() -> Catalogue:
    return Catalogue.of(SPACE)


def check(names: Iterable[str], stops: Sequence[int], catalogue: Catalogue, folder: Path) -> None:
    """Compare studies brought to their end here and by another process, begun here."""
    (folder / "begun").mkdir()
    begun = {(n, stop): folder / "begun" / f"{n}@{stop}.log" for n in names for stop in stops}
    for (name, stop), path in begun.items():
        run(CASES[name], path, stop, catalogue)
    command = [sys.executable, "-m", "tests.aquasurf_optuna.resumed_program", str(folder / "begun")]
    # Sets and dictionaries of texts in another order than here.
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([*command, str(N_TRIALS)], cwd=ROOT, env=environment, check=True, timeout=550)
    for name in names:
        run(CASES[name], folder / f"{name}.log", N_TRIALS, catalogue)
        here = what_ran(folder / f"{name}.log")
        assert len(here) == N_TRIALS
        for stop in stops:
            assert what_ran(begun[name, stop]) == here, (name, stop)


def test_another_process_goes_on_as_this_one(small: Catalogue, tmp_path: Path) -> None:
    # Between a function that was enqueued, and one that is in part.
    check(QUICK, (11,), small, tmp_path)


@pytest.mark.slow
def test_any_sampler_goes_on_at_any_time(small: Catalogue, tmp_path: Path) -> None:
    check(tuple(CASES), (0, 6, 13), small, tmp_path)


@pytest.mark.parametrize("name", ["random-gp-1", "following-gp-1"])
def test_no_seed_means_other_proposals(name: str, small: Catalogue, tmp_path: Path) -> None:
    for number in range(2):
        run(CASES[name], tmp_path / f"{number}.log", 9, small, seed=None)

    first, second = (what_ran(tmp_path / f"{number}.log") for number in range(2))
    assert [params for params, _ in first[3:]] != [params for params, _ in second[3:]]
