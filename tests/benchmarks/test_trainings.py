"""Accuracies in a file: what is known is not trained again, and another recipe is refused."""

import json
from pathlib import Path

import pytest

from aquasurf_optuna import InitializationError
from benchmarks import trainings
from benchmarks.trainings import TRAINING_SEED, Trainings
from lightning_modules.digits_recipe import DIGITS_RECIPE


class Trained:
    """Stands for the result of a training."""

    def __init__(self, accuracy: float) -> None:
        self.validation_accuracy = accuracy


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is trained from here on; of these one cannot be."""
    functions: list[str] = []

    def train(function: str, *, seed: int) -> Trained:
        assert seed == TRAINING_SEED
        functions.append(function)
        if function == "reciprocal(x)":
            raise InitializationError("no weights")
        return Trained(len(function) / 90)

    monkeypatch.setattr(trainings, "train_digits", train)
    return functions


def test_each_function_is_trained_once(trained: list[str], tmp_path: Path) -> None:
    path = tmp_path / "folder" / "some.jsonl"
    here, elsewhere = Trainings(path), Trainings(path)
    assert here.accuracy("elu(x)") == round(6 / 90, 6)
    assert here.accuracy("reciprocal(x)") is None
    # Another process has read the file before these were in it.
    assert elsewhere.known == {}
    assert elsewhere.accuracy("reciprocal(x)") is None
    assert elsewhere.known == here.known == {"elu(x)": round(6 / 90, 6), "reciprocal(x)": None}
    assert trained == ["elu(x)", "reciprocal(x)"]
    assert Trainings(path).known == here.known


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps({"recipe": f"{DIGITS_RECIPE!r} "}) + "\n")
    with pytest.raises(SystemExit, match="another recipe; move it away"):
        Trainings(path)


@pytest.mark.parametrize("name", ["digits_trainings", "four_node_trainings"])
def test_the_files_that_are_kept_are_of_the_quickstart_s_recipe(name: str) -> None:
    known = Trainings(trainings.RESULTS / f"{name}.jsonl").known
    assert known
    assert all(one is None or 0 <= one <= 1 for one in known.values())
