"""Which combinations of several activations are candidates."""

import itertools
from typing import Any

import numpy as np
import pytest

from aquasurf_optuna._assembly import make_sites
from aquasurf_optuna._combinations import Combinations
from aquasurf_optuna._drawing import RandomDrawing
from aquasurf_optuna._history import Combination, History
from aquasurf_optuna._site import Site
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.space import SearchSpace

FLAT = SearchSpace("unary(x)", unary=("relu", "tanh", "erf", "identity", "elu"))
WIDE = SearchSpace("unary(unary(x))", unary=("relu", "tanh", "erf", "square"))
CATALOGUES = {space: Catalogue.of(space) for space in (FLAT, WIDE)}


def sites_of(*spaces: SearchSpace, baselines: tuple[str, ...] = ()) -> tuple[Site, ...]:
    names = [f"site{number}" for number in range(len(spaces))]
    return make_sites(
        dict(zip(names, spaces, strict=True)),
        featurizers=dict.fromkeys(names),
        store=None,
        measures=True,
        catalogues=dict(CATALOGUES),
        baselines=baselines,
        rng=np.random.default_rng(0),
    )


def combinations_of(sites: tuple[Site, ...], size: int, seed: int = 0) -> Combinations:
    return Combinations(sites, [RandomDrawing(site, size) for site in sites], seed)


def class_of(site: Site, text: str) -> int:
    return site.catalogue.class_of(text)


def history(values: dict[Combination, tuple[float, ...]]) -> History:
    return History(frozenset(values), dict(values))


def test_with_one_site_they_are_its_functions() -> None:
    (site,) = sites_of(WIDE, baselines=("tanh(relu(x))", "selu(x)"))
    candidates = combinations_of((site,), 4).all(History())

    first = class_of(site, "tanh(relu(x))")
    others = [c for c in site.shuffled[:4] if c != first]
    assert candidates == [(first,), *((c,) for c in others)]


def test_every_function_drawn_is_in_a_candidate() -> None:
    sites = sites_of(FLAT, WIDE)
    candidates = combinations_of(sites, 12).all(History())

    assert len(set(candidates)) == len(candidates)
    for place, site in enumerate(sites):
        assert {key[place] for key in candidates} == set(site.shuffled[:12])


def test_baselines_are_crossed() -> None:
    sites = sites_of(FLAT, FLAT, baselines=("relu(x)", "tanh(x)", "erf(x)"))
    combinations = combinations_of(sites, 1)
    texts = ("relu(x)", "tanh(x)", "erf(x)")
    classes = [class_of(sites[0], text) for text in texts]

    assert combinations.baselines() == [(c, c) for c in classes]
    assert set(itertools.product(classes, classes)) <= set(combinations.all(History()))


def test_a_baseline_that_one_site_cannot_express_is_left_to_the_others() -> None:
    sites = sites_of(FLAT, WIDE, baselines=("elu(x)", "relu(x)"))
    combinations = combinations_of(sites, 1)
    elu, relu = (class_of(sites[0], text) for text in ("elu(x)", "relu(x)"))

    assert combinations.baselines() == [(relu, class_of(sites[1], "relu(x)"))]
    assert (elu, class_of(sites[1], "relu(x)")) in combinations.all(History())


@pytest.mark.parametrize("size", [3, 40])
def test_what_is_one_exchange_from_the_best_is_a_candidate(size: int) -> None:
    sites = sites_of(WIDE, WIDE)
    combinations = combinations_of(sites, size)
    best, worse = (8, 2), (1, 3)
    candidates = set(combinations.all(history({worse: (0.1,), best: (0.9,)})))

    for place, site in enumerate(sites):
        for class_id in site.shuffled[:size]:
            exchanged = (*best[:place], class_id, *best[place + 1 :])
            assert exchanged in candidates


def test_the_best_of_several_objectives_is_so_by_ranks() -> None:
    sites = sites_of(WIDE, WIDE)
    combinations = combinations_of(sites, 3)
    values: dict[Combination, tuple[float, ...]] = {
        (n, n): (n + 0.0, 2.0 * n - 1000.0) for n in range(8)
    }
    values[(9, 9)] = (1e9, -np.inf)
    candidates = set(combinations.all(history(values)))

    other = sites[0].shuffled[0]
    assert {(other, 5), (other, 6), (other, 7)} <= candidates
    assert (other, 2) not in candidates


