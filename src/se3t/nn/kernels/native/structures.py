"""C structures, filled from tensors."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

Size: TypeAlias = int | torch.SymInt  # symbolic in a traced program
_Integer, _Pointer = ctypes.c_int64, ctypes.c_void_p


class Field(ctypes.Structure):
    """A tensor ``[row, channel, component]`` with its strides."""

    _fields_ = [("data", _Pointer), ("row", _Integer), ("channel", _Integer), ("component", _Integer)]


def _pointers(names: str) -> list[tuple[str, Any]]:
    return [(name, _Pointer) for name in names.split()]


def _integers(names: str) -> list[tuple[str, Any]]:
    return [(name, _Integer) for name in names.split()]


class Convolution(ctypes.Structure):
    """``Convolution`` of ``layout.h``."""

    _fields_ = [
        *_integers("num_edges num_points num_rows num_pairs num_threads"),
        *_integers("num_inputs num_units num_trunks layer_norm has_bias num_in num_out"),
        *_pointers("degrees_in channels_in degrees_out channels_out edge_channels"),
        *_pointers("trunk_of mixing weight bias factor hidden"),
        *_pointers("first second index invariants frames features edge_features messages"),
        *_pointers("message_grads feature_grads edge_feature_grads frame_grads"),
        *_pointers("invariant_grads weight_grads bias_grads hidden_grads"),
        *_pointers("invariant_tangents frame_tangents feature_tangents edge_feature_tangents message_tangents"),
    ]


def address(tensor: Tensor | None) -> int | None:
    """Of the numbers of a contiguous tensor."""
    return None if tensor is None else tensor.data_ptr()


def addresses(tensors: Iterable[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    """An array of pointers; keep it while it is used."""
    pointers = [address(tensor) for tensor in tensors]
    return (_Pointer * max(1, len(pointers)))(*pointers)


def integers(values: Iterable[int]) -> ctypes.Array[ctypes.c_int64]:
    """An array of integers; keep it while it is used."""
    numbers = list(values)
    return (_Integer * max(1, len(numbers)))(*numbers)


def fields(tensors: Sequence[Tensor]) -> ctypes.Array[Field]:
    """Tensors ``[row, channel, component]`` with their strides; keep the array and the tensors while they are used."""
    return (Field * max(1, len(tensors)))(*(Field(tensor.data_ptr(), *tensor.stride()) for tensor in tensors))


def component_major(rows: Size, channels: Size, components: Size, like: Tensor) -> Tensor:
    """Uninitialised ``[row, channel, component]``, channels next to each other in memory."""
    shape, strides = (rows, channels, components), (components * channels, 1, channels)
    return torch.empty_strided(shape, strides, dtype=like.dtype, device=like.device)


Member: TypeAlias = int | float | Sequence[int]


def structure(members: Sequence[Member]) -> ctypes.Array[ctypes.c_int64]:
    """A C structure whose members are integers, doubles, or pointers to the arrays that follow it in the same memory.

    Args:
        members: in their order; an empty sequence is a null pointer.
    """
    memory = (_Integer * sum([1 if isinstance(member, int | float) else 1 + len(member) for member in members]))()
    place = ctypes.addressof(memory) + 8 * len(members)
    head: list[int] = []
    arrays: list[int] = []
    for member in members:
        if isinstance(member, int):
            head.append(member)
        elif isinstance(member, float):
            head.append(struct.unpack("q", struct.pack("d", member))[0])
        else:
            head.append(place if member else 0)
            arrays += member
            place += 8 * len(member)
    memory[:] = head + arrays  # type: ignore[assignment]
    return memory


def field_members(tensors: Iterable[Tensor]) -> list[int]:
    """:func:`fields` as members of an array of a :func:`structure`."""
    return [number for tensor in tensors for number in (tensor.data_ptr(), *tensor.stride())]
