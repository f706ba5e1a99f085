"""Harmonics of many vectors at once, and their gradients."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from se3t.so3.native import CTYPES, LIBRARY, num_threads
from se3t.so3.recursion import derivatives, steps_up_to
from se3t.so3.safe import zero_square

_AS_THEY_ARE = -1.0  # vectors are not divided by their lengths


class _Rows(ctypes.Structure):
    """``Rows`` of ``points.h``: a tensor ``[component, point]`` with its strides."""

    _fields_ = [("data", ctypes.c_void_p), ("component", ctypes.c_int64), ("point", ctypes.c_int64)]

    @classmethod
    def of(cls, tensor: Tensor) -> _Rows:
        return cls(tensor.data_ptr(), *tensor.stride())


class _Term(ctypes.Structure):
    _fields_ = [("upper", ctypes.c_int32), ("lower", ctypes.c_int32), ("factor", ctypes.c_double)]


class _Harmonics(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_points", "max_degree", "num_threads")),
        ("zero", ctypes.c_double),
        ("points", _Rows),
        *((name, ctypes.c_void_p) for name in ("steps", "lower_steps")),
        *((name, _Rows) for name in ("rows", "grads", "point_grads")),
        *((name, ctypes.c_void_p) for name in ("terms", "num_terms", "scratch")),
    ]


def fill_harmonics(points: Tensor, max_degree: int, normalize: bool, rows: Tensor) -> None:
    """Write r^J Y_J of ``points`` to ``rows``.

    Args:
        points: ``[3, point]``.
        max_degree: largest J.
        normalize: whether r is 1 instead of their length.
        rows: ``[(max_degree+1)², point]``, contiguous.
    """
    task = _task(points, max_degree, normalize)
    task.rows, task.steps = _Rows.of(rows), ctypes.addressof(_steps(max_degree, points.dtype))
    LIBRARY.compiled(points.dtype).harmonics(ctypes.byref(task), 0)


def harmonics_gradient(grad: Tensor, points: Tensor, max_degree: int, normalize: bool) -> Tensor:
    """Gradient of the points, ``[3, point]``, from that of all rows, ``[(max_degree+1)², point]``."""
    result, library = torch.empty_like(points), LIBRARY.compiled(points.dtype)
    task = _task(points, max_degree, normalize)
    scratch = points.new_empty(task.num_threads, library.room_of_harmonics(max_degree))
    terms, num_terms = _terms(max_degree)
    task.grads, task.point_grads, task.scratch = _Rows.of(grad), _Rows.of(result), scratch.data_ptr()
    task.lower_steps = ctypes.addressof(_steps(max_degree - 1, points.dtype))
    task.terms, task.num_terms = ctypes.addressof(terms), ctypes.addressof(num_terms)
    library.harmonics(ctypes.byref(task), 1)
    return result


def _task(points: Tensor, max_degree: int, normalize: bool) -> _Harmonics:
    num_points = points.shape[1]
    return _Harmonics(
        num_points=num_points,
        max_degree=max_degree,
        num_threads=num_threads(num_points),
        zero=zero_square(points.dtype) if normalize else _AS_THEY_ARE,
        points=_Rows.of(points),
    )


@cache
def _steps(max_degree: int, dtype: torch.dtype) -> Any:
    """An array of ``Step``: scale, gain and loss of each step."""
    numbers = [number for step in steps_up_to(max_degree) for number in (step.scale, step.gain, step.loss)]
    return (CTYPES[dtype] * max(1, len(numbers)))(*numbers)


@cache
def _terms(max_degree: int) -> tuple[Any, Any]:
    """Arrays of ``Term`` by axis, and of how many there are of each axis."""
    by_axis: list[Sequence[Any]] = [
        [(upper, lower, factor) for upper, axis, lower, factor in derivatives(max_degree) if axis == wanted]
        for wanted in range(3)
    ]
    terms = [term for some in by_axis for term in some]
    return (_Term * max(1, len(terms)))(*(_Term(*term) for term in terms)), (ctypes.c_int64 * 3)(*map(len, by_axis))
