"""Accuracies of functions that were really trained, kept in a file by the function's text."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from aquasurf_optuna import InitializationError
from lightning_modules.digits_recipe import DIGITS_RECIPE, train_digits

TRAINING_SEED = 0
RESULTS = Path(__file__).parent / "results"
DIGITS_TRAININGS = RESULTS / "digits_trainings.jsonl"
"""The three-node space by the quickstart's recipe."""


def train_once(function: str) -> float:
    """Train by the quickstart's recipe; return the validation accuracy.

    Raises:
        InitializationError: If the network cannot be initialised.
    """
    return train_digits(function, seed=TRAINING_SEED).validation_accuracy


class Trainings:
    """Accuracies by function, in a file of JSON lines that several processes may add to.

    The first line names the recipe: accuracies of another recipe are refused.

    Args:
        path: The file; it is made if it is not there.
        recipe: What its accuracies depend on.
        train: Trains a function that is not in the file yet, by that recipe.
    """

    def __init__(
        self,
        path: Path,
        recipe: object = DIGITS_RECIPE,
        train: Callable[[str], float] = train_once,
    ) -> None:
        self.path = path
        self._train = train
        self._known: dict[str, float | None] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps({"recipe": repr(recipe)}) + "\n")
        header, *_ = path.read_text().splitlines()
        if json.loads(header) != {"recipe": repr(recipe)}:
            raise SystemExit(f"{path} was made with another recipe; move it away: {header}")
        self._read()

    @property
    def known(self) -> dict[str, float | None]:
        """What the file held when it was last read: accuracies, or None as for `accuracy`."""
        return dict(self._known)

    def accuracy(self, function: str) -> float | None:
        """Return the validation accuracy, or None if the network cannot be initialised."""
        if function not in self._known:
            self._read()
        if function not in self._known:
            self._add(function)
        return self._known[function]

    def _read(self) -> None:
        for line in self.path.read_text().splitlines()[1:]:
            row = json.loads(line)
            self._known[row["function"]] = row["accuracy"]

    def _add(self, function: str) -> None:
        accuracy: float | None = None
        with contextlib.suppress(InitializationError):
            accuracy = round(self._train(function), 6)
        self._known[function] = accuracy
        line = json.dumps({"function": function, "accuracy": accuracy}) + "\n"
        # One small write to a file opened for appending does not mix with other processes' ones.
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())
