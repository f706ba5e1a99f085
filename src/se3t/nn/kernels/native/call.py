"""One call of the compiled convolution, forward or backward."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from se3t.fiber import Fiber
from se3t.geometry import RadialRows
from se3t.nn.kernels.edge_frame import path_to_order
from se3t.nn.kernels.native.compiler import compiled
from se3t.nn.kernels.native.shape import Inputs, Shape
from se3t.nn.kernels.native.structures import (
    FIELD_SIZE,
    Member,
    component_major,
    field_members,
    pointers,
    structure,
)

MAX_DEGREE = 12
"""Largest degree that the compiled code has room for."""


_ERRORS = {  # by what the compiled code returns
    1: (MemoryError, "the compiled kernel found no memory for this convolution"),
    2: (
        ValueError,
        f"kernel native has degrees 0 to {MAX_DEGREE}, and at least one in and one out; use kernel edge_frame",
    ),
    3: (IndexError, "edge_index: an edge comes from a node that is not there"),
}
_MEMBERS = (  # of ``Convolution`` in layout.h, in their order
    *("num_edges", "num_points", "num_rows", "num_pairs", "num_threads"),
    *("num_inputs", "num_units", "num_trunks", "layer_norm", "has_bias", "num_in", "num_out"),
    *("degrees_in", "channels_in", "degrees_out", "channels_out", "edge_channels"),
    *("trunk_of", "mixing", "weight", "bias", "factor", "hidden"),
    *("first", "second", "index", "invariants", "frames", "features", "edge_features", "messages"),
    *("message_grads", "feature_grads", "edge_feature_grads", "frame_grads"),
    *("invariant_grads", "weight_grads", "bias_grads", "hidden_grads"),
    *("invariant_tangents", "frame_tangents", "feature_tangents", "edge_feature_tangents", "message_tangents"),
)
_SUMS_BYTES = 4 * 2**30
_BLOCK = 32  # rows of radial units in a block, as in product.h


def check(shape: Shape, rows: RadialRows, index: Tensor | None, inputs: Inputs) -> None:
    """The compiled code sees addresses only: what does not fit is found here or never."""
    features = dict(zip(shape.fiber_point, inputs.features, strict=True))
    edge_features = dict(zip(shape.fiber_edge, inputs.edge_features, strict=True))
    shape.fiber_point.check(features)
    shape.fiber_edge.check(edge_features, "edge_features")
    points = rows.num_edges if index is None else len(next(iter(inputs.features), index))
    counts = {
        "index": (rows.num_edges if index is None else len(index), rows.num_edges),
        **{f"features of degree {degree}": (len(value), points) for degree, value in features.items()},
        **{f"edge_features of degree {d}": (len(value), rows.num_edges) for d, value in edge_features.items()},
        **{
            f"frames of degree {d}": (len(f), rows.num_edges)
            for d, f in zip(shape.frame_degrees, inputs.frames, strict=True)
        },
        "invariants": (len(inputs.invariants), len(rows.first)),
    }
    for name, (received, expected) in counts.items():
        if received != expected:
            raise ValueError(f"{name}: expected {expected} rows, got {received}")


def has_coincident(inputs: Inputs) -> bool:
    """Whether the length of an edge, the last of its invariants, is zero."""
    values = inputs.invariants
    rows, columns = values.shape
    last = ctypes.c_void_p(values.data_ptr() + (columns - 1) * values.element_size())
    return bool(compiled(values.dtype).has_zero(last, ctypes.c_int64(rows), ctypes.c_int64(columns)))


class Call:
    """One call of the compiled code; it keeps alive what the pointers point to."""

    def __init__(self, shape: Shape, rows: RadialRows, index: Tensor | None, inputs: Inputs) -> None:
        self.shape, self.inputs, self.like = shape, inputs, inputs.invariants
        self.num_edges = rows.num_edges
        self.constants = _constants(shape, self.like.dtype)
        self.members: dict[str, Member] = {
            **self.constants.members,
            "num_edges": self.num_edges,
            "num_points": inputs.features[0].shape[0] if inputs.features else self.num_edges,
            "num_rows": len(rows.first),
            "num_pairs": len(rows.second),
            "num_threads": self._num_threads(len(rows.first)),
            "num_inputs": self.like.shape[1],
            "num_units": inputs.hidden[0].shape[-1],
            "num_trunks": inputs.hidden[0].shape[0],
            **self._layers(inputs.layers, "weight", "bias"),
            "hidden": self._hidden(inputs.hidden),
            "features": self._point_fields(inputs.features),
            "frames": self._by_degree(inputs.frames),
            "invariants": self.like.data_ptr(),
        }
        if inputs.edge_features:
            self.members["edge_features"] = self._edge_fields(inputs.edge_features)
        self.places = [None if place is None else place.contiguous() for place in (rows.first, rows.second, index)]
        for name, place in zip(("first", "second", "index"), self.places, strict=True):
            self.members[name] = 0 if place is None else place.data_ptr()

    def _num_threads(self, num_rows: int) -> int:
        """No more than there is work for, nor than their sums of gradients leave room for: each thread has its own."""
        threads = min(torch.get_num_threads(), num_rows // _BLOCK)
        if threads <= 1:
            return 1
        of_points = sum(value.numel() for value in self.inputs.features)
        of_layers = sum(parameter.numel() for layer in self.inputs.layers for parameter in layer)
        room = _SUMS_BYTES // max(1, (of_points + of_layers) * self.like.element_size())
        return max(1, min(threads, room))

    def _by_degree(self, tensors: Sequence[Tensor]) -> list[int]:
        by_degree = dict(zip(self.shape.frame_degrees, tensors, strict=True))
        return pointers(by_degree.get(degree) for degree in range(max(by_degree, default=0) + 1))

    def _point_fields(self, tensors: Sequence[Tensor]) -> list[int]:
        return _fields_by_degree(tensors, self.shape.fiber_point, self.shape.fiber_in)

    def _edge_fields(self, tensors: Sequence[Tensor]) -> list[int]:
        return _fields_by_degree(tensors, self.shape.fiber_edge, self.shape.fiber_in)

    def _layers(self, layers: Sequence[Sequence[Tensor]], weight: str, bias: str) -> dict[str, Member]:
        """Members of the last radial layers."""
        biases = pointers([layer[1] for layer in layers]) if self.shape.has_bias else [0] * len(layers)
        return {weight: pointers([layer[0] for layer in layers]), bias: biases}

    def _hidden(self, tensors: Sequence[Tensor]) -> list[int]:
        """Of the hidden layers, also where there is no LayerNorm."""
        first, second = pointers(tensors[: len(tensors) // 2]), pointers(tensors[len(tensors) // 2 :])
        return [*first, *second] if self.shape.layer_norm else [*first, 0, 0, *second, 0, 0]

    def forward(self) -> list[Tensor]:
        """Messages of every output degree."""
        out = self._messages()
        self._run({"messages": field_members(out)}, derivative=0)
        return out

    def backward(
        self, grads: Sequence[Tensor], out: Sequence[Tensor], *, edge_features: bool, invariants: bool, layers: bool
    ) -> list[Tensor | None]:
        """Gradients of all inputs; of frames where the results ``out`` are given, of three more where asked for."""
        members: dict[str, Member] = {"messages": field_members(out)} if out else {}
        return self._gradients(grads, members, (bool(out), edge_features, invariants, layers), derivative=1)

    def second(
        self, tangents: Inputs, grads: Sequence[Tensor], out: Sequence[Tensor], *, layers: bool
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Gradients of Σ tangent · gradient over features, edge features, frames and invariants: see ``second.h``.

        Args:
            tangents: of these; those of the parameters are not read.
            grads: gradients of the messages.
            out: the messages, where there are frames.
            layers: whether gradients of the last radial layers are wanted.

        Returns:
            Gradients of ``grads``, and of all inputs.
        """
        messages = self._messages()
        members: dict[str, Member] = {
            "messages": field_members(out),
            "message_tangents": field_members(messages),
            "feature_tangents": self._point_fields(tangents.features),
            "frame_tangents": self._by_degree(tangents.frames),
            "invariant_tangents": tangents.invariants.data_ptr(),
        }
        if tangents.edge_features:
            members["edge_feature_tangents"] = self._edge_fields(tangents.edge_features)
        result = self._gradients(grads, members, (True, True, True, layers), derivative=2)
        return messages, result

    def _gradients(
        self,
        grads: Sequence[Tensor],
        members: dict[str, Member],
        wanted: tuple[bool, bool, bool, bool],
        *,
        derivative: int,
    ) -> list[Tensor | None]:
        """Those of the inputs; None for frames, edge features, invariants, last layers that are not wanted."""
        inputs, (wants_frames, wants_edges, wants_invariants, wants_layers) = self.inputs, wanted
        features = [component_major(value.shape[0], value.shape[1], value.shape[2], value) for value in inputs.features]
        edges = [value.new_empty(value.shape) for value in inputs.edge_features if wants_edges]
        frames = [frame.new_zeros(frame.shape) for frame in inputs.frames if wants_frames]
        invariants = torch.zeros_like(self.like) if wants_invariants else None
        hidden = [torch.empty_like(parameter) for parameter in inputs.hidden]
        layers = [[torch.empty_like(parameter) for parameter in layer] for layer in inputs.layers if wants_layers]
        made: dict[str, Member] = {
            "message_grads": field_members(grads),
            "hidden_grads": self._hidden(hidden),
            "feature_grads": self._point_fields(features),
        }
        if edges:
            made["edge_feature_grads"] = self._edge_fields(edges)
        if frames:
            made["frame_grads"] = self._by_degree(frames)
        if layers:
            made |= self._layers(layers, "weight_grads", "bias_grads")
        if invariants is not None:
            made["invariant_grads"] = invariants.data_ptr()
        self._run(members | made, derivative=derivative)
        flat = [parameter for layer in layers for parameter in layer]
        parts: list[tuple[Sequence[Tensor], int]] = [  # with their length where they are wanted
            (features, len(features)),
            (edges, len(inputs.edge_features)),
            (frames, len(inputs.frames)),
            ([] if invariants is None else [invariants], 1),
            (hidden, len(hidden)),
            (flat, sum(map(len, inputs.layers))),
        ]
        return [part[n] if part else None for part, count in parts for n in range(count)]

    def _messages(self) -> list[Tensor]:
        fiber = self.shape.fiber_out
        return [component_major(self.num_edges, channels, 2 * l + 1, self.like) for l, channels in fiber.items()]

    def _run(self, members: dict[str, Member], *, derivative: int) -> None:
        every = self.members | members
        call = structure([every.get(name, 0) for name in _MEMBERS])
        status = compiled(self.like.dtype).convolve(call, derivative)
        if status:
            kind, words = _ERRORS[status]
            raise kind(words)


