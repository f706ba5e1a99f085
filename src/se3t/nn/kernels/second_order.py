"""Gradients in terms of torch's operations, for kernels whose own gradients cannot do all that torch can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from se3t.so3.wrapped import has_memory


def must_be_composed(grads: Sequence[Tensor]) -> bool:
    """Whether gradients may be differentiated again, or come as a batch, which has no memory to read.

    Args:
        grads: gradients of the results, in the backward pass of an autograd function.
    """
    return torch.is_grad_enabled() or not all(map(has_memory, grads))


def is_asked_for(ctx: Any, number: int) -> bool:
    """Whether the backward pass that is running needs the gradient of an input.

    ``ctx.needs_input_grad`` says whether anything might: it is True for the parameters too where forces alone are asked
    for.

    Args:
        ctx: of an autograd function, in its backward pass.
        number: of the input, among those that are tensors.
    """
    node = ctx.next_functions[number][0]
    if node is None or torch.compiler.is_compiling():
        return node is not None
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # it does not tell for a leaf whose gradient torch.autograd.grad asks for
        return True


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
    wanted_grads = iter(torch.autograd.grad(results, wanted, grads, create_graph=again, allow_unused=True))
    return [next(wanted_grads) if view.requires_grad else None for view in views]


def second_gradients_of(
    function: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    saved: Sequence[Tensor],
    num_grads: int,
    cotangents: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradient of Σ_i cotangent_i · (Σ_j grad_j ∂out_j/∂tensor_i) for every grad and every tensor.

    To be called in the backward pass of an autograd function whose forward pass computes gradients.

    Args:
        function: tensors → results, in terms of operations that autograd knows.
        saved: gradients of the results, then the tensors, as saved.
        num_grads: how many of them are gradients.
        cotangents: gradient of the gradient of every tensor; None where there is none.
    """
    with torch.enable_grad():
        views = [tensor.view_as(tensor) for tensor in saved]
        grads, tensors = views[:num_grads], views[num_grads:]
        pairs = [(t, c) for t, c in zip(tensors, cotangents, strict=True) if t.requires_grad and c is not None]
        if not pairs:
            return [None] * len(saved)
        results = function(tensors)
        first = torch.autograd.grad(results, [t for t, _ in pairs], grads, create_graph=True, allow_unused=True)
        acting = [(g, c) for g, (_, c) in zip(first, pairs, strict=True) if g is not None and g.requires_grad]
        wanted = [view for view in views if view.requires_grad]
    if not acting:
        return [None] * len(saved)
    again = torch.is_grad_enabled()
    outputs, incoming = zip(*acting, strict=True)
    result = iter(torch.autograd.grad(outputs, wanted, incoming, create_graph=again, allow_unused=True))
    return [next(result) if view.requires_grad else None for view in views]
