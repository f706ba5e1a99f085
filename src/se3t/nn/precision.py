"""Sums are taken in float32 at least, whatever the precision of their terms."""

from __future__ import annotations

import torch
from torch import Tensor


def accumulated(value: Tensor) -> Tensor:
    """``value`` in float32 where it has fewer bits, else as it is: terms of a sum over edges or features."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
