"""The compiled kernel of CPUs: everything between node features and messages in one pass over blocks of edges.

Per block of 32 rows of radial units it makes the units, turns the source features into the frames of their edges,
makes the radial weights of a few rows of the matrix that couples equal orders (:mod:`se3t.nn.kernels.edge_frame`),
multiplies, and forgets them. Backward does the same again and collects the gradients. Nothing is kept but the inputs.

Exact, and cheaper than counting suggests: rows are sorted by their invariants, so the units that ReLU has set to zero
are mostly the same ones throughout a block. They are left out of all four products; no gradient passes them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from se3t.fiber import Features, Fiber
from se3t.geometry import RadialRows
from se3t.nn.basis import EquivariantBasis
from se3t.nn.kernels import Sources
from se3t.nn.kernels.edge_frame import composed_messages, mend, path_to_order
from se3t.nn.kernels.native.compiler import compiled, require, unavailable
from se3t.nn.kernels.native.structures import (
    Convolution,
    address,
    addresses,
    component_major,
    fields,
    integers,
)
from se3t.nn.kernels.orders import Layout
from se3t.nn.kernels.second_order import gradients_of, must_be_composed
from se3t.nn.radial import RadialNetwork, trunk_layer
from se3t.so3.wrapped import is_transforming

__all__ = ["MAX_DEGREE", "messages", "require", "unavailable"]

MAX_DEGREE = 12
"""Largest degree that the compiled code has room for."""

Pair: TypeAlias = tuple[int, int]
_ERRORS = {  # by what the compiled code returns
    1: (MemoryError, "the compiled kernel found no memory for this convolution"),
    2: (
        ValueError,
        f"kernel native has degrees 0 to {MAX_DEGREE}, and at least one in and one out; use kernel edge_frame",
    ),
    3: (IndexError, "edge_index: an edge comes from a node that is not there"),
}
_SUMS_BYTES = 4 * 2**30
_BLOCK = 32  # rows of radial units in a block, as in product.h


def messages(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
    """The same sum as the reference kernel, arguments and result alike; ``memory`` has no effect.

    Results lie in memory with the channels of a component next to each other. Under autocast it computes in float32.

    Raises:
        NativeUnavailableError: when there is no compiled code for these tensors.
        ValueError, IndexError: when a tensor is not of the type or the size that the others ask for.
    """
    length = basis.geometry.length
    require(length.device, length.dtype)
    radial.check(basis.geometry)
    edge_features = sources.edge_features
    shape = _Shape.of(radial, Fiber({degree: value.shape[1] for degree, value in edge_features.items()}))
    rows = basis.geometry.radial_rows
    _check_rows(sources, shape, rows.num_edges)
    index = sources.index if sources.features else None  # without any, each edge has an empty row of its own
    index = None if index is None else index.to(torch.int64).contiguous()
    dtype = length.dtype
    with torch.autocast("cpu", enabled=False):
        inputs = _Inputs(
            features=tuple(sources.features[degree].to(dtype) for degree in shape.fiber_point),
            edge_features=tuple(edge_features[degree].to(dtype) for degree in shape.fiber_edge),
            frames=tuple(basis.frame(degree) for degree in shape.frame_degrees),
            invariants=rows.invariants(basis.geometry).to(dtype),
            hidden=tuple(parameter.to(dtype) for parameter in radial.trunk_parameters()),
            layers=tuple(tuple(radial.own_parameters(*pair)) for pair in shape.pairs),
        )
        if any(tensor.dtype != dtype for tensor in inputs.flat()):
            raise ValueError(f"positions are {dtype}, the parameters are not: convert the graph or the model")
        if is_transforming():
            outputs = _composed(shape, rows, index, inputs.flat())
        else:
            outputs = _Messages.apply(shape, rows, index, *inputs.flat())
        out = dict(zip(radial.fiber_out, outputs, strict=True))
        if basis.coincident.numel() == 0:
            return out
        return mend(out, sources.gathered(), radial(basis.geometry), radial, basis)


def _check_rows(sources: Sources, shape: _Shape, num_edges: int) -> None:
    """The compiled code sees addresses only: what does not fit is found here or never."""
    shape.fiber_point.check(sources.features)
    index = sources.index
    points = num_edges if index is None else len(next(iter(sources.features.values()), index))
    counts = {
        "index": (num_edges if index is None else len(index), num_edges),
        **{f"features of degree {degree}": (len(value), points) for degree, value in sources.features.items()},
        **{f"edge_features of degree {d}": (len(value), num_edges) for d, value in sources.edge_features.items()},
    }
    for name, (received, expected) in counts.items():
        if received != expected:
            raise ValueError(f"{name}: expected {expected} rows, got {received}")


@dataclass(frozen=True)
class _Shape:
    """What a radial network fixes: degrees, channels, sharing."""

    fiber_in: Fiber
    fiber_edge: Fiber  # the part of fiber_in that comes with the edges, its last channels
    fiber_out: Fiber
    trunks: tuple[int, ...]  # of each pair
    factors: tuple[float, ...]
    layer_norm: bool
    has_bias: bool

    @classmethod
    def of(cls, radial: RadialNetwork, fiber_edge: Fiber) -> _Shape:
        pairs = [(l, k) for l in radial.fiber_out for k in radial.fiber_in]
        return cls(
            radial.fiber_in,
            fiber_edge,
            radial.fiber_out,
            tuple(radial.trunk_of[pair] for pair in pairs),
            tuple(radial.factor_of(*pair) for pair in pairs),
            radial.layer_norm,
            len(radial.bias) > 0,
        )

    @property
    def pairs(self) -> list[Pair]:
        return [(l, k) for l in self.fiber_out for k in self.fiber_in]

    @property
    def fiber_point(self) -> Fiber:
        """The part of fiber_in that comes with the points."""
        return Fiber({degree: channels - self.fiber_edge.get(degree, 0) for degree, channels in self.fiber_in.items()})

    @property
    def frame_degrees(self) -> list[int]:
        return sorted({*self.fiber_in, *self.fiber_out} - {0})

    def unflat(self, tensors: Sequence[Any]) -> _Inputs:
        rest = iter(tensors)

        def take(count: int) -> tuple[Any, ...]:
            return tuple(next(rest) for _ in range(count))

        features, edge_features = take(len(self.fiber_point)), take(len(self.fiber_edge))
        frames, invariants = take(len(self.frame_degrees)), next(rest)
        hidden = take(8 if self.layer_norm else 4)
        layers = tuple(take(2 if self.has_bias else 1) for _ in self.pairs)
        return _Inputs(features, edge_features, frames, invariants, hidden, layers)


@dataclass(frozen=True)
class _Inputs:
    """Everything that has a gradient."""

    features: tuple[Tensor, ...]
    edge_features: tuple[Tensor, ...]
    frames: tuple[Tensor, ...]
    invariants: Tensor
    hidden: tuple[Tensor, ...]  # of both hidden layers: weight, bias, and with LayerNorm gain, shift
    layers: tuple[tuple[Tensor, ...], ...]  # of each pair: weight, and bias if there is one

    def flat(self) -> list[Tensor]:
        layers = [parameter for layer in self.layers for parameter in layer]
        return [*self.features, *self.edge_features, *self.frames, self.invariants, *self.hidden, *layers]

    def contiguous(self) -> _Inputs:
        return _Inputs(
            self.features,
            self.edge_features,
            tuple(frame.contiguous() for frame in self.frames),
            self.invariants.contiguous(),
            tuple(parameter.contiguous() for parameter in self.hidden),
            tuple(tuple(parameter.contiguous() for parameter in layer) for layer in self.layers),
        )


class _Messages(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shape: _Shape, rows: RadialRows, index: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        inputs = shape.unflat(tensors).contiguous()
        call = _Call(shape, rows, index, inputs)
        out = call.forward()
        ctx.shape, ctx.rows, ctx.index = shape, rows, index
        first = 3 + len(inputs.features) + len(inputs.edge_features)
        wants_frames = any(ctx.needs_input_grad[first : first + len(inputs.frames)])
        ctx.save_for_backward(*tensors, *(out if wants_frames else ()))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted, saved = ctx.needs_input_grad[3:], ctx.saved_tensors  # under activation checkpointing read once
        tensors, out = saved[: len(wanted)], saved[len(wanted) :]
        if must_be_composed(grads):
            function = partial(_composed, ctx.shape, ctx.rows, ctx.index)
            return (None, None, None, *gradients_of(function, tensors, grads))
        call = _Call(ctx.shape, ctx.rows, ctx.index, ctx.shape.unflat(tensors).contiguous())
        first = len(call.inputs.features)
        last = first + len(call.inputs.edge_features)
        place = last + len(call.inputs.frames)
        found = call.backward(grads, out, edge_features=any(wanted[first:last]), invariants=wanted[place])
        return (None, None, None, *(grad if want else None for grad, want in zip(found, wanted, strict=True)))


def _composed(shape: _Shape, rows: RadialRows, index: Tensor | None, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same in terms of torch's operations, differentiable any number of times."""
    inputs = shape.unflat(tensors)
    step = len(inputs.hidden) // 2
    hidden = inputs.invariants[None]
    for layer in (inputs.hidden[:step], inputs.hidden[step:]):
        hidden = trunk_layer(hidden, *layer)
    of_points = dict(zip(shape.fiber_point, inputs.features, strict=True))
    of_edges = dict(zip(shape.fiber_edge, inputs.edge_features, strict=True))
    gathered = Sources(of_points, index, of_edges).gathered()
    layers = {}
    for pair, factor, layer in zip(shape.pairs, shape.factors, inputs.layers, strict=True):
        bias = layer[1] if shape.has_bias else layer[0].new_zeros(layer[0].shape[1:])
        layers[pair] = (factor * layer[0], factor * bias)
    frames = dict(zip(shape.frame_degrees, inputs.frames, strict=True))
    trunks = dict(zip(shape.pairs, shape.trunks, strict=True))
    by_edge = [trunk.index_select(0, rows.row_of_edge) for trunk in hidden]
    mixing = {pair: path_to_order(*pair, hidden.dtype, hidden.device) for pair in shape.pairs}
    layout = Layout(shape.fiber_in, shape.fiber_out, trunks, mixing, repeat=1)
    out = composed_messages(layout, gathered, frames, by_edge, layers)
    return [out[degree] for degree in shape.fiber_out]


