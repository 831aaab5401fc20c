"""How a network is trained: the optimiser, and the learning rate at each step."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

OptimizerName = Literal["sgd", "adamw"]
Decay = Literal["linear", "cosine"]


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained; the defaults are those of Table 5.

    Attributes:
        optimizer: `"sgd"` with momentum, or `"adamw"`.
        learning_rate: The peak, reached at the last step of the warm-up.
        warmup_epochs: Epochs of linear rise; fractions are allowed.
        warmup_start: The learning rate from which it rises.
        decay: How it falls after the warm-up, `"linear"` or `"cosine"`.
        final_learning_rate: The learning rate to which it falls; the training ends one step before.
        momentum: Of SGD; AdamW has none.
        weight_decay: On every parameter. SGD adds it to the gradient. AdamW takes off
            `weight_decay` times the current learning rate of each weight, as Table 6 has it.

    Raises:
        ValueError: If a number is negative or not finite, a learning rate passes the peak, or a
            name is unknown.
    """

    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.1
    warmup_epochs: float = 5.0
    warmup_start: float = 0.0
    decay: Decay = "linear"
    final_learning_rate: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) and not (value >= 0 and math.isfinite(value)):
                raise ValueError(
                    f"TrainingOptions: {field.name} must be 0 or more and finite, got {value!r}"
                )
        for name in ("warmup_start", "final_learning_rate"):
            if getattr(self, name) > self.learning_rate:
                raise ValueError(
                    f"TrainingOptions: {name} must not pass learning_rate={self.learning_rate!r}, "
                    f"the peak, got {getattr(self, name)!r}"
                )
        for name, allowed in (("optimizer", OptimizerName), ("decay", Decay)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(
                    f"TrainingOptions: {name} must be one of {', '.join(get_args(allowed))}, "
                    f"got {getattr(self, name)!r}"
                )

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser at the peak of the learning rate."""
        if self.optimizer == "adamw":
            return torch.optim.AdamW(
                parameters, lr=self.learning_rate, weight_decay=self.weight_decay
            )
        return torch.optim.SGD(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )

    def make_schedule(
        self, optimizer: torch.optim.Optimizer, *, steps_per_epoch: float, total: int
    ) -> LambdaLR:
        """Return the schedule of the learning rate, which moves at every step.

        Args:
            optimizer: From `make_optimizer`.
            steps_per_epoch: Optimiser steps in an epoch.
            total: Optimiser steps in the training.
        """
        warmup = self.warmup_epochs * steps_per_epoch
        peak = self.learning_rate or 1.0
        # A partial, unlike a function made here, goes to other processes with its optimiser.
        factor = functools.partial(
            warmup_then_decay,
            warmup=warmup,
            total=total,
            start=self.warmup_start / peak,
            end=self.final_learning_rate / peak,
            decay=self.decay,
        )
        return LambdaLR(optimizer, factor)


def warmup_then_decay(
    step: int,
    *,
    warmup: float,
    total: int,
    start: float = 0.0,
    end: float = 0.0,
    decay: Decay = "linear",
) -> float:
    """Return the factor on the peak learning rate at a step, counted from 0.

    It rises linearly from `start`, which it would have had one step before the first, to 1 at the
    last step of the warm-up, and falls to `end`, which it would reach at step `total`. So no step
    has a factor of 0, also when the warm-up is longer than the training.

    Args:
        step: The optimiser step.
        warmup: Steps of the warm-up.
        total: Steps of the training.
        start: Factor from which it rises.
        end: Factor to which it falls.
        decay: Shape of the fall.
    """
    rise = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
    left = min(1.0, (total - step) / (total - warmup)) if total > warmup else 1.0
    fall = 0.5 - 0.5 * math.cos(math.pi * max(0.0, left)) if decay == "cosine" else max(0.0, left)
    return min(start + (1 - start) * rise, end + (1 - end) * fall)
