"""Which functions of a site are candidates: at random, and after the search."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from aquasurf_optuna._assembly import make_sites
from aquasurf_optuna._drawing import FollowingDrawing, RandomDrawing
from aquasurf_optuna._site import Site
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import values_near


def site_of(catalogue: Catalogue, seed: int = 0) -> Site:
    (site,) = make_sites(
        {"activation": catalogue.space},
        featurizers={"activation": None},
        store=None,
        measures=True,
        catalogues={catalogue.space: catalogue},
        baselines=(),
        rng=np.random.default_rng(seed),
    )
    return site


@pytest.fixture(scope="module")
def site(catalogue: Catalogue) -> Site:
    return site_of(catalogue)


def eligible(catalogue: Catalogue) -> set[int]:
    return set(np.flatnonzero(catalogue.is_finite & ~catalogue.is_constant).tolist())


# At random


def test_the_random_ones_are_drawn_once_and_for_all(site: Site) -> None:
    drawing = RandomDrawing(site, 50)
    first = list(drawing.functions({}))

    assert len(set(first)) == 50
    assert set(first) <= eligible(site.catalogue)
    assert list(drawing.functions({first[3]: 1.0, 7: -math.inf})) == first


def test_a_seed_draws_the_same_and_another_others(site: Site, catalogue: Catalogue) -> None:
    first = list(RandomDrawing(site, 50).functions({}))
    assert list(RandomDrawing(site_of(catalogue), 50).functions({})) == first
    other = list(RandomDrawing(site_of(catalogue, 1), 50).functions({}))
    # Two of 2,000 at random share about one.
    assert len(set(first) & set(other)) < 10


def test_growing_goes_on_until_all_are_drawn(tiny: Catalogue) -> None:
    drawing = RandomDrawing(site_of(tiny), 3)
    sizes = [len(drawing.functions({}))]
    before = list(drawing.functions({}))
    while drawing.grow():
        now = list(drawing.functions({}))
        assert now[: len(before)] == before
        sizes.append(len(now))
        before = now

    n = len(eligible(tiny))
    assert sizes == [*range(3, n, 3), n]
    assert set(before) == eligible(tiny)
    assert not drawing.grow()


# After the search


def tried(drawing: FollowingDrawing, values: np.ndarray, n: int) -> dict[int, float]:
    """Try the best candidate that is known, again and again, as a search would."""
    found: dict[int, float] = {}
    for _ in range(n):
        functions = [c for c in drawing.functions(found) if c not in found]
        # A search guesses well but not perfectly: of every fourth candidate, the best.
        best = max(functions[:: 4 - len(found) % 4], key=lambda c: float(values[c]))
        found[best] = float(values[best])
    return found


def prefixes(values: Mapping[int, float]) -> Sequence[dict[int, float]]:
    return [dict(list(values.items())[:n]) for n in range(1, len(values) + 1)]


@pytest.fixture(scope="module")
def values(catalogue: Catalogue) -> np.ndarray:
    return values_near("mul(hard_sigmoid(x),elu(x))", catalogue)


def test_it_begins_at_random_and_grows_with_each_trial(site: Site, values: np.ndarray) -> None:
    drawing = FollowingDrawing(site, 80)
    assert list(drawing.functions({})) == site.shuffled[:27]

    sizes = []
    found = tried(drawing, values, 40)
    again = FollowingDrawing(site, 80)
    for part in prefixes(found):
        sizes.append(len(again.functions(part)))
    # A sixtieth of 80 joins after every trial.
    assert sizes == [min(80, 27 + n) for n in range(1, 41)]
    assert set(again.functions({})) <= eligible(site.catalogue)


def test_what_joins_is_better_than_chance(site: Site, values: np.ndarray) -> None:
    drawing = FollowingDrawing(site, 80)
    found = tried(drawing, values, 30)
    members = list(drawing.functions(found))
    joined = values[members[27:]]

    everyone = values[sorted(eligible(site.catalogue))]
    assert np.median(joined) > np.quantile(everyone, 0.75)


def test_members_stay_and_keep_their_places(site: Site, values: np.ndarray) -> None:
    drawing = FollowingDrawing(site, 40)
    before: list[int] = []
    for part in prefixes(tried(FollowingDrawing(site, 40), values, 16)):
        now = list(drawing.functions(part))
        assert now[: len(before)] == before
        assert len(set(now)) == len(now)
        before = now


def test_looking_changes_nothing(site: Site, values: np.ndarray) -> None:
    parts = prefixes(tried(FollowingDrawing(site, 40), values, 12))
    plain, looked_at = FollowingDrawing(site, 40), FollowingDrawing(site, 40)
    for part in parts:
        looked_at.functions({})
        assert looked_at.functions(part) == plain.functions(part)
        assert looked_at.functions({}) == plain.functions(part)


def test_another_history_begins_anew(site: Site, values: np.ndarray) -> None:
    parts = prefixes(tried(FollowingDrawing(site, 40), values, 10))
    others = prefixes(tried(FollowingDrawing(site, 40), -values, 10))
    used, fresh = FollowingDrawing(site, 40), FollowingDrawing(site, 40)
    for part in parts:
        used.functions(part)
    used.grow()
    for part in others:
        assert used.functions(part) == fresh.functions(part)


def test_a_following_pool_that_is_used_up_grows_at_random(site: Site, values: np.ndarray) -> None:
    drawing = FollowingDrawing(site, 8)
    found: dict[int, float] = {}
    while free := [c for c in drawing.functions(found) if c not in found]:
        found[free[0]] = float(values[free[0]])
    # Three at random, and one that joined with each that was tried, until there were eight.
    assert len(found) == 8

    assert drawing.grow()
    assert len(drawing.functions(found)) == 8 + 8


def test_a_following_pool_ends_with_all_there_is(tiny: Catalogue) -> None:
    drawing = FollowingDrawing(site_of(tiny), 6)
    while drawing.grow():
        pass
    assert set(drawing.functions({})) == eligible(tiny)
    assert len(drawing.functions({})) == len(eligible(tiny))


def test_failures_alone_can_be_followed(site: Site) -> None:
    drawing = FollowingDrawing(site, 40)
    failures = dict.fromkeys(site.shuffled[:6], -math.inf)
    assert len(drawing.functions(failures)) == 13 + 6


def test_one_function_is_enough(three_node: SearchSpace) -> None:
    space = SearchSpace("unary(x)", unary=("relu",))
    drawing = FollowingDrawing(site_of(Catalogue.of(space)), 40)
    assert list(drawing.functions({})) == [0]
    assert list(drawing.functions({0: 1.0})) == [0]
    assert not drawing.grow()
