"""Implementations of one operation: messages W^{lk}(x_j − x_i) f_j^k of every edge. One signature, chosen by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from se3t.fiber import Features, cat_features
from se3t.nn.basis import EquivariantBasis
from se3t.nn.radial import RadialNetwork

MEMORY = ("auto", "speed", "low")
KERNELS = {
    "reference": "se3t.nn.kernels.reference",
    "vectorised": "se3t.nn.kernels.vectorised",
    "edge_frame": "se3t.nn.kernels.edge_frame",
    "native": "se3t.nn.kernels.native",
    "triton": "se3t.nn.kernels.triton_kernel",
    "auto": "se3t.nn.kernels.auto",
}


@dataclass(frozen=True)
class Sources:
    """The source feature f_j of every edge: rows, and for each edge the number of its row.

    Attributes:
        features: ``[row, C, 2k+1]`` by degree.
        index: ``[edge]``; None where rows are edges.
        edge_features: ``[edge, C', 2k+1]`` by degree, further channels behind those of the rows.
    """

    features: Features
    index: Int[Tensor, " edge"] | None = None
    edge_features: Features = field(default_factory=dict)

    def gathered(self) -> Features:
        """``[edge, C_in, 2k+1]`` by degree."""
        features = self.features
        if self.index is not None:  # the gradient of index_select is several times faster than that of []
            features = {degree: value.index_select(0, self.index) for degree, value in features.items()}
        return cat_features(features, self.edge_features) if self.edge_features else features


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
