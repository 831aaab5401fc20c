"""Surrogates by name or as an instance."""

from typing import Any

import numpy as np
import pytest

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import (
    DEFAULT_SURROGATE,
    SURROGATES,
    EnsembleSurrogate,
    FailureAwareSurrogate,
    GaussianProcessSurrogate,
    NoveltySurrogate,
    Surrogate,
    UmapForestSurrogate,
    UmapGpSurrogate,
    UmapKnnSurrogate,
    UmapSvrSurrogate,
    check_features,
    make_surrogate,
)
from tests.aquasurf_optuna.surrogate.candidates import clusters


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gp", GaussianProcessSurrogate),
        ("gp-failures", FailureAwareSurrogate),
        ("paper", UmapKnnSurrogate),
        ("umap-knn", UmapKnnSurrogate),
        ("umap-forest", UmapForestSurrogate),
        ("umap-svr", UmapSvrSurrogate),
        ("umap-gp", UmapGpSurrogate),
        ("ensemble", EnsembleSurrogate),
        ("novelty", NoveltySurrogate),
    ],
)
def test_a_name_makes_a_surrogate(name: str, kind: type[Surrogate]) -> None:
    made = make_surrogate(name, features="fisher", random_state=7)

    assert type(made) is kind
    assert made.features == "fisher"
    assert len(SURROGATES) == 9
    seeds = [value for key, value in made.get_params().items() if key.endswith("random_state")]
    assert set(seeds) <= {7}
    assert made is not make_surrogate(name, features="fisher", random_state=7)


def test_the_papers_has_three_neighbours() -> None:
    made = make_surrogate("paper", features="both", random_state=0)

    assert isinstance(made, UmapKnnSurrogate)
    assert (made.n_neighbors, made.regressor) == (3, None)


def test_none_is_the_default() -> None:
    made = make_surrogate(None, features="both", random_state=0)

    assert DEFAULT_SURROGATE in SURROGATES
    assert repr(made) == repr(make_surrogate(DEFAULT_SURROGATE, features="both", random_state=0))


def test_an_instance_is_copied_with_its_settings() -> None:
    outputs = clusters()[0]
    given = FailureAwareSurrogate(GaussianProcessSurrogate(features="outputs", random_state=3))
    given.embed(outputs).fit([0, 1], [0.1, 0.2])
    made = make_surrogate(given, features="both", random_state=0)

    assert repr(made) == repr(given)
    assert made is not given
    assert isinstance(made, FailureAwareSurrogate)
    assert made.surrogate is not given.surrogate
    assert not hasattr(made, "n_rows_")
    np.testing.assert_array_equal(given.observations_.rows, [0, 1])


@pytest.mark.parametrize("which", ["random", "", 3, GaussianProcessSurrogate, ["gp"]])
def test_other_names_are_refused(which: Any) -> None:
    with pytest.raises(SurrogateError, match="must be one of 'gp', .*'paper', .* or None, but"):
        make_surrogate(which, features="both", random_state=0)


@pytest.mark.parametrize(
    ("surrogate", "fits"),
    [
        (None, True),
        ("paper", True),
        (NoveltySurrogate(features="outputs"), True),
        (NoveltySurrogate(features="both"), False),
        (NoveltySurrogate(features="fisher"), False),
        (EnsembleSurrogate([NoveltySurrogate(), NoveltySurrogate(features="outputs")]), False),
    ],
)
def test_fisher_features_must_be_there_if_they_are_needed(surrogate: Any, fits: bool) -> None:
    check_features(surrogate, fisher=True)
    if fits:
        check_features(surrogate, fisher=False)
    else:
        with pytest.raises(SurrogateError, match="needs Fisher features; pass features="):
            check_features(surrogate, fisher=False)
