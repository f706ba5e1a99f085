"""Implementations of one operation: messages W^{lk}(x_j − x_i) f_j^k of every edge. One signature, chosen by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis
from se3t.nn.radial import RadialNetwork

MEMORY = ("auto", "speed", "low")
KERNELS = {
    "reference": "se3t.nn.kernels.reference",
    "vectorised": "se3t.nn.kernels.vectorised",
    "edge_frame": "se3t.nn.kernels.edge_frame",
    "native": "se3t.nn.kernels.native",
}


@dataclass(frozen=True)
class Sources:
    """The source feature f_j of every edge: rows, and for each edge the number of its row.

    Attributes:
        features: ``[row, C_in, 2k+1]`` by degree.
        index: ``[edge]``; None where rows are edges.
    """

    features: Features
    index: Int[Tensor, " edge"] | None = None

    def gathered(self) -> Features:
        """``[edge, C_in, 2k+1]`` by degree."""
        if self.index is None:
            return self.features
        # The gradient of index_select is several times faster than that of [].
        return {degree: value.index_select(0, self.index) for degree, value in self.features.items()}


@runtime_checkable
class Kernel(Protocol):
    """Source features, ``[edge, C_in, 2k+1]`` when gathered → messages ``[edge, C_out, 2l+1]``."""

    def __call__(
        self, sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto"
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
