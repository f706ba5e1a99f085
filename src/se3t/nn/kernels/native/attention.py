"""Softmax and weighted sums over the incoming edges of each node, by the compiled code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import scatter, softmax

from se3t.compiling import computed, copied, lazy, register
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.nn.kernels.native.compiler import compiled, require, unavailable
from se3t.nn.kernels.native.structures import Member, component_major, field_members, structure
from se3t.nn.kernels.second_order import gradients_of, must_be_composed, second_gradients_of
from se3t.nn.precision import at_least_float32
from se3t.so3.wrapped import has_memory


@dataclass(frozen=True)
class Shape:
    """What a layer fixes."""

    num_heads: int
    fiber_key: Fiber
    fiber_value: Fiber
    scale: float
    joint: bool  # whether values and keys come as one message

    @lazy
    def fiber_joint(self) -> Fiber:
        """Types and channels of values and keys as one message."""
        return self.fiber_value + self.fiber_key

    @lazy
    def signature(self) -> str:
        """The text that the operators take."""
        return json.dumps([self.num_heads, repr(self.fiber_key), repr(self.fiber_value), self.scale, self.joint])

    @classmethod
    @cache
    def parse(cls, signature: str) -> Shape:
        """Undo :attr:`signature`."""
        num_heads, fiber_key, fiber_value, scale, joint = json.loads(signature)
        return cls(num_heads, Fiber(fiber_key), Fiber(fiber_value), scale, joint)


def attend(shape: Shape, query: Features, messages: Sequence[Features], geometry: EdgeGeometry) -> Features:
    """Σ_j α_ij v_ij with α_ij = softmax_j(scale · q_iᵀ k_ij), per head.

    Args:
        shape: heads, fibers, scale.
        query: ``[node, C_key, 2l+1]`` by degree.
        messages: values and keys ``[edge, C, 2l+1]`` by degree, or one that has values as its first channels and keys
            as the others; its gradient then comes in one piece.
        geometry: targets of the edges.

    Returns:
        ``[node, C_value, 2l+1]`` by degree, the channels of a component next to each other in memory.

    Raises:
        ValueError: when a tensor has not one row for every node or edge.
    """
    tensors = [*query.values(), *(value for part in messages for value in part.values())]
    require(geometry.length.device, geometry.length.dtype)
    *out, _ = attend_operator(tensors, *geometry.incoming, shape.signature)
    return dict(zip(shape.fiber_value, out, strict=True))


def composed(shape: Shape, query: Features, key: Features, value: Features, target: Tensor, num_nodes: int) -> Features:
    """The same in terms of torch's operations, differentiable any number of times."""
    weights = attention_weights(shape, query, key, target, num_nodes)
    messages = _heads(value, shape.fiber_value, shape.num_heads) * weights[..., None]
    summed = scatter(messages, target, 0, num_nodes, "sum")
    sizes = [channels // shape.num_heads * (2 * degree + 1) for degree, channels in shape.fiber_value.items()]
    return {
        degree: part.reshape(num_nodes, shape.fiber_value[degree], 2 * degree + 1)
        for degree, part in zip(shape.fiber_value, summed.split(sizes, dim=2), strict=True)
    }


def attention_weights(shape: Shape, query: Features, key: Features, target: Tensor, num_nodes: int) -> Tensor:
    """α_ij: ``[edge, head]``, summing to one over the edges of each target."""
    queries, keys = (_heads(part, shape.fiber_key, shape.num_heads) for part in (query, key))
    logits = (queries.index_select(0, target) * keys).sum(dim=2) * shape.scale
    return softmax(logits, target, num_nodes=num_nodes)


def _heads(features: Features, fiber: Fiber, num_heads: int) -> Tensor:
    """``[point, head, feature]``, in float32 or better."""
    parts = [features[degree].unflatten(1, (num_heads, -1)).flatten(2) for degree in fiber]
    return at_least_float32(torch.cat(parts, dim=2))


def _channels_together(value: Tensor) -> Tensor:
    return value if value.stride(1) == 1 or value.shape[1] == 1 else value.mT.contiguous().mT


def _attend(tensors: Sequence[Tensor], start: Tensor, edge: Tensor, signature: str) -> list[Tensor]:
    """``torch.ops.se3t.attend``: features of every degree, and the weights α, for the gradient alone."""
    shape = Shape.parse(signature)
    *out, weights = _attend_shapes(tensors, start, edge, signature)
    if unavailable(start.device, weights.dtype):
        return [*copied(_composed(shape, start, edge, tensors), out), weights]
    count = len(shape.fiber_key)
    _check(tensors[:count], tensors[count:], len(start) - 1, len(edge))
    _Run(shape, tensors, (start, edge), weights)(0, out=out)
    return [*out, weights]


def _attend_shapes(tensors: Sequence[Tensor], start: Tensor, edge: Tensor, signature: str) -> list[Tensor]:
    shape, like, num_nodes = Shape.parse(signature), tensors[0], start.shape[0] - 1
    out = [component_major(num_nodes, channels, 2 * degree + 1, like) for degree, channels in shape.fiber_value.items()]
    return [*out, like.new_empty(edge.shape[0], shape.num_heads)]


def _attend_backward(
    grads: Sequence[Tensor], tensors: Sequence[Tensor], weights: Tensor, start: Tensor, edge: Tensor, signature: str
) -> list[Tensor]:
    """``torch.ops.se3t.attend_backward``: a gradient of every tensor."""
    shape = Shape.parse(signature)
    result = _attend_backward_shapes(grads, tensors, weights, start, edge, signature)
    _Run(shape, tensors, (start, edge), weights)(1, grads=grads, grads_in=result)
    return result


def _attend_backward_shapes(grads: Sequence[Tensor], tensors: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return [component_major(tensor.shape[0], tensor.shape[1], tensor.shape[2], tensor) for tensor in tensors]


class _Attend(torch.autograd.Function):
    """``attend`` with its gradient, which is an operator again."""

    @staticmethod
    def forward(ctx: Any, keyset: Any, others: tuple[Any, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        out = tuple(computed(attend_operator, keyset, tensors, *others))
        ctx.others = others
        ctx.mark_non_differentiable(out[-1])
        ctx.set_materialize_grads(False)  # no zeros for the weights
        ctx.save_for_backward(*tensors, out[-1])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, weights = ctx.saved_tensors
        start, edge, signature = ctx.others
        received = [
            tensors[0].new_zeros(shape.shape) if grad is None else grad
            for grad, shape in zip(grads[:-1], _attend_shapes(tensors, *ctx.others), strict=False)
        ]
        if all(map(has_memory, received)):
            return (None, None, *attend_backward(received, tensors, weights, start, edge, signature))
        function = partial(_composed, Shape.parse(signature), start, edge)  # a batch of gradients
        return (None, None, *gradients_of(function, tensors, received))


class _Gradients(torch.autograd.Function):
    """``attend_backward`` with its gradient: compiled where it is not to be differentiated again."""

    @staticmethod
    def forward(ctx: Any, keyset: Any, num_grads: int, others: tuple[Any, ...], *tensors: Tensor) -> Any:
        ctx.others, ctx.num_grads = others[1:], num_grads
        ctx.save_for_backward(*tensors, others[0])
        ctx.set_materialize_grads(False)
        return tuple(computed(attend_backward, keyset, tensors[:num_grads], tensors[num_grads:], *others))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        start, edge, signature = ctx.others
        *saved, weights = ctx.saved_tensors
        shape, count = Shape.parse(signature), ctx.num_grads
        given = [value for value in cotangents if value is not None]
        if must_be_composed(given) or unavailable(start.device, weights.dtype):
            function = partial(_composed, shape, start, edge)
            return (None, None, None, *second_gradients_of(function, saved, count, cotangents))
        grads, tensors = saved[:count], saved[count:]
        zero = [torch.zeros_like(t) if c is None else c for t, c in zip(tensors, cotangents, strict=True)]
        return (None, None, None, *_second_gradients(shape, start, edge, grads, tensors, weights, zero))


def _second_gradients(
    shape: Shape,
    start: Tensor,
    edge: Tensor,
    grads: Sequence[Tensor],
    tensors: Sequence[Tensor],
    weights: Tensor,
    cotangents: Sequence[Tensor],
) -> list[Tensor]:
    """The result of ``second_gradients_of`` by the compiled code."""
    result = _attend_backward_shapes(grads, tensors)
    out = [torch.empty_like(grad) for grad in grads]
    run = _Run(shape, tensors, (start, edge), weights)
    run(2, grads=grads, grads_in=result, tangents=[_channels_together(v) for v in cotangents], out_tangents=out)
    return [*out, *result]


def _recorded(keyset: Any, tensors: Sequence[Tensor], *others: Any) -> list[Tensor]:
    return list(_Attend.apply(keyset, others, *tensors))


def _recorded_gradients(keyset: Any, grads: Sequence[Tensor], tensors: Sequence[Tensor], *others: Any) -> list[Tensor]:
    return list(_Gradients.apply(keyset, len(grads), others, *grads, *tensors))


attend_operator = register(
    "attend(Tensor[] tensors, Tensor start, Tensor edge, str signature) -> Tensor[]",
    _attend,
    _attend_shapes,
    _recorded,
)
attend_backward = register(
    "attend_backward(Tensor[] grads, Tensor[] tensors, Tensor weights, Tensor start, Tensor edge, str signature) "
    "-> Tensor[]",
    _attend_backward,
    _attend_backward_shapes,
    _recorded_gradients,
)


def _split(shape: Shape, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Queries, values, keys; views where values and keys come together."""
    count, first, second = len(shape.fiber_key), shape.fiber_value, shape.fiber_key
    query, messages = list(tensors[:count]), tensors[count:]
    if not shape.joint:
        return query, list(messages[: len(first)]), list(messages[len(first) :])
    by_degree = dict(zip(shape.fiber_joint, messages, strict=True))
    value = [by_degree[degree][:, : first[degree]] for degree in first]
    return query, value, [by_degree[degree][:, first.get(degree, 0) :] for degree in second]


def _composed(shape: Shape, start: Tensor, edge: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    query, value, key = _split(shape, tensors)
    queries, keys = (dict(zip(shape.fiber_key, part, strict=True)) for part in (query, key))
    target = torch.empty_like(edge)
    target[edge] = torch.repeat_interleave(start.diff())
    out = composed(shape, queries, keys, dict(zip(shape.fiber_value, value, strict=True)), target, start.shape[0] - 1)
    return [out[degree] for degree in shape.fiber_value]


def _check(query: Sequence[Tensor], messages: Sequence[Tensor], num_nodes: int, num_edges: int) -> None:
    """The compiled code sees addresses only."""
    for name, tensors, expected, rows in (
        ("query", query, num_nodes, "nodes"),
        ("messages", messages, num_edges, "edges"),
    ):
        for tensor in tensors:
            if len(tensor) != expected:
                raise ValueError(
                    f"{name} of degree {tensor.shape[-1] // 2}: expected {expected} {rows}, got {len(tensor)}"
                )


@dataclass(frozen=True)
class _Run:
    """Calls of the compiled code."""

    shape: Shape
    tensors: Sequence[Tensor]
    place: tuple[Tensor, Tensor]
    weights: Tensor

    def __call__(
        self,
        derivative: int,
        *,
        out: Sequence[Tensor] = (),
        grads: Sequence[Tensor] = (),
        grads_in: Sequence[Tensor] = (),
        tangents: Sequence[Tensor] = (),
        out_tangents: Sequence[Tensor] = (),
    ) -> None:
        """Run it; ``grads``, ``out_tangents`` belong to the results, ``grads_in``, ``tangents`` to the tensors."""
        shape = self.shape
        start, edge = (indices.contiguous() for indices in self.place)
        tensors = [_channels_together(tensor) for tensor in self.tensors]
        members: list[Member] = [
            len(start) - 1,
            shape.num_heads,
            max(1, min(torch.get_num_threads(), len(edge) // 64)),
            len(shape.fiber_key),
            len(shape.fiber_value),
            shape.fiber_key.degrees,
            list(shape.fiber_key.values()),
            shape.fiber_value.degrees,
            list(shape.fiber_value.values()),
            start.data_ptr(),
            edge.data_ptr(),
            float(shape.scale),
            *_members(shape, tensors),
            field_members(out),
            self.weights.data_ptr(),
            field_members(grads),
            *_members(shape, grads_in),
            *_members(shape, tangents),
            field_members(out_tangents),
        ]
        if compiled(self.weights.dtype).attend(structure(members), derivative):
            raise MemoryError("the compiled attention found no memory")


def _members(shape: Shape, tensors: Sequence[Tensor]) -> tuple[list[int], list[int], list[int]]:
    """Of queries, keys, values, as arrays of the structure; none without tensors."""
    if not tensors:
        return [], [], []
    count = len(shape.fiber_key)
    query, messages = field_members(tensors[:count]), tensors[count:]
    if not shape.joint:
        values = len(shape.fiber_value)
        return query, field_members(messages[values:]), field_members(messages[:values])
    keys, values_first = [], []
    for degree, message in zip(shape.fiber_joint, messages, strict=True):
        place, strides, first = message.data_ptr(), message.stride(), shape.fiber_value.get(degree, 0)
        if first:
            values_first += [place, *strides]
        if degree in shape.fiber_key:
            keys += [place + first * strides[1] * message.element_size(), *strides]
    return query, keys, values_first
