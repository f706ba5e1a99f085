"""The fastest kernel for where the tensors are: compiled code on a CPU, Triton on a GPU, else torch's operations."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module

import torch

from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis
from se3t.nn.kernels import KERNELS, Sources, get_kernel
from se3t.nn.radial import RadialNetwork

FASTEST = {"cpu": "native", "cuda": "triton"}
"""By device; ``benchmarks/RESULTS.md`` has the measurements."""
FALLBACK = "edge_frame"
_log = logging.getLogger(__name__)


def messages(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
    """The same sum as the reference kernel, arguments and result alike."""
    length = basis.geometry.length
    return get_kernel(choose(length.device, length.dtype))(sources, radial, basis, memory)


@cache
def choose(device: torch.device, dtype: torch.dtype) -> str:
    """Name of the kernel; says in the log why it is not the fastest one, where it is not."""
    name = FASTEST.get(device.type)
    if name is None or name not in KERNELS:
        return FALLBACK
    reason = import_module(KERNELS[name]).unavailable(device, dtype)
    if reason is None:
        return name
    _log.warning("kernel %s is not used: %s; %s computes the same, slower", name, reason, FALLBACK)
    return FALLBACK
