"""Wrapped tensors: those of ``is_grads_batched=True``, and those of ``torch.func``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def has_memory(tensor: Tensor) -> bool:
    """Whether a tensor has accessible storage; a batch of gradients has none."""
    try:
        tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return False
    return True


def is_transforming() -> bool:
    """Whether this is called inside ``torch.func.grad``, ``vmap`` and the like, or in forward-mode differentiation."""
    if torch._C._are_functorch_transforms_active():
        return True
    return not torch.compiler.is_compiling() and forward_ad._current_level >= 0
