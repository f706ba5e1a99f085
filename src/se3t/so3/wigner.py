"""Wigner matrices D^l of the real basis, as polynomials of the rotation matrix."""

from __future__ import annotations

from functools import cache
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.so3.clebsch_gordan import clebsch_gordan


def wigner_d(degree: int, rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 2*{degree}+1 2*{degree}+1"]:
    """The irreducible representation D^l(R): orthogonal, Y_l(R x) = D^l(R) Y_l(x), D^1(R) = R.

    Args:
        degree: l ≥ 0.
        rotation: ``[*batch, 3, 3]``, active. See :func:`wigner_d_all` for precision, derivatives and reflections.

    Returns:
        ``[*batch, 2l+1, 2l+1]``, rows and columns m = −l … l.

    Raises:
        ValueError: when ``degree`` is negative.
    """
    return wigner_d_all(degree, rotation)[degree]


def wigner_d_all(max_degree: int, rotation: Float[Tensor, "*batch 3 3"]) -> tuple[Tensor, ...]:
    """D^0 … D^max_degree of rotations, each from the one before: D^l = E_l (R ⊗ D^{l−1}) E_lᵀ.

    E_l, with orthonormal rows, is √(2l+1) Q^{l1}_{l−1}: it picks degree l out of the product of degrees 1 and l−1.
    There is no angle, hence no singular rotation, and rounding errors do not grow: every step is a projection. D^l is a
    homogeneous polynomial of degree l of the matrix, so it is differentiable to any order, and a reflection −R gives
    (−1)^l D^l(R), in agreement with Y_l(−x).

    Args:
        max_degree: largest degree, 0 or more.
        rotation: ``[*batch, 3, 3]``, active; computed in its dtype.

    Returns:
        ``D[l]``: ``[*batch, 2l+1, 2l+1]`` for l = 0 … max_degree.

    Raises:
        ValueError: when ``max_degree`` is negative.
    """
    if max_degree < 0:
        raise ValueError(f"degree: expected 0 or more, got {max_degree}")
    matrices = [torch.ones_like(rotation[..., :1, :1]), rotation]
    for degree in range(2, max_degree + 1):
        embedding = _embedding(degree, rotation.dtype, rotation.device)
        product = rotation[..., :, None, :, None] * matrices[-1][..., None, :, None, :]  # [..., 3, 2l-1, 3, 2l-1]
        kronecker = product.flatten(-4, -3).flatten(-2, -1)
        matrices.append(embedding @ kronecker @ embedding.mT)
    return tuple(matrices[: max_degree + 1])


@cache
def _embedding(degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """E_l: ``[2l+1, 3 (2l-1)]``."""
    with torch.inference_mode(False):  # a cached inference tensor would be refused by autograd later
        coupling = sqrt(2 * degree + 1) * clebsch_gordan(degree, 1, degree - 1)
        return coupling.flatten(1).to(dtype=dtype, device=device)