class _Call:
    """One call of the compiled code; it keeps alive what the pointers point to."""

    def __init__(self, shape: _Shape, rows: RadialRows, index: Tensor | None, inputs: _Inputs) -> None:
        self.shape, self.inputs, self.like = shape, inputs, inputs.invariants
        self.num_edges = rows.num_edges
        self.constants = _constants(shape, self.like.dtype)
        hidden = inputs.hidden if shape.layer_norm else (*inputs.hidden[:2], None, None, *inputs.hidden[2:], None, None)
        biases = [layer[1] if shape.has_bias else None for layer in inputs.layers]
        self.arrays = {
            **self.constants.arrays,
            "weight": addresses(layer[0] for layer in inputs.layers),
            "bias": addresses(biases),
            "hidden": addresses(hidden),
            "features": self._point_fields(inputs.features),
            "frames": self._by_degree(inputs.frames),
        }
        if inputs.edge_features:
            self.arrays["edge_features"] = self._edge_fields(inputs.edge_features)
        self.integers = {
            "num_edges": self.num_edges,
            "num_points": inputs.features[0].shape[0] if inputs.features else self.num_edges,
            "num_rows": len(rows.first),
            "num_pairs": len(rows.second),
            "num_threads": self._num_threads(len(rows.first)),
            "num_inputs": self.like.shape[1],
            "num_units": inputs.hidden[0].shape[-1],
            "num_trunks": inputs.hidden[0].shape[0],
            "layer_norm": int(shape.layer_norm),
            "has_bias": int(shape.has_bias),
            "num_in": len(shape.fiber_in),
            "num_out": len(shape.fiber_out),
        }
        self.tensors = {"first": rows.first, "second": rows.second, "index": index, "invariants": self.like}

    def _num_threads(self, num_rows: int) -> int:
        """No more than there is work for, nor than their sums of gradients leave room for: each thread has its own."""
        of_points = sum(value.numel() for value in self.inputs.features)
        of_layers = sum(parameter.numel() for layer in self.inputs.layers for parameter in layer)
        room = _SUMS_BYTES // max(1, (of_points + of_layers) * self.like.element_size())
        return max(1, min(torch.get_num_threads(), num_rows // _BLOCK, room))

    def _by_degree(self, tensors: Sequence[Tensor]) -> Any:
        by_degree = dict(zip(self.shape.frame_degrees, tensors, strict=True))
        return addresses(by_degree.get(degree) for degree in range(max(by_degree, default=0) + 1))

    def _point_fields(self, tensors: Sequence[Tensor]) -> Any:
        return _fields_by_degree(tensors, self.shape.fiber_point, self.shape.fiber_in, self.like)

    def _edge_fields(self, tensors: Sequence[Tensor]) -> Any:
        return _fields_by_degree(tensors, self.shape.fiber_edge, self.shape.fiber_in, self.like)

    def forward(self) -> tuple[Tensor, ...]:
        out = tuple(
            component_major(self.num_edges, channels, 2 * degree + 1, self.like)
            for degree, channels in self.shape.fiber_out.items()
        )
        self._run({"messages": fields(out)}, {}, backward=False)
        return out

    def backward(
        self, grads: Sequence[Tensor], out: Sequence[Tensor], *, edge_features: bool, invariants: bool
    ) -> list[Tensor | None]:
        """Gradients of all inputs; of frames where the results ``out`` are given, of two more where asked for."""
        inputs = self.inputs
        features = [value.new_empty(value.shape) for value in inputs.features]
        frames = [frame.new_zeros(frame.shape) for frame in inputs.frames] if out else []
        own_edges = [torch.empty_like(value) for value in inputs.edge_features] if edge_features else []
        own = torch.zeros_like(self.like) if invariants else None
        hidden = [torch.empty_like(parameter) for parameter in inputs.hidden]
        layers = [[torch.empty_like(parameter) for parameter in layer] for layer in inputs.layers]
        padded: list[Tensor | None] = list(hidden)
        if not self.shape.layer_norm:
            padded = [*hidden[:2], None, None, *hidden[2:], None, None]
        arrays = {
            "message_grads": fields(grads),
            "feature_grads": self._point_fields(features),
            "hidden_grads": addresses(padded),
            "weight_grads": addresses(layer[0] for layer in layers),
            "bias_grads": addresses(layer[1] if self.shape.has_bias else None for layer in layers),
        }
        if own_edges:
            arrays["edge_feature_grads"] = self._edge_fields(own_edges)
        if out:
            arrays |= {"messages": fields(out), "frame_grads": self._by_degree(frames)}
        self._run(arrays, {"invariant_grads": own}, backward=True)
        flat = [parameter for layer in layers for parameter in layer]
        edges: Sequence[Tensor | None] = own_edges or [None] * len(inputs.edge_features)
        turned: Sequence[Tensor | None] = frames or [None] * len(inputs.frames)
        return [*features, *edges, *turned, own, *hidden, *flat]

    def _run(self, arrays: dict[str, Any], tensors: dict[str, Tensor | None], *, backward: bool) -> None:
        call = Convolution(**self.integers)
        for name, array in (self.arrays | arrays).items():
            setattr(call, name, ctypes.addressof(array))
        for name, tensor in (self.tensors | tensors).items():
            setattr(call, name, address(tensor))
        status = compiled(self.like.dtype).convolve(ctypes.byref(call), int(backward))
        if status:
            kind, words = _ERRORS[status]
            raise kind(words)


def _fields_by_degree(tensors: Sequence[Tensor], fiber: Fiber, places: Fiber, like: Tensor) -> Any:
    """One field for every degree of ``places``, without numbers where ``fiber`` has none."""
    by_degree = dict(zip(fiber, tensors, strict=True))
    nothing = like.new_empty(0, 0, 0)
    return fields([by_degree.get(degree, nothing) for degree in places])


@dataclass(frozen=True)
class _Constants:
    """What depends on the shape alone."""

    mixing: tuple[Tensor, ...]  # what an array points to
    arrays: dict[str, Any]


@lru_cache(maxsize=256)
def _constants(shape: _Shape, dtype: torch.dtype) -> _Constants:
    mixing = tuple(path_to_order(*pair, dtype, torch.device("cpu")).contiguous() for pair in shape.pairs)
    factor = (ctypes.c_float if dtype == torch.float32 else ctypes.c_double) * len(shape.factors)
    arrays = {
        "degrees_in": integers(shape.fiber_in.degrees),
        "channels_in": integers(shape.fiber_in.values()),
        "degrees_out": integers(shape.fiber_out.degrees),
        "channels_out": integers(shape.fiber_out.values()),
        "edge_channels": integers(shape.fiber_edge.get(degree, 0) for degree in shape.fiber_in),
        "trunk_of": integers(shape.trunks),
        "mixing": addresses(mixing),
        "factor": factor(*shape.factors),
    }
    return _Constants(mixing, arrays)
