"""Frames of many vectors at once, and their gradients."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from se3t.so3.clebsch_gordan import clebsch_gordan
from se3t.so3.native import CTYPES, LIBRARY, num_threads
from se3t.so3.safe import zero_square
from se3t.so3.wigner import embedding, ends, middle

_CPU = torch.device("cpu")


class _Triple(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("row", "left", "right")),
        ("factor", ctypes.c_double),
    ]


class _Frames(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_vectors", "max_degree", "num_threads")),
        ("zero", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("vectors", "embedding", "num_embedding", "middle", "frames", "grads")),
        *((name, ctypes.c_void_p) for name in ("generators", "num_generators", "vector_grads", "scratch")),
    ]


def fill_frames(vectors: Tensor, frames: Sequence[Tensor]) -> None:
    """Write D^1, D^2 … of the rotations that take ``vectors`` to the polar axis.

    Args:
        vectors: ``[vector, 3]``.
        frames: ``[vector, 2l+1, 2l+1]`` for l = 1, 2 …, contiguous.
    """
    _run(vectors, frames, backward=False)


def frames_gradient(grads: Sequence[Tensor], vectors: Tensor) -> Tensor:
    """Gradient of the vectors, ``[vector, 3]``, from those of D^1, D^2 …"""
    result = vectors.new_empty(vectors.shape)
    _run(vectors, [grad.contiguous() for grad in grads], backward=True, vector_grads=result.data_ptr())
    return result


def _run(vectors: Tensor, matrices: Sequence[Tensor], *, backward: bool, **pointers: int) -> None:
    library, max_degree, vectors = LIBRARY.compiled(vectors.dtype), len(matrices), vectors.contiguous()
    array = (ctypes.c_void_p * (max_degree + 1))(None, *(matrix.data_ptr() for matrix in matrices))
    threads = num_threads(len(vectors))
    scratch = vectors.new_empty(threads, library.room_of_frames(max_degree))
    task = _Frames(
        num_vectors=len(vectors),
        max_degree=max_degree,
        num_threads=threads,
        zero=zero_square(vectors.dtype),
        vectors=vectors.data_ptr(),
        scratch=scratch.data_ptr(),
        **_constants(max_degree, vectors.dtype).pointers,
        **pointers,
    )
    setattr(task, "grads" if backward else "frames", ctypes.addressof(array))
    library.frames(ctypes.byref(task), int(backward))


@dataclass(frozen=True)
class _Constants:
    pointers: dict[str, int]
    arrays: Any  # what they point to


@cache
def _constants(max_degree: int, dtype: torch.dtype) -> _Constants:
    """Arrays by degree."""
    entries = [_triples(_entries_of(degree)) for degree in range(max_degree + 1)]
    generators = [_triples(_generator_entries(degree)) for degree in range(max_degree + 1)]
    middles = [_numbers(degree, dtype) for degree in range(max_degree + 1)]
    arrays = {
        "embedding": _pointers(entries),
        "num_embedding": (ctypes.c_int64 * len(entries))(*map(len, entries)),
        "generators": _pointers(generators),
        "num_generators": (ctypes.c_int64 * len(generators))(*map(len, generators)),
        "middle": _pointers(middles),
    }
    pointers = {name: ctypes.addressof(array) for name, array in arrays.items()}
    return _Constants(pointers, (arrays, entries, generators, middles))


def _pointers(arrays: Sequence[Any]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*map(ctypes.addressof, arrays))


def _triples(entries: Sequence[tuple[int, int, int, float]]) -> Any:
    return (_Triple * len(entries))(*(_Triple(*entry) for entry in entries))


def _entries_of(degree: int) -> list[tuple[int, int, int, float]]:
    """E_l, by row; its two other dimensions as one."""
    if degree < 2:
        return []
    matrix = embedding(degree, torch.float64, _CPU).flatten(1)
    return [(row, column, 0, float(matrix[row, column])) for row, column in matrix.nonzero().tolist()]


def _generator_entries(degree: int) -> list[tuple[int, int, int, float]]:
    """(axis, row, column, value) of the derivatives of D^l by rotations about x, y, z, at no rotation.

    Such matrices are unique up to a factor: they are Q^{l1}_l. Their size follows from Σ X Xᵀ = l (l+1), their sign
    from a rotation about y, which takes z to x: d cos lφ = −l sin lφ.
    """
    if degree == 0:
        return []
    coupling = sqrt(degree * (degree + 1) * (2 * degree + 1)) * clebsch_gordan(degree, 1, degree)
    coupling *= -coupling[2 * degree, 1, 0].sign()
    return [
        (axis, row, column, float(coupling[row, axis, column])) for row, axis, column in coupling.nonzero().tolist()
    ]


def _numbers(degree: int, dtype: torch.dtype) -> Any:
    """The entries of F_l: for |n| < l, then those of its ends."""
    numbers: list[float] = []
    if degree >= 2:
        numbers = [
            *middle(degree, torch.float64, _CPU)[:, 0].tolist(),
            *(entry for end in ends(degree) for entry in end),
        ]
    return (CTYPES[dtype] * len(numbers))(*numbers)
