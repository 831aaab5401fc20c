"""Slopes by central differences in extended precision: slow, and free of any chain rule."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import torch

from aquasurf_optuna.expression import Expression

STEP = 1e-5


def slopes_by_differences(expression: Expression, points: list[float]) -> np.ndarray:
    """Return the slope of a function at some points, to about eight digits.

    Two steps of different widths cancel the error that grows with their square (Richardson).
    """

    def quotient(x: float, step: float) -> float:
        # The difference of the two inputs, not twice the step: their rounding counts.
        low, high = x - step, x + step
        ends = expression(torch.tensor([low, high], dtype=torch.float64)).tolist()
        return float((Decimal(ends[1]) - Decimal(ends[0])) / (Decimal(high) - Decimal(low)))

    return np.array([(4 * quotient(x, STEP) - quotient(x, 2 * STEP)) / 3 for x in points])