def _fields_by_degree(tensors: Sequence[Tensor], fiber: Fiber, places: Fiber) -> list[int]:
    """One field for every degree of ``places``, without numbers where ``fiber`` has none."""
    if len(fiber) == len(places):
        return field_members(tensors)
    by_degree = dict(zip(fiber, tensors, strict=True))
    none = [0] * FIELD_SIZE
    return [n for degree in places for n in (field_members([by_degree[degree]]) if degree in by_degree else none)]


@dataclass(frozen=True)
class Constants:
    """What depends on the shape alone."""

    tensors: tuple[Tensor, ...]  # what members point to
    members: dict[str, Member]


@lru_cache(maxsize=256)
def _constants(shape: Shape, dtype: torch.dtype) -> Constants:
    mixing = tuple(path_to_order(*pair, dtype, torch.device("cpu")).contiguous() for pair in shape.pairs)
    factors = torch.tensor(shape.factors, dtype=dtype, device="cpu")
    members: dict[str, Member] = {
        "layer_norm": int(shape.layer_norm),
        "has_bias": int(shape.has_bias),
        "num_in": len(shape.fiber_in),
        "num_out": len(shape.fiber_out),
        "degrees_in": shape.fiber_in.degrees,
        "channels_in": list(shape.fiber_in.values()),
        "degrees_out": shape.fiber_out.degrees,
        "channels_out": list(shape.fiber_out.values()),
        "edge_channels": [shape.fiber_edge.get(degree, 0) for degree in shape.fiber_in],
        "trunk_of": shape.trunks,
        "mixing": pointers(mixing),
        "factor": factors.data_ptr(),
    }
    return Constants((*mixing, factors), members)
