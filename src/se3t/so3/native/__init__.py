"""The compiled code of this folder, for CPUs: harmonics and frames of many vectors at once, and their gradients."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from se3t.native.compiler import Library

LIBRARY = Library("so3", str(Path(__file__).parent))
CTYPES = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}
_VECTORS_PER_THREAD = 2048
unavailable = LIBRARY.unavailable


def num_threads(num_vectors: int) -> int:
    """No more than there is work for."""
    return max(1, min(torch.get_num_threads(), num_vectors // _VECTORS_PER_THREAD))
