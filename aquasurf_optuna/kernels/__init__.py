"""How activation functions are computed: what is kept, what is fused, and safe slopes."""

from aquasurf_optuna.kernels._choice import (
    Computation,
    Kernel,
    KernelWarning,
    checked_kernel,
    default_kernel,
)

__all__ = ["Computation", "Kernel", "KernelWarning", "checked_kernel", "default_kernel"]
