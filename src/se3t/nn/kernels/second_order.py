"""Gradients that can be differentiated again, for kernels whose own gradients cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients_of(
    function: Callable[[Sequence[Tensor]], Sequence[Tensor]], tensors: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor | None]:
    """Σ_i grad_i ∂out_i/∂tensor for every tensor, with a graph of its own, so that it has derivatives in turn.

    To be called in the backward pass of an autograd function, where gradients are enabled.

    Args:
        function: tensors → results, in terms of operations that autograd knows.
        tensors: inputs of the autograd function, as saved.
        grads: gradient of every result.

    Returns:
        A gradient for each of ``tensors``; None where none is wanted or nothing depends on the tensor.
    """
    # One input may depend on another, as frames of degree 2 on those of degree 1: views are apart from each other.
    views = [tensor.view_as(tensor) for tensor in tensors]
    wanted = [view for view in views if view.requires_grad]
    results = function(views)
    found = iter(torch.autograd.grad(results, wanted, grads, create_graph=True, allow_unused=True))
    return [next(found) if view.requires_grad else None for view in views]
