"""The sums over one layer's uses from which its two Kronecker factors are made.

Locations that share a weight (pixels, tokens, repeated uses of a layer) are treated in one of two
ways (Eschenhagen, Immer, Turner, Schneider and Hennig, "Kronecker-Factored Approximate Curvature
for Modern Neural Network Architectures", NeurIPS 2023):

``expand``
    Every location is a sample of its own (Section 3.1 there; Grosse and Martens 2016; the paper's
    Equations 17 and 18). ``Omega`` is the sum over locations averaged over samples, ``Gamma`` the
    average over both. Exact in a deep linear network whose loss adds up over the locations.
``reduce``
    A sample's activations are averaged and its gradients summed over the locations first (Section
    3.2 there). Exact in a deep linear network that averages over the locations before its loss, and
    cheaper.

Data of float64 networks are divided by a unit, a power of two, where their squares could overflow.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features import _kfac
from aquasurf_optuna.features._calls import Call
from aquasurf_optuna.features._kfac import Factor, Moments, Rows

Sharing = Literal["expand", "reduce"]

# Squares of larger and smaller numbers come near the ends of float64.
_SAFE = (1e-100, 1e100)


class Part(NamedTuple):
    """What one use of a layer adds.

    Attributes:
        data: Moments for "expand"; sums a sample, ``(M, groups, features)``, for "reduce".
        locations: Number of locations that a sample's sums go over.
        unit: By which the data were divided.
        vanishes: Whether all data are zero.
    """

    data: Moments | Rows | Tensor
    locations: int
    unit: float
    vanishes: bool


class Settings(NamedTuple):
    """How the sums are taken, the same for all layers.

    Attributes:
        sharing: "expand" or "reduce".
        samples: ``M``.
        max_uses: Each factor is estimated from so many uses of its layer, see
            :meth:`Call.sampled_moments`; None counts all. For "expand" only.
        seed: Of that draw.
    """

    sharing: Sharing
    samples: int
    max_uses: int | None
    seed: int


class Sums:
    """The sums of one factor: all parts of a pass, and all passes."""

    def __init__(self) -> None:
        self._done: Moments | Rows | None = None
        self._unit = 0.0
        self._pass: Tensor | None = None
        self._uses = self._locations = self._expected = 0
        self._vanishes = True

    def add(self, part: Part) -> None:
        """Add one use."""
        self._vanishes = self._vanishes and part.vanishes
        self._to_unit(part.unit)
        scale = part.unit / self._unit
        if isinstance(part.data, Tensor):
            rows = part.data * scale
            self._pass = rows if self._pass is None else self._pass + rows
            self._locations += part.locations
        else:
            self._add(part.data.scaled(scale))
            self._uses += part.data.uses

    def expect(self, uses: int) -> None:
        """Announce uses of one pass that count also where nothing comes of them."""
        self._expected += uses

    def end_pass(self, *, mean: bool) -> None:
        """Finish a pass; each counts in full.

        Args:
            mean: Whether a sample's sums are divided by the number of locations.
        """
        if self._pass is not None:
            rows = self._pass.flatten(0, 1) / (self._locations if mean else 1)
            self._add(_kfac.position_moments(rows))
            self._uses = len(rows)
        self._total_uses, self._uses, self._locations, self._pass = self._uses, 0, 0, None

    def check(self, what: str, layer: str) -> None:
        """Refuse sums of nothing.

        Raises:
            InvalidSpectrumError: If there are no data, or all are zero.
        """
        if self._done is None:
            raise InvalidSpectrumError(
                f"{what} vanish: the loss does not depend on its output", layer
            )
        if self._vanishes:
            raise InvalidSpectrumError(f"{what} vanish: all are zero", layer)

    def total(self) -> tuple[Moments | Rows, float]:
        """Return the sums, the uses counted once, and their unit; to be checked before."""
        assert self._done is not None
        return self._done._replace(uses=self._expected or self._total_uses), self._unit

    def _add(self, sums: Moments | Rows) -> None:
        if self._done is None:
            self._done = sums
            return
        done, more = self._done.summed(), sums.summed()
        # Not in place: a part may be kept for another network.
        self._done = Moments(done.second + more.second, done.first + more.first, 0)

    def _to_unit(self, unit: float) -> None:
        if unit <= self._unit:
            return
        shrink = self._unit / unit
        if self._done is not None:
            self._done = self._done.scaled(shrink)
        if self._pass is not None:
            self._pass = self._pass * shrink
        self._unit = unit


def activation_part(
    call: Call, inputs: Tensor, settings: Settings, layer: str, *, bias: bool
) -> Part:
    """Sum what a layer's weight sees in one use.

    Raises:
        InvalidSpectrumError: If it is not finite.
        UnsupportedModelError: If "reduce" cannot tell the samples apart.
    """
    what = "the activations that enter"
    # Beside the ones of a bias, small numbers need not be scaled up.
    data, unit, zero = _in_units(inputs, what, layer, smallest=1.0 if bias else 0.0)
    if settings.sharing == "reduce":
        rows, locations = call.sums(data, settings.samples)
        return Part(rows, locations, unit, zero)
    if settings.max_uses is None:
        moments = call.moments(data)
    else:
        moments = call.sampled_moments(data, settings.max_uses, settings.seed)
    return Part(moments, 0, unit, zero)


def gradient_part(call: Call, gradients: Tensor, settings: Settings, layer: str) -> Part:
    """Sum the gradients by the outputs of one use.

    Raises:
        InvalidSpectrumError: If they are not finite.
        UnsupportedModelError: If "reduce" cannot tell the samples apart.
    """
    what = "the gradients that reach it"
    data, unit, zero = _in_units(gradients, what, layer, smallest=0.0)
    if settings.sharing == "reduce":
        rows = call.gradient_sums(data, settings.samples)[:, None]
        return Part(rows, 1, unit, zero)
    if settings.max_uses is None:
        moments = call.gradient_moments(data)
    else:
        moments = call.sampled_gradient_moments(data, settings.max_uses, settings.seed)
    return Part(moments, 0, unit, zero)


def activation_factor(sums: Sums, layer: str, *, samples: int, bias: bool) -> Factor:
    """Compute ``Omega`` (Equation 17).

    Raises:
        InvalidSpectrumError: If the activations vanish.
    """
    sums.check("the activations that enter", layer)
    total, unit = sums.total()
    ones = 1.0 / unit if bias else None
    return _rescaled(_kfac.activation_factor(total, samples=samples, ones=ones), unit)


def gradient_factor(sums: Sums, layer: str) -> Factor:
    """Compute ``Gamma`` (Equation 18).

    Raises:
        InvalidSpectrumError: If the gradients vanish.
    """
    sums.check("the gradients that reach it", layer)
    total, unit = sums.total()
    return _rescaled(_kfac.gradient_factor(total), unit)


def _rescaled(factor: Factor, unit: float) -> Factor:
    return factor._replace(log_scale=factor.log_scale + 2 * math.log(unit))


def _in_units(
    data: Tensor, what: str, layer: str, *, smallest: float
) -> tuple[Tensor, float, bool]:
    """Detach, move to where float64 exists, and divide by a unit where squares could overflow.

    Returns:
        The data, the unit, and whether all are zero.
    """
    data = data.detach()
    data = data.cpu() if data.device.type == "mps" else data
    largest = max(abs(value.item()) for value in data.aminmax()) if data.numel() else 0.0
    # A NaN is both the smallest and the largest.
    if not largest < math.inf:
        raise InvalidSpectrumError(f"{what} are not finite", layer)
    if data.dtype != torch.float64 or largest == 0.0 or _SAFE[0] < largest < _SAFE[1]:
        return data, 1.0, largest == 0.0
    unit = max(smallest, math.ldexp(1.0, math.frexp(largest)[1] - 1))
    return data / unit, unit, False
