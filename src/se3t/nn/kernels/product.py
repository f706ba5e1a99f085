"""Many small products, in the orientation that small-matrix routines like: a long contiguous inner dimension."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.compiling import apply


def transposed_product(
    left: Float[Tensor, "edge a u"], right: Float[Tensor, "unique b u"]
) -> Float[Tensor, "edge a b"]:
    """Left · rightᵀ for every edge, differentiable twice and more.

    Under autocast both sides take its dtype, as in any product. Where ``right`` has fewer rows, each serves the same
    number of consecutive edges and is read once for all of them.
    """
    if torch.is_autocast_enabled(left.device.type):
        dtype = torch.get_autocast_dtype(left.device.type)
        left, right = left.to(dtype), right.to(dtype)
    is_shared = left.shape[0] != right.shape[0]
    stacked = left.unflatten(0, (right.shape[0], -1)).flatten(1, 2) if is_shared else left
    return cast(Tensor, apply(_TransposedProduct, stacked, right)).view(*left.shape[:2], right.shape[1])


class _TransposedProduct(torch.autograd.Function):
    """Plain autograd makes the gradient of ``right`` transposed: several times slower for wide inner dimensions."""

    @staticmethod
    def forward(left: Tensor, right: Tensor) -> Tensor:
        return left @ right.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        grad = grads[0]
        grad_left = grad @ right if ctx.needs_input_grad[0] else None
        grad_right = grad.mT @ left if ctx.needs_input_grad[1] else None
        return grad_left, grad_right
