"""Functions of an edge's length as further input of the radial networks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.geometry import EdgeGeometry

KINDS = ("distance", "gaussian", "bessel")
_SHORTEST = 1e-4  # of the cutoff: shorter lengths are taken for this one


@dataclass(frozen=True)
class RadialBasis:
    """Invariants of an edge's length d, input of the radial networks: the length itself and functions of it.

    Attributes:
        kind: ``distance``: d alone. ``gaussian``: exp(−(d − c_n)² / 2s²) for n evenly spaced c_n from 0 to the cutoff,
            s their spacing. ``bessel``: √(2/cutoff) sin(nπd/cutoff) / d.
        num_functions: how many.
        cutoff: where the functions have fallen to zero, in the unit of the positions. All are multiplied by the
            envelope of x = d / cutoff, see :func:`envelope`.

    Raises:
        ValueError: for an unknown kind, or a basis that is empty.

    Source: Gaussians as in SchNet (Schütt et al. 2017); Bessel functions and envelope of DimeNet (Gasteiger et al.
    2020). **Deviation**: the paper's networks take d alone. Functions stand beside d here, not in place of it, and an
    edge longer than the cutoff still sends a message, which varies with d through that input.
    """

    kind: str = "distance"
    num_functions: int = 16
    cutoff: float = 5.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"radial_basis={self.kind!r}: expected one of {', '.join(KINDS)}")
        if self.num_functions < 2 or self.cutoff <= 0:
            raise ValueError(
                f"radial_functions={self.num_functions}, radial_cutoff={self.cutoff}: expected 2 or more, above 0"
            )

    @property
    def num_scalars(self) -> int:
        """Scalars that each edge has besides its own and the length."""
        return 0 if self.kind == "distance" else self.num_functions

    def of(self, geometry: EdgeGeometry) -> EdgeGeometry:
        """The geometry with these functions behind its edge scalars, differentiable with respect to the positions."""
        if self.kind == "distance":
            return geometry
        scalars = [] if geometry.edge_scalars is None else [geometry.edge_scalars]
        return replace(geometry, edge_scalars=torch.cat([*scalars, self.functions(geometry.length)], dim=1))

    def functions(self, length: Float[Tensor, " edge"]) -> Float[Tensor, "edge function"]:
        """The functions of these lengths; none of ``kind="distance"``."""
        x = length[:, None] / self.cutoff
        count = self.num_scalars
        if self.kind == "gaussian":
            numbers = torch.arange(count, dtype=length.dtype, device=length.device)
            values = torch.exp(-0.5 * (x * (count - 1) - numbers).square())
        else:
            numbers = torch.arange(1, count + 1, dtype=length.dtype, device=length.device)
            x = x.clamp(min=_SHORTEST)
            values = torch.sin(math.pi * numbers * x) / x * math.sqrt(2 / self.cutoff**3)
        return values * envelope(x)


def envelope(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 − 28 x⁶ + 48 x⁷ − 21 x⁸ for 0 ≤ x < 1 and 0 from there on, with two continuous derivatives at x = 1.

    As the product (1 − x)³ (1 + 3x + 6x² + 10x³ + 15x⁴ + 21x⁵), which loses no digits near x = 1.

    Source: DimeNet (Gasteiger et al. 2020), Equation 8 with p = 6.
    """
    x = x.clamp(max=1)
    return (1 - x) ** 3 * (1 + x * (3 + x * (6 + x * (10 + x * (15 + x * 21)))))


def faded(geometry: EdgeGeometry, cutoff: float | None) -> EdgeGeometry:
    """The geometry with messages that fall smoothly to zero at a length of ``cutoff``; as it is where that is None."""
    return geometry if cutoff is None else replace(geometry, fade=envelope(geometry.length / cutoff))
