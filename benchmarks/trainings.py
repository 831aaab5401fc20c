"""Accuracies of functions that were really trained, kept in a file by the function's text.

Benchmark tables (`docs/benchmarks.md`) are for spaces that can be trained as a whole; these files
grow with what searches ask for.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from aquasurf_optuna import InitializationError
from lightning_modules.digits_recipe import DIGITS_RECIPE, train_digits

TRAINING_SEED = 0
RESULTS = Path(__file__).parent / "results"
DIGITS_TRAININGS = RESULTS / "digits_trainings.jsonl"
"""The three-node space by the quickstart's recipe."""


class Trainings:
    """Accuracies by function, in a file of JSON lines that several processes may add to.

    All are of the quickstart's recipe. The first line says so: a file of another one is refused.

    Args:
        path: The file; it is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, float | None] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        recipe = {"recipe": repr(DIGITS_RECIPE)}
        if not path.exists():
            path.write_text(json.dumps(recipe) + "\n")
        header, *_ = path.read_text().splitlines()
        if json.loads(header) != recipe:
            raise SystemExit(f"{path} was made with another recipe; move it away: {header}")
        self._read()

    @property
    def known(self) -> dict[str, float | None]:
        """What the file held when it was last read: accuracies, or None as for `accuracy`."""
        return dict(self._known)

    def accuracy(self, function: str) -> float | None:
        """Return the validation accuracy, or None if the network cannot be initialised.

        A function that is not in the file yet is trained.
        """
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
            trained = train_digits(function, seed=TRAINING_SEED)
            accuracy = round(trained.validation_accuracy, 6)
        self._known[function] = accuracy
        line = json.dumps({"function": function, "accuracy": accuracy}) + "\n"
        # One small write to a file opened for appending does not mix with other processes' ones.
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())
