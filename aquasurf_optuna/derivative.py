"""The derivative of an activation function, elementwise, by automatic differentiation."""

from __future__ import annotations

import torch
from torch import Tensor

from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.expression import Expression


def derivative(expression: str | Expression, x: Tensor) -> Tensor:
    """Return the derivative of a function at each input.

    At a kink it is the value that torch chooses there, 0 for `relu` at 0 for example; where an
    intermediate value is not finite it may be NaN though the function has a slope, as backward
    passes through a network see it too.

    Args:
        expression: The function, as text or parsed.
        x: Any shape, any floating dtype, any device; neither written to nor part of a graph.

    Returns:
        A tensor of the same shape, dtype and device, without a graph. The caller may have switched
        gradients off.

    Raises:
        ExpressionError: If a text does not name a function.
        TypeError: If `x` is not a floating tensor.
    """
    parsed = as_expression(expression)
    if not isinstance(x, Tensor):
        raise TypeError(
            f"derivative needs a tensor, got {type(x).__name__}; convert it with torch.as_tensor"
        )
    # Leaving inference mode is what makes a clone of its tensors differentiable.
    with torch.inference_mode(False), torch.enable_grad():
        inputs = x.detach().clone()
        if inputs.is_floating_point():
            inputs.requires_grad_()
        outputs = parsed(inputs)  # refuses a tensor of integers
        (slopes,) = torch.autograd.grad(outputs, inputs, torch.ones_like(outputs))
    return slopes
