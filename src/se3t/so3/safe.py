"""Norm and direction with finite derivatives at the zero vector."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def safe_norm(x: Float[Tensor, "*shape"], dim: int = -1, keepdim: bool = False) -> Float[Tensor, "*reduced"]:
    """Euclidean norm ‖x‖ along ``dim``; at x = 0 the value and all derivatives are 0.

    A vector shorter than tiny^0.3 of its dtype (4e-12 in float32, 5e-93 in float64) counts as zero: below that the
    powers 1/‖x‖³ on the way to second derivatives leave the range of the dtype, and soon the squares lose digits.

    Args:
        x: any shape, any unit.
        dim: the dimension to reduce.
        keepdim: keep the reduced dimension with size 1.

    Returns:
        The norm, in the unit of ``x``, with ``dim`` removed (or of size 1).
    """
    zero, length = masked_norm(x, dim, x.dtype)
    norm = torch.where(zero, 0, length)
    return norm if keepdim else norm.squeeze(dim)


def safe_normalize(
    x: Float[Tensor, "*shape"], dim: int = -1, work_dtype: torch.dtype | None = None
) -> Float[Tensor, "*shape"]:
    """Direction x/‖x‖ along ``dim``; at x = 0, as :func:`safe_norm` defines it, the value and all derivatives are 0.

    Args:
        x: any shape, any unit.
        dim: the dimension that holds the components of a vector.
        work_dtype: dtype to compute in (default: that of ``x``); float64 leaves a float32 result one rounding.

    Returns:
        Vectors of length one, or zero, of the shape and dtype of ``x``.
    """
    work = x if work_dtype is None else x.to(work_dtype)
    zero, length = masked_norm(work, dim, x.dtype)
    return torch.where(zero, 0, work / length).to(x.dtype)


def masked_norm(x: Tensor, dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mask of the vectors that are zero in ``dtype``, and all norms with 1 in place of theirs; ``dim`` has size 1.

    The first of two ``where``: the root of zero and the division by zero are never formed, nor are their derivatives.
    """
    square = (x * x).sum(dim, keepdim=True)
    zero = is_zero(square, dtype)
    return zero, torch.where(zero, 1, square).sqrt()


def is_zero(square: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether a vector of this squared length counts as zero in ``dtype``: see :func:`safe_norm`."""
    return square < zero_square(dtype)


def zero_square(dtype: torch.dtype) -> float:
    """The squared length below which a vector counts as zero in ``dtype``."""
    return float(torch.finfo(dtype).tiny ** 0.6)
