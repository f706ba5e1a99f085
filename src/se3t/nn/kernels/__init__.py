"""Implementations of one operation: messages W^{lk}(x_j − x_i) f_j^k of every edge. One signature, chosen by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

from torch import Tensor

from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis
from se3t.nn.radial import RadialNetwork

MEMORY = ("auto", "speed", "low")
KERNELS = {
    "reference": "se3t.nn.kernels.reference",
    "vectorised": "se3t.nn.kernels.vectorised",
    "edge_frame": "se3t.nn.kernels.edge_frame",
}


@runtime_checkable
class Kernel(Protocol):
    """Source features ``[edge, C_in, 2k+1]`` and radial features ``[unique, r]`` → messages ``[edge, C_out, 2l+1]``."""

    def __call__(
        self,
        features: Features,
        hidden: Sequence[Tensor],
        radial: RadialNetwork,
        basis: EquivariantBasis,
        memory: str = "auto",
    ) -> Features:
        """See :func:`se3t.nn.kernels.reference.messages`."""


def get_kernel(name: str) -> Kernel:
    """The kernel of that name.

    Raises:
        ValueError: when there is none.
    """
    if name not in KERNELS:
        raise ValueError(f"kernel {name!r} is not known: expected one of {', '.join(KERNELS)}")
    return cast(Kernel, import_module(KERNELS[name]).messages)
