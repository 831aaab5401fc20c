"""A function's shape in a line of text, for places where no curve can be drawn."""

from __future__ import annotations

import numpy as np
import torch

from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import INPUT_BOUND

_BLOCKS = "▁▂▃▄▅▆▇█"
_GAP = "·"
# Beyond these a curve is cut, so that a steep end does not flatten all the rest.
_LIMIT = 6.0


def sparkline(expression: Expression, *, width: int = 16) -> str:
    """Draw a function over inputs from -5 to 5 with eight heights.

    Args:
        expression: The function.
        width: How many characters.

    Returns:
        A character for each input: from its lowest to its highest value, cut at -6 and 6; a dot
        where the value is NaN. A constant function is a line at half height.
    """
    inputs = torch.linspace(-INPUT_BOUND, INPUT_BOUND, width, dtype=torch.float64)
    values = np.clip(expression(inputs).numpy(), -_LIMIT, _LIMIT)
    known = np.isfinite(values)
    if not known.any():
        return _GAP * width
    low, high = values[known].min(), values[known].max()
    scaled = (values - low) / (high - low) if high > low else np.full(width, 0.5)
    steps = np.minimum(np.nan_to_num(scaled) * len(_BLOCKS), len(_BLOCKS) - 1).astype(int)
    return "".join(
        _BLOCKS[step] if is_known else _GAP for step, is_known in zip(steps, known, strict=True)
    )
