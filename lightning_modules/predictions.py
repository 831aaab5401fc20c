"""What a network predicts, kept in a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

COLUMNS = ("image", "predicted_class", "probability")


class CsvPredictions(BasePredictionWriter):
    """Write the likeliest class of every image to a CSV file.

    A row an image: its place in the prediction set, the class, and the probability of that class.
    The file appears when the last batch is done; an interrupted run leaves none. Several processes
    write a file each, with the rank before the suffix.

    Args:
        path: The file; its folder has to exist.
    """

    def __init__(self, path: str | Path = "predictions.csv") -> None:
        super().__init__(write_interval="batch")
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

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Keep a batch of probabilities `[batch, classes]`."""
        probabilities, classes = prediction.max(dim=1)
        first = len(self._rows)
        places = batch_indices or range(first, first + len(classes))
        rows = zip(places, classes.tolist(), probabilities.tolist(), strict=True)
        self._rows += [(place, label, share) for place, label, share in rows]

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file, whole or not at all."""
        path = self.path
        if trainer.world_size > 1:
            path = path.with_suffix(f".{trainer.global_rank}{path.suffix}")
        draft = path.with_name(path.name + ".part")
        with draft.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(self._rows)
        draft.replace(path)
