"""The rotation that takes a direction to the polar axis, in two charts (no single smooth choice exists)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.compiling import apply, computed, copied, register
from se3t.so3 import native
from se3t.so3.native.frames import fill_frames, frames_gradient
from se3t.so3.safe import safe_normalize
from se3t.so3.wigner import wigner_d_all
from se3t.so3.wrapped import has_memory, is_transforming


def polar_frames(max_degree: int, vectors: Float[Tensor, "vector 3"]) -> tuple[Tensor, ...]:
    """D^0 … D^max_degree of :func:`rotation_to_polar_axis` of the directions of vectors.

    Args:
        max_degree: largest degree, 0 or more.
        vectors: any unit; the zero vector gets finite matrices without meaning, and has no gradient.

    Returns:
        ``D[l]``: ``[vector, 2l+1, 2l+1]``.
    """
    first = torch.ones_like(vectors[:, :1, None])
    if max_degree == 0:
        return (first,)
    if is_transforming() or native.unavailable(vectors.device, vectors.dtype) is not None:
        others = _composed(vectors, max_degree)
    elif torch.compiler.is_compiling():
        others = _operator(vectors, max_degree)
    else:
        others = apply(_PolarFrames, None, vectors, max_degree)
    return first, *others


def rotation_to_polar_axis(direction: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """A rotation R with R d = (0, 1, 0).

    R is only determined up to a rotation about the polar axis. Two charts are used: the smallest rotation for d_y ≥ 0,
    and for d_y < 0 a half turn about x followed by the smallest rotation, so that values and derivatives are finite for
    every direction. Anything that does not depend on the free angle has complete derivatives with respect to d.

    Args:
        direction: unit vectors; a zero vector gets a finite rotation without meaning.

    Returns:
        ``[*batch, 3, 3]``, a view of memory in which the batch comes last, which is how :func:`wigner_d_all` works.
    """
    x, y, z = direction.movedim(-1, 0).contiguous()
    sign = torch.where(y < 0, -1.0, 1.0).to(direction)  # -1 where a half turn about x comes first
    scale = 1 / (1 + y * sign)
    part = x * scale
    mixed = -part * z
    rows = (
        (1 - x * part, -x * sign, mixed),
        (x, y, z),
        (mixed * sign, -z, (1 - z * z * scale) * sign),
    )
    matrix = torch.stack([entry for row in rows for entry in row]).unflatten(0, (3, 3))
    return matrix.movedim((0, 1), (-2, -1))


def _composed(vectors: Tensor, max_degree: int) -> tuple[Tensor, ...]:
    """D^1 … in terms of torch's operations, differentiable any number of times."""
    return wigner_d_all(max_degree, rotation_to_polar_axis(safe_normalize(vectors)))[1:]


def _polar_frames(vectors: Tensor, max_degree: int) -> list[Tensor]:
    """``torch.ops.se3t.polar_frames``: D^1, D^2 …"""
    frames = _without_values(vectors, max_degree)
    if native.unavailable(vectors.device, vectors.dtype) is not None:
        return copied(_composed(vectors, max_degree), frames)
    fill_frames(vectors, frames)
    return frames


def _without_values(vectors: Tensor, max_degree: int) -> list[Tensor]:
    sizes = range(3, 2 * max_degree + 2, 2)
    return [vectors.new_empty(vectors.shape[0], size, size) for size in sizes]


def _gradient(grads: Sequence[Tensor], vectors: Tensor) -> list[Tensor]:
    """``torch.ops.se3t.polar_frames_backward``: gradient of the vectors."""
    return [frames_gradient(grads, vectors)]


def _composed_gradient(grads: Sequence[Tensor], vectors: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = vectors.view_as(vectors) if vectors.requires_grad else vectors.detach().requires_grad_()
        frames = _composed(leaf, len(grads))
    (result,) = torch.autograd.grad(frames, leaf, grads, create_graph=torch.is_grad_enabled())
    return result


class _PolarFrames(torch.autograd.Function):
    """D^1, D^2 … with their gradient."""

    @staticmethod
    def forward(keyset: Any, vectors: Tensor, max_degree: int) -> tuple[Tensor, ...]:
        if keyset is None:  # not by way of the operator
            return tuple(_polar_frames(vectors, max_degree))
        return tuple(computed(_operator, keyset, vectors, max_degree))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, Tensor, int], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[None, Tensor | None, None]:
        (vectors,) = ctx.saved_tensors
        if all(grad is None for grad in grads):
            return None, None, None
        shapes = _without_values(vectors, len(grads))
        given = [shape.zero_() if grad is None else grad for grad, shape in zip(grads, shapes, strict=True)]
        # differentiated again, or a batch of gradients
        if torch.is_grad_enabled() or not all(map(has_memory, given)):
            return None, _composed_gradient(given, vectors), None
        return None, _gradient_operator(given, vectors)[0], None


_operator = register(
    "polar_frames(Tensor vectors, int max_degree) -> Tensor[]",
    _polar_frames,
    _without_values,
    lambda *arguments: list(apply(_PolarFrames, *arguments)),
)
_gradient_operator = register(
    "polar_frames_backward(Tensor[] grads, Tensor vectors) -> Tensor[]",
    _gradient,
    lambda grads, vectors: [vectors.new_empty(vectors.shape)],
    lambda _, grads, vectors: [_composed_gradient(grads, vectors)],
)
