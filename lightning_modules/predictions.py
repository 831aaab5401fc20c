"""What a network predicts, kept in a table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from aquasurf_optuna._whole_file import whole_file

COLUMNS = ("image", "predicted_class", "probability")


class CsvPredictions(L.Callback):
    """Write the likeliest class of every image to a CSV file.

    A row an image: its place in the prediction set, the class, and the probability of that class.
    The file appears when the last batch is done; an interrupted run leaves none. Several processes
    write a file each, with the rank before the suffix: Lightning gives them every n-th image.

    Args:
        path: The file; missing folders are made.
    """

    def __init__(self, path: str | Path = "predictions.csv") -> None:
        self.path = Path(path)
        self._rows: list[tuple[int, int, float]] = []

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin with an empty table.

        Raises:
            FileNotFoundError: If the folder of the file does not exist.
        """
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"CsvPredictions: the folder {self.path.parent} of {self.path.name} does not "
                "exist; make it, or name another one"
            )
        self._rows.clear()

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch of probabilities `[batch, classes]`."""
        probabilities, classes = outputs.max(dim=1)
        for label, probability in zip(classes.tolist(), probabilities.tolist(), strict=True):
            place = trainer.global_rank + len(self._rows) * trainer.world_size
            self._rows.append((place, label, probability))

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file, whole or not at all."""
        path = self.path
        if trainer.world_size > 1:
            path = path.with_suffix(f".{trainer.global_rank}{path.suffix}")
        with whole_file(path, what="a table") as draft, draft.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(self._rows)
