"""Whether a tensor is an ordinary one, or somebody watches what is computed of it."""

from __future__ import annotations

import torch
from torch import Tensor


def is_wrapped(x: Tensor) -> bool:
    """Say whether a tensor is another's stand-in: traced, batched, faked, or of a user's class."""
    return (
        type(x) not in (Tensor, torch.nn.Parameter)
        or torch._C._functorch.is_functorch_wrapped_tensor(x)
        or torch._C._len_torch_dispatch_stack() > 0
    )
