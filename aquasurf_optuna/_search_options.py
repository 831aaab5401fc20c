"""What a search from the command line is, beside the configuration whose runs are its trials."""

from __future__ import annotations

import dataclasses
from typing import Literal

from aquasurf_optuna.exceptions import SettingsError


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """What a search is, beside its configuration.

    Attributes:
        space: three_node, four_node, coatnet, or a schema.
        trials: How many trials the study has in the end, the eight baselines among them.
        storage: URL of the study's database.
        study: The study's name; it goes on if it is there.
        metric: What is searched: a metric that the run logs.
        direction: Whether more of it is better, or less.
        pool: How many candidates have their Fisher features computed.
        seed: The sampler's.
    """

    space: str = "three_node"
    trials: int = 100
    storage: str = "sqlite:///search.db"
    study: str = "search"
    metric: str = "val_accuracy"
    direction: Literal["maximize", "minimize"] = "maximize"
    pool: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            SettingsError: If so.
        """
        if self.direction not in ("maximize", "minimize"):
            raise SettingsError(f"direction must be maximize or minimize, got {self.direction!r}")
        for name in ("trials", "pool"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
