"""An ensemble: the mean of what its members say, and how far they disagree."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import (
    EnsembleSurrogate,
    FailureAwareSurrogate,
    GaussianProcessSurrogate,
    NoveltySurrogate,
    Surrogate,
)
from tests.aquasurf_optuna.surrogate.candidates import clusters
from tests.oracles.surrogate_oracles import share_below

EVERY = np.arange(40)
ROWS, VALUES = np.array([0, 1, 2, 3, 9, 10]), np.array([0.1, 0.5, 0.7, 0.6, -np.inf, 0.4])
MORE: dict[str, Any] = {"running": [5], "others": [([7, 8, 11], [3.0, 1.0, 2.0])]}


def members() -> list[Surrogate]:
    return [
        GaussianProcessSurrogate(),
        GaussianProcessSurrogate(features="outputs", targets="values", acquisition="ei"),
        NoveltySurrogate(features="fisher", n_neighbors=2),
    ]


def embedded(surrogate: Any) -> Any:
    outputs, fisher, _ = clusters()
    return surrogate.embed(outputs, fisher)


@pytest.mark.parametrize("more", [{}, MORE])
def test_it_is_the_mean_of_its_members(more: dict[str, Any]) -> None:
    ensemble = embedded(EnsembleSurrogate(members())).fit(ROWS, VALUES, **more)
    alone = [embedded(member).fit(ROWS, VALUES, **more) for member in members()]
    mean, std = ensemble.predict(EVERY, return_std=True)

    for row in (0, 13, 39):
        said = [member.predict([row], return_std=True) for member in alone]
        means = [float(m[0]) for m, _ in said]
        variances = [0.0 if np.isnan(s[0]) else float(s[0]) ** 2 for _, s in said]
        assert mean[row] == pytest.approx(np.mean(means), rel=1e-5)
        assert std[row] ** 2 == pytest.approx(np.mean(variances) + np.var(means), rel=1e-4)
    ranks = [share_below(member.acquire(EVERY)) for member in alone]
    np.testing.assert_allclose(ensemble.acquire(EVERY), np.mean(ranks, axis=0))


def test_a_member_alone_ranks_as_it_does() -> None:
    alone = embedded(GaussianProcessSurrogate()).fit(ROWS, VALUES)
    ensemble = embedded(EnsembleSurrogate([GaussianProcessSurrogate()])).fit(ROWS, VALUES)

    np.testing.assert_array_equal(
        np.argsort(ensemble.acquire(EVERY)), np.argsort(alone.acquire(EVERY))
    )
    np.testing.assert_array_equal(ensemble.predict(EVERY), alone.predict(EVERY))


@pytest.mark.parametrize(
    ("features", "needed"),
    [(["outputs"], "outputs"), (["outputs", "fisher"], "both"), (["fisher", "both"], "both")],
)
def test_it_needs_what_its_members_need(features: list[str], needed: str) -> None:
    ensemble = EnsembleSurrogate([NoveltySurrogate(features=each) for each in features])

    assert ensemble.features == needed


def test_members_stay_as_they_came() -> None:
    given = members()
    ensemble = EnsembleSurrogate(given)
    embedded(ensemble).fit(ROWS, VALUES)

    assert ensemble.members is given
    assert not any(hasattr(member, "n_rows_") for member in given)
    fresh = clone(ensemble)
    assert repr(fresh) == repr(ensemble)
    assert fresh.members[0] is not given[0]


def test_distances_are_measured_once_for_all() -> None:
    nested = EnsembleSurrogate(
        [GaussianProcessSurrogate(), FailureAwareSurrogate(GaussianProcessSurrogate())]
    )
    fitted = embedded(nested).fit(ROWS, VALUES)

    for ensemble in (fitted, copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        inner = ensemble.members_[1]
        assert ensemble._columns is ensemble.members_[0]._columns
        assert inner._parts["fisher"] is ensemble._parts["fisher"]
        assert inner._columns is ensemble._columns is inner.members_[0]._columns


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "EnsembleSurrogate is made of one Surrogate at least, but got none"),
        (None, "EnsembleSurrogate is made of one Surrogate at least, but got none"),
        ([NoveltySurrogate(), "gp"], "EnsembleSurrogate is made of .* but got 'gp'"),
        ([NoveltySurrogate(n_neighbors=0)], "n_neighbors of NoveltySurrogate must"),
        ([NoveltySurrogate(features="fim")], "features of NoveltySurrogate must .* but got 'fim'"),
    ],
)
def test_wrong_members_are_refused(given: Any, problem: str) -> None:
    with pytest.raises(SurrogateError, match=problem):
        embedded(EnsembleSurrogate(given))


def test_renewed_it_is_as_if_all_had_come_at_once() -> None:
    outputs, fisher, _ = clusters()
    wide = (9 * outputs[:20], 9 * fisher[:20])
    grown = embedded(EnsembleSurrogate(members())).extend(*wide)
    grown.fit(ROWS, VALUES).renew().fit(ROWS, VALUES)
    at_once = EnsembleSurrogate(members()).embed(
        np.vstack([outputs, wide[0]]), np.vstack([fisher, wide[1]])
    )

    expected = at_once.fit(ROWS, VALUES).acquire(np.arange(60))
    np.testing.assert_array_equal(grown.acquire(np.arange(60)), expected)
    assert [member.n_rows_ for member in grown.members_] == [60] * 3
