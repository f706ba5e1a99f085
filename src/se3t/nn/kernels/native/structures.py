"""C structures, filled from tensors."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Size: TypeAlias = int | torch.SymInt  # symbolic in a traced program
Member: TypeAlias = int | float | Sequence[int]
FIELD_SIZE = 4
"""Members of a ``Field`` of layout.h: a tensor ``[row, channel, component]``, and its strides."""


def component_major(rows: Size, channels: Size, components: Size, like: Tensor) -> Tensor:
    """Uninitialised ``[row, channel, component]``, channels next to each other in memory."""
    shape, strides = (rows, channels, components), (components * channels, 1, channels)
    return torch.empty_strided(shape, strides, dtype=like.dtype, device=like.device)


def structure(members: Sequence[Member]) -> ctypes.Array[ctypes.c_int64]:
    """A C structure whose members are integers, doubles, or pointers to the arrays that follow it in the same memory.

    Args:
        members: in their order; an empty sequence is a null pointer.
    """
    memory = (ctypes.c_int64 * sum([1 if isinstance(member, int | float) else 1 + len(member) for member in members]))()
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
    """An array of ``Field``: tensors ``[row, channel, component]`` with their strides."""
    return [number for tensor in tensors for number in (tensor.data_ptr(), *tensor.stride())]


def pointers(tensors: Iterable[Tensor | None]) -> list[int]:
    """To the numbers of contiguous tensors; null for None."""
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
