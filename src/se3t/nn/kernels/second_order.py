"""Gradients in terms of torch's operations, for kernels whose own gradients cannot do all that torch can."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from se3t.so3.wrapped import has_memory


def must_be_composed(grads: Sequence[Tensor]) -> bool:
    """Whether gradients may be differentiated again, or come as a batch, which has no memory to read.

    Args:
        grads: gradients of the results, in the backward pass of an autograd function.
    """
    return torch.is_grad_enabled() or not all(map(has_memory, grads))


def gradients_of(
    function: Callable[[Sequence[Tensor]], Sequence[Tensor]], tensors: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor | None]:
    """Σ_i grad_i ∂out_i/∂tensor for every tensor, with a graph of its own where gradients are enabled.

    To be called in the backward pass of an autograd function.

    Args:
        function: tensors → results, in terms of operations that autograd knows.
        tensors: inputs of the autograd function, as saved.
        grads: gradient of every result.

    Returns:
        A gradient for each of ``tensors``; None where none is wanted or nothing depends on the tensor.
    """
    # One input may depend on another, as frames of degree 2 on those of degree 1: views are apart from each other.
    with torch.enable_grad():
        views = [tensor.view_as(tensor) for tensor in tensors]
        wanted = [view for view in views if view.requires_grad]
        results = function(views)
    again = torch.is_grad_enabled()
    found = iter(torch.autograd.grad(results, wanted, grads, create_graph=again, allow_unused=True))
    return [next(found) if view.requires_grad else None for view in views]
