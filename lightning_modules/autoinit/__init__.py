"""Analytic signal-preserving initialisation for any network whose forward pass can be followed.

Garrett Bingham, Risto Miikkulainen: "AutoInit: Analytic Signal-Preserving Weight Initialization for
Neural Networks", AAAI 2023, arXiv:2109.08958. The AQuaSurF paper trains with it (Tables 5 and 6),
because with torch's own initialisation most activation functions learn nothing in few steps.

From left to right: `_quadrature` integrates functions of Gaussians; `_signal` holds what is known
of a tensor; `_call` is one operation, for which `_arithmetic`, `_layout`, `_weighted`, `_averages`
and `_norms` have rules; `_trace` runs the forward pass; `_initialize` draws the weights.
"""

from lightning_modules.autoinit._initialize import autoinit_

__all__ = ["autoinit_"]
