"""The fastest kernel measured for where the tensors are: compiled code on a CPU, elsewhere torch's operations."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module

import torch

from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis
from se3t.nn.kernels import KERNELS, Sources, get_kernel
from se3t.nn.kernels.native import MAX_DEGREE
from se3t.nn.radial import RadialNetwork

FASTEST = {"cpu": "native"}
"""By device, as measured (``benchmarks/RESULTS.md``). Kernel ``triton`` was not measured and is not chosen."""
FALLBACK = "edge_frame"
_log = logging.getLogger(__name__)


def messages(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
    """The same sum as the reference kernel, arguments and result alike."""
    length = basis.geometry.length
    name = choose(length.device, length.dtype)
    if name == "native" and max(radial.fiber_in.max_degree, radial.fiber_out.max_degree) > MAX_DEGREE:
        name = FALLBACK
    return get_kernel(name)(sources, radial, basis, memory)


@cache
def choose(device: torch.device, dtype: torch.dtype) -> str:
    """Name of the kernel; says in the log why it is not the fastest one, where it is not."""
    reason = reason_against(device, dtype)
    if reason is None:
        return FASTEST[device.type]
    if device.type in FASTEST:
        _log.warning("kernel %s is not used: %s; %s computes the same", FASTEST[device.type], reason, FALLBACK)
    return FALLBACK


def reason_against(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the fastest kernel of a device cannot be used, None where it can."""
    if device.type not in FASTEST:
        return f"there is none for {device.type}"
    reason: str | None = import_module(KERNELS[FASTEST[device.type]]).unavailable(device, dtype)
    return reason
