"""Many small products, in the orientation that small-matrix routines like: a long contiguous inner dimension, forward and backward."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def transposed_product(left: Tensor, right: Tensor) -> Tensor:
    """Left · rightᵀ for every edge: ``[edge, a, u], [edge, b, u] → [edge, a, b]``; differentiable any number of times."""
    return cast(Tensor, _TransposedProduct.apply(left, right))


class _TransposedProduct(torch.autograd.Function):
    """Plain autograd would make the gradient of ``right`` transposed, several times slower for wide inner dimensions."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return left @ right.mT

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        grad = grads[0]
        grad_left = grad @ right if ctx.needs_input_grad[0] else None
        grad_right = grad.mT @ left if ctx.needs_input_grad[1] else None
        return grad_left, grad_right
