"""The quickstart's task as arrays: which rows are known, and which are candidates."""

from pathlib import Path

import numpy as np
import pytest

from aquasurf_optuna import Catalogue
from benchmarks import tables
from benchmarks.tables import CHANCE, digits_featurizer, digits_table
from benchmarks.trainings import Trainings


def test_what_was_trained_is_known_and_the_rest_counts_as_chance(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "some.jsonl"
    texts = ["relu(x)", "tanh(x)", "reciprocal(x)"]
    rows = [catalogue.class_of(text) for text in texts]
    functions = [str(catalogue[row]) for row in rows]
    # It writes the first line.
    Trainings(path)
    with path.open("a") as file:
        for function, accuracy in zip(functions, ["0.5", "0.0625", "null"], strict=True):
            file.write(f'{{"function": "{function}", "accuracy": {accuracy}}}\n')
    monkeypatch.setattr(tables, "DIGITS_TRAININGS", path)
    table = digits_table(f"sqlite:///{tmp_path / 'features.db'}")
    assert np.flatnonzero(table.known).tolist() == sorted(rows)
    assert table.candidates.tolist() == sorted(rows[:2])
    assert table.scores[rows].tolist() == [0.5, CHANCE, CHANCE]
    assert np.delete(table.scores, rows).tolist() == [CHANCE] * (len(catalogue) - 3)
    assert table.baselines.tolist().count(rows[0]) == 1
    for row, function in zip(rows[:2], functions, strict=False):
        [feature] = digits_featurizer().many([function])
        np.testing.assert_array_equal(table.fisher[row], feature.vector)
    assert np.isnan(table.fisher[rows[2]]).all()
