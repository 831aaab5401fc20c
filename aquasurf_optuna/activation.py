"""An expression as a `torch.nn.Module`, and the factory by which networks take it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from aquasurf_optuna.expression import Expression
from aquasurf_optuna.kernels import Computation, Kernel, checked_kernel, default_kernel


class Activation(nn.Module):
    """An activation function as a module without parameters.

    Works for any shape, floating dtype and device, and never writes to its input. Its state dict is
    empty, so swapping it into a network keeps the network's checkpoints readable.

    Args:
        expression: The function, as text or parsed.
        inplace: Accepted because networks pass it to their activations; the input is left alone
            either way, and the result is the same.
        kernel: How it is computed: `"composed"` of torch's functions, `"recomputed"` (only the
            input is kept for the backward pass), `"fused"` (so, and compiled to one kernel forward
            and one backward), or `"auto"`, which fuses a function that is computed often enough to
            pay for it. The numbers are the same up to rounding. None for what the environment
            variable `AQUASURF_KERNEL` says, `"auto"` without it. See `docs/kernels.md`.

    Raises:
        ExpressionError: If a text does not name a function.
        KernelError: If `kernel` is none of these.
        TypeError: If `inplace` is not a bool.
    """

    def __init__(
        self,
        expression: str | Expression,
        *,
        inplace: bool = False,
        kernel: Kernel | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(inplace, bool):
            raise TypeError(f"inplace must be True or False, got {inplace!r}")
        self.expression = as_expression(expression)
        self.kernel = default_kernel() if kernel is None else checked_kernel(kernel)
        self._computation = Computation(self.expression, self.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the function elementwise; see `Expression.__call__`."""
        result = self._computation(x)
        # A caller may change the result in place; it must not be the input under another name.
        return torch.clone(x) if result is x else result

    def __getstate__(self) -> dict[str, Any]:
        # Functions of the user's operators cannot all be pickled; the expression names them.
        return {name: value for name, value in self.__dict__.items() if name != "_computation"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call] # torch leaves it untyped
        self._computation = Computation(self.expression, self.kernel)

    def extra_repr(self) -> str:
        """Show the function in the network's printed form."""
        return str(self.expression)

    @staticmethod
    def factory(expression: str | Expression, *, kernel: Kernel | None = None) -> ActivationFactory:
        """Return a picklable callable that makes a fresh `Activation` at each call.

        Args:
            expression: The function, as text or parsed.
            kernel: As for `Activation`.

        Raises:
            ExpressionError: If a text does not name a function.
            KernelError: If `kernel` is none of its words.
        """
        more = {} if kernel is None else {"kernel": checked_kernel(kernel)}
        return ActivationFactory(Activation, as_expression(expression), **more)


class ActivationFactory(functools.partial[Activation]):
    """What networks take for their activation layer: a call makes a fresh `Activation`.

    A `functools.partial`, because parts of timm accept classes, functions and partials alone. It
    takes `inplace=` as `Activation` does. Made by `Activation.factory`; picklable, and equal to
    another factory of the same expression.
    """

    @property
    def expression(self) -> Expression:
        """The function that every module it makes computes."""
        expression: Expression = self.args[0]
        return expression

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActivationFactory):
            return NotImplemented
        return (self.expression, self.keywords) == (other.expression, other.keywords)

    def __hash__(self) -> int:
        return hash(self.expression)


ActivationLike = str | Expression | Callable[..., nn.Module]
"""What the networks here accept: a text, an expression, or a factory such as `nn.ReLU`."""


def as_expression(expression: str | Expression) -> Expression:
    """Return the parsed form of a text, or the expression itself.

    Raises:
        ExpressionError: If it is neither, or the text does not name a function.
    """
    return expression if isinstance(expression, Expression) else Expression.parse(expression)


def as_factory(activation: ActivationLike) -> Callable[..., nn.Module]:
    """Return an activation factory for a text, an expression, or a factory (which stays itself).

    Raises:
        ExpressionError: If a text does not name a function.
        TypeError: If it is none of these, an `nn.Module` instance for example: one instance cannot
            serve every site of a network.
    """
    if isinstance(activation, (str, Expression)):
        return Activation.factory(activation)
    if isinstance(activation, nn.Module) or not callable(activation):
        raise TypeError(
            "activation must be a text such as 'relu(x)', an Expression, or a factory that returns "
            f"a new module at each call (nn.ReLU is one); got {activation!r}"
        )
    return activation
