"""Norms of features, and features times factors, all degrees at once, in terms of torch's operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from se3t.compiling import apply
from se3t.so3.safe import is_zero


def norms_of(values: Sequence[Tensor], min_norm: float = 0.0) -> tuple[Tensor, Tensor, list[Tensor]]:
    """‖f‖ of features ``[..., C_l, 2l+1]``.

    Args:
        values: the features of every degree.
        min_norm: norms below this count as this.

    Returns:
        The norms of all degrees one after the other in one dimension, their inverses (of ‖f‖ itself; 0 for f = 0), and
        the norms ``[..., C_l]`` of every degree.
    """
    norm, inverse = apply(_NormAndInverse, *values)
    if min_norm:
        norm = norm.clamp(min=min_norm)
    sizes = norm.split(sizes_of(values))
    return norm, inverse, [part.view(value.shape[:-1]) for part, value in zip(sizes, values, strict=True)]


def scaled(factor: Tensor, values: Sequence[Tensor]) -> list[Tensor]:
    """Features ``[..., C_l, 2l+1]`` times factors, those of one degree after the other in one dimension."""
    return list(apply(_Scale, factor, *values))


class _NormAndInverse(torch.autograd.Function):
    """‖f‖ and 1/‖f‖ of features ``[..., C_l, 2l+1]``, one degree after the other in one dimension; 0 and 0 for f = 0.

    The gradient (g − g' /‖f‖²) f/‖f‖ is made of saved inputs and outputs by plain operations: it has all derivatives.
    """

    @staticmethod
    def forward(*values: Tensor) -> tuple[Tensor, Tensor]:
        square = torch.cat([_dot(value, value) for value in values])
        inverse = square.masked_fill(is_zero(square, square.dtype), torch.inf).rsqrt_()
        return square * inverse, inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1], *inputs)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_norm: Tensor | None, grad_inverse: Tensor | None) -> tuple[Tensor | None, ...]:
        inverse, *values = ctx.saved_tensors
        if grad_inverse is not None:
            part = -grad_inverse * inverse * inverse
            grad_norm = part if grad_norm is None else grad_norm + part
        if grad_norm is None:
            return (None,) * len(values)
        return _multiply(grad_norm * inverse, values)


class _Scale(torch.autograd.Function):
    """factor · f for features ``[..., C_l, 2l+1]``, the factors one degree after the other in one dimension."""

    @staticmethod
    def forward(factor: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return _multiply(factor, values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        factor, *values = ctx.saved_tensors
        dots = torch.cat([_dot(grad, value) for grad, value in zip(grads, values, strict=True)])
        return dots, *_multiply(factor, grads)


def sizes_of(values: Sequence[Tensor]) -> list[int]:
    """Numbers of features of every degree."""
    return [math.prod(value.shape[:-1]) for value in values]


def _multiply(factor: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
    factors = factor.split(sizes_of(values))
    return tuple(one.view(value.shape[:-1])[..., None] * value for one, value in zip(factors, values, strict=True))


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Σ over the components, flat."""
    product = (left * right).reshape(-1, left.shape[-1])
    if product.shape[1] == 1:
        return product[:, 0]
    # on a CPU the product with a vector of ones takes a third of the time of a sum of so few numbers
    return torch.mv(product, product.new_ones(product.shape[1])) if product.device.type == "cpu" else product.sum(1)