def test_failures_are_exchanged_too_if_there_is_nothing_else() -> None:
    sites = sites_of(WIDE, WIDE)
    candidates = combinations_of(sites, 3).all(history({(8, 2): (-np.inf,)}))
    assert (sites[0].shuffled[0], 2) in candidates


def test_a_trial_that_left_a_site_out_is_exchanged_nowhere() -> None:
    sites = sites_of(WIDE, WIDE)
    candidates = combinations_of(sites, 3).all(history({(8, None): (1.0,)}))
    assert all(None not in key for key in candidates)


def test_candidates_stay_and_a_restart_forgets_them() -> None:
    combinations = combinations_of(sites_of(WIDE, WIDE), 3)
    first = combinations.all(history({(8, 2): (0.9,)}))
    more = combinations.all(history({(8, 2): (0.9,), (4, 4): (2.0,)}))

    assert more[: len(first)] == first
    assert combinations.all(History()) == more
    combinations.restart()
    fresh = combinations_of(sites_of(WIDE, WIDE), 3)
    assert combinations.all(History()) == fresh.all(History())


def test_the_seed_decides_about_exchanges_in_a_large_pool(catalogue: Catalogue) -> None:
    CATALOGUES[catalogue.space] = catalogue
    sites = sites_of(catalogue.space, catalogue.space)
    told = history({(8, 2): (0.9,)})
    first, again, other = (set(combinations_of(sites, 900, seed).all(told)) for seed in (0, 0, 1))

    # 900 pairs, and 200 exchanges in each place.
    assert len(first) == pytest.approx(1300, abs=3)
    assert first == again
    assert len(first & other) < 1100


@pytest.mark.parametrize("spaces", [(FLAT, FLAT), (FLAT, WIDE), (FLAT, FLAT, FLAT)])
def test_growing_ends_with_every_combination(spaces: tuple[SearchSpace, ...]) -> None:
    sites = sites_of(*spaces)
    combinations = combinations_of(sites, 2)
    while combinations.grow():
        pass

    expected = set(itertools.product(*(site.shuffled for site in sites)))
    assert set(combinations.all(History())) == expected


def test_one_site_grows_by_its_functions_alone() -> None:
    (site,) = sites_of(FLAT)
    combinations = combinations_of((site,), 2)
    grown = 0
    while combinations.grow():
        grown += 1
    assert grown == 2
    assert combinations.all(History()) == [(c,) for c in site.shuffled]


# What is fixed


@pytest.mark.parametrize("operator", ["relu", "square"])
def test_what_fits_a_fixed_operator(operator: str) -> None:
    sites = sites_of(FLAT, WIDE)
    combinations = combinations_of(sites, 40)
    fixed: tuple[dict[str, Any], ...] = ({}, {"site1.0": operator})
    fitting = combinations.fitting(fixed)

    assert {key[0] for key in fitting} == set(sites[0].shuffled)
    assert {key[1] for key in fitting} == {
        class_id
        for class_id in sites[1].shuffled
        if any(m.operator == operator for m in sites[1].catalogue.members(class_id))
    }


def test_where_no_candidate_fits_others_of_the_space_do() -> None:
    sites = sites_of(FLAT, WIDE)
    combinations = combinations_of(sites, 1)
    drawn = sites[1].catalogue.members(sites[1].shuffled[0])
    operator = next(o for o in ("relu", "tanh") if all(m.operator != o for m in drawn))
    fitting = combinations.fitting(({}, {"site1.0": operator}))

    assert fitting
    assert {key[0] for key in fitting} == {sites[0].shuffled[0]}
    for key in fitting:
        assert key[1] is not None
        members = sites[1].catalogue.members(key[1])
        assert any(member.operator == operator for member in members)


def test_a_site_fixed_as_a_whole_leaves_the_others_free() -> None:
    sites = sites_of(FLAT, WIDE)
    fixed = (FLAT.params_of("tanh(x)", "site0"), {})
    fitting = combinations_of(sites, 40).fitting(fixed)

    assert {key[0] for key in fitting} == {class_of(sites[0], "tanh(x)")}
    assert {key[1] for key in fitting} == set(sites[1].shuffled)
