"""Softmax and weighted sums over the incoming edges of each node, by the compiled code."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.nn.kernels.native.compiler import compiled, require
from se3t.nn.kernels.native.structures import Attention, component_major, fields, integers
from se3t.nn.kernels.second_order import gradients_of, must_be_composed
from se3t.so3.wrapped import is_transforming


@dataclass(frozen=True)
class Shape:
    """What a layer fixes."""

    num_heads: int
    fiber_key: Fiber
    fiber_value: Fiber
    scale: float
    joint: bool  # whether values and keys come as one message


def attend(
    composed: Callable[[Features, Features, Features], Features],
    shape: Shape,
    query: Features,
    messages: Sequence[Features],
    geometry: EdgeGeometry,
) -> Features:
    """Σ_j α_ij v_ij with α_ij = softmax_j(scale · q_iᵀ k_ij), per head.

    Args:
        composed: the same function of query, key and value in terms of torch's operations, for second derivatives.
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
    fibers = (shape.fiber_value + shape.fiber_key,) if shape.joint else (shape.fiber_value, shape.fiber_key)
    require(geometry.length.device, geometry.length.dtype)
    tensors = [
        *(query[degree] for degree in shape.fiber_key),
        *(_channels_together(part[degree]) for part, fiber in zip(messages, fibers, strict=True) for degree in fiber),
    ]
    for degree, value in query.items():
        if len(value) != geometry.num_nodes:
            raise ValueError(f"query of degree {degree}: expected {geometry.num_nodes} nodes, got {len(value)}")
    for part in messages:
        for degree, value in part.items():
            if len(value) != len(geometry.source):
                edges = len(geometry.source)
                raise ValueError(f"messages of degree {degree}: expected {edges} edges, got {len(value)}")
    if is_transforming():
        out = _composed(composed, shape, tensors)
    else:
        out = _Attend.apply(composed, shape, geometry, *tensors)
    return dict(zip(shape.fiber_value, out, strict=True))


def _channels_together(value: Tensor) -> Tensor:
    return value if value.stride(1) == 1 or value.shape[1] == 1 else value.mT.contiguous().mT


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, composed: Any, shape: Shape, geometry: EdgeGeometry, *tensors: Tensor) -> tuple[Tensor, ...]:
        call = _Call(shape, geometry, tensors)
        out = tuple(
            component_major(geometry.num_nodes, channels, 2 * degree + 1, tensors[0])
            for degree, channels in shape.fiber_value.items()
        )
        weights = tensors[0].new_empty(len(geometry.source), shape.num_heads)
        call.run({"out": fields(out)}, weights, backward=False)
        ctx.composed, ctx.shape, ctx.geometry = composed, shape, geometry
        ctx.save_for_backward(*tensors, weights)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, weights = ctx.saved_tensors
        if must_be_composed(grads):
            found = gradients_of(partial(_composed, ctx.composed, ctx.shape), tensors, grads)
        else:
            call = _Call(ctx.shape, ctx.geometry, tensors)
            own = [_empty_like(tensor) for tensor in tensors]
            query, value, key = _split(ctx.shape, own)
            parts = {"query_grads": query, "key_grads": key, "value_grads": value, "out_grads": list(grads)}
            call.run({name: fields(part) for name, part in parts.items()}, weights, backward=True)
            found = list(own)
        return (None, None, None, *found)


def _split(shape: Shape, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Queries, values, keys; views where values and keys come together."""
    count, first, second = len(shape.fiber_key), shape.fiber_value, shape.fiber_key
    query, messages = list(tensors[:count]), tensors[count:]
    if not shape.joint:
        return query, list(messages[: len(first)]), list(messages[len(first) :])
    by_degree = dict(zip(first + second, messages, strict=True))
    value = [by_degree[degree][:, : first[degree]] for degree in first]
    return query, value, [by_degree[degree][:, first.get(degree, 0) :] for degree in second]


def _empty_like(tensor: Tensor) -> Tensor:
    rows, channels, components = tensor.shape
    return component_major(rows, channels, components, tensor)


def _composed(composed: Callable[..., Features], shape: Shape, tensors: Sequence[Tensor]) -> list[Tensor]:
    query, value, key = _split(shape, tensors)
    by_key = [dict(zip(shape.fiber_key, part, strict=True)) for part in (query, key)]
    out = composed(*by_key, dict(zip(shape.fiber_value, value, strict=True)))
    return [out[degree] for degree in shape.fiber_value]


class _Call:
    """One call of the compiled code; it keeps alive what the pointers point to."""

    def __init__(self, shape: Shape, geometry: EdgeGeometry, tensors: Sequence[Tensor]) -> None:
        query, value, key = _split(shape, tensors)
        self.tensors = tensors
        self.start, self.edge = geometry.incoming
        self.numbers = {
            "num_nodes": geometry.num_nodes,
            "num_heads": shape.num_heads,
            "num_threads": max(1, min(torch.get_num_threads(), len(geometry.source) // 64)),
            "num_keys": len(shape.fiber_key),
            "num_values": len(shape.fiber_value),
            "scale": shape.scale,
        }
        self.arrays: dict[str, Any] = {
            "key_degrees": integers(shape.fiber_key.degrees),
            "key_channels": integers(shape.fiber_key.values()),
            "value_degrees": integers(shape.fiber_value.degrees),
            "value_channels": integers(shape.fiber_value.values()),
            "query": fields(query),
            "key": fields(key),
            "value": fields(value),
        }

    def run(self, arrays: dict[str, Any], weights: Tensor, *, backward: bool) -> None:
        call = Attention(**self.numbers)
        for name, array in (self.arrays | arrays).items():
            setattr(call, name, ctypes.addressof(array))
        call.start, call.edge, call.weights = self.start.data_ptr(), self.edge.data_ptr(), weights.data_ptr()
        if compiled(weights.dtype).attend(ctypes.byref(call), int(backward)):
            raise MemoryError("the compiled attention found no memory")
