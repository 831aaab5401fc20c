"""The quickstart's task as arrays: functions with their features and accuracies.

`benchmarks/workers_simulation.py` runs on them. Searches are compared on benchmark tables, of which
this is none (`docs/benchmarks.md`).

A row is a class of equal functions, and its number is the one that the catalogue gives the class:

==============  ===============  ================================================================
``outputs``     ``(n, 1000)``    float64, f(x) on the fixed inputs
``fisher``      ``(n, m)``       float32, the spectrum as a vector; NaN where it is invalid
``valid``       ``(n,)``         bool, whether the spectrum is valid: only such a row is a candidate
``accuracies``  ``(n,)``         float64; minus infinity where the network cannot be initialised
``known``       ``(n,)``         bool, whether the accuracy was really measured
==============  ===============  ================================================================

A row whose accuracy is not measured counts as trained to no more than chance. Where that concerns
valid rows, they are no candidates. Of the functions with an invalid spectrum, all those that were
trained so far failed.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna import BASELINES, Catalogue, FeatureStore, FisherFeaturizer, SearchSpace
from benchmarks.trainings import DIGITS_TRAININGS, Trainings
from lightning_modules.digits_recipe import DIGITS_RECIPE, build_digits_model

CHANCE = 0.1
FEATURE_SEED = 0


class Table(NamedTuple):
    """Functions, features and accuracies; see the top of the module."""

    name: str
    catalogue: Catalogue
    outputs: NDArray[np.float64]
    fisher: NDArray[np.float32]
    valid: NDArray[np.bool_]
    accuracies: NDArray[np.float64]
    known: NDArray[np.bool_]

    @property
    def candidates(self) -> NDArray[np.intp]:
        """Rows with a valid spectrum and a measured accuracy, in order."""
        return np.flatnonzero(self.valid & self.known)

    @property
    def baselines(self) -> NDArray[np.intp]:
        """Rows of the eight standard functions."""
        return np.array([self.catalogue.class_of(baseline) for baseline in BASELINES])

    @property
    def scores(self) -> NDArray[np.float64]:
        """Accuracies with what cannot be initialised at chance."""
        return np.maximum(self.accuracies, CHANCE)


def default_store() -> str:
    """Return the URL of the benchmarks' store of features."""
    path = Path(tempfile.gettempdir()) / "aquasurf_digits_features.db"
    return os.environ.get("AQUASURF_BENCHMARK_STORE", f"sqlite:///{path}")


def digits_featurizer() -> FisherFeaturizer:
    """Return the featurizer of the quickstart."""
    images = DIGITS_RECIPE.data(seed=FEATURE_SEED).training_images(epoch=0).images[:128]
    return FisherFeaturizer(build_digits_model, images)


def digits_table(store: str) -> Table:
    """Put the table together from what was trained and from a store of features.

    Functions whose features the store lacks are measured, if they were trained.

    Args:
        store: URL of the store.
    """
    catalogue = Catalogue.of(SearchSpace.three_node())
    functions = [catalogue[row] for row in range(len(catalogue))]
    accuracies = Trainings(DIGITS_TRAININGS).known
    featurizer = digits_featurizer()
    with FeatureStore(store) as features:
        wanted = [function for function in functions if str(function) in accuracies]
        featurizer.many(wanted, store=features)
        found = features.known(featurizer.task, functions)
    vectors = {text: feature.vector for text, feature in found.items()}
    length = next(len(vector) for vector in vectors.values() if vector is not None)
    fisher = np.full((len(functions), length), np.nan, dtype=np.float32)
    values = np.full(len(functions), CHANCE)
    for row, text in enumerate(map(str, functions)):
        vector = vectors.get(text)
        if vector is not None:
            fisher[row] = vector
        if text in accuracies:
            accuracy = accuracies[text]
            values[row] = -np.inf if accuracy is None else accuracy
    known = np.array([str(function) in accuracies for function in functions])
    valid = np.isfinite(fisher[:, 0])
    return Table("digits", catalogue, catalogue.outputs, fisher, valid, values, known)
