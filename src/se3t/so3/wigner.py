"""Wigner matrices D^l of the real basis, as polynomials of the rotation matrix."""

from __future__ import annotations

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.compiling import constant, table, without_autocast
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
    """D^0 … D^max_degree of rotations, each from the one before: D^l = E_l (R ⊗ D^{l−1}) F_lᵀ.

    E_l = √(2l+1) Q^{l1}_{l−1}, with orthonormal rows, picks degree l out of the product of degrees 1 and l−1, so that
    E_l (R ⊗ D^{l−1}) = D^l E_l, and any F_l with E_l F_lᵀ = 1 gives D^l. We take one with few entries: y Y_{l−1,n} has
    no part of degree l but Y_ln, so for |n| < l a single entry will do; for n = ±l it is the row of E_l, two entries.

    There is no angle, hence no singular rotation. D^l is a homogeneous polynomial of degree l of the matrix: it is
    differentiable to any order, and a reflection −R gives (−1)^l D^l(R), in agreement with Y_l(−x).

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
    batch = rotation.shape[:-2]
    first = rotation.reshape(-1, 3, 3).permute(1, 2, 0).contiguous()  # [3, 3, batch]: few and large operations
    matrices = [torch.ones_like(rotation[..., :1, :1]), rotation.contiguous()]
    current = first
    with without_autocast(rotation.device.type):  # a rotation needs its digits
        for degree in range(2, max_degree + 1):
            current = _raise_degree(degree, first, current)
            matrices.append(current.flatten(0, 1).T.contiguous().view(*batch, 2 * degree + 1, 2 * degree + 1))
    return tuple(matrices[: max_degree + 1])


def _raise_degree(degree: int, rotation: Tensor, lower: Tensor) -> Tensor:
    """D^l from R = D^1 and D^{l−1}; all with the batch as their last dimension."""
    embed, centre = (make(degree, rotation.dtype, rotation.device) for make in (embedding, middle))
    (minus_x, minus_z), (plus_x, plus_z) = ends(degree)
    x, y, z = rotation.transpose(0, 1).unsqueeze(2)  # columns of R, each [3, 1, batch]
    left, right = lower[:, 0], lower[:, -1]  # columns -(l-1) and l-1 of D^{l-1}, [2l-1, batch]
    columns = (
        (x * minus_x * right).addcmul_(z, left, value=minus_z)[:, :, None],  # n = -l
        y[:, :, None] * (lower * centre),  # |n| < l
        (x * plus_x * left).addcmul_(z, right, value=plus_z)[:, :, None],  # n = l
    )
    product = torch.cat(columns, dim=2)  # (R ⊗ D^{l-1}) F_lᵀ: [3, 2l-1, 2l+1, batch]
    return (embed.flatten(1) @ product.flatten(2).flatten(0, 1)).unflatten(1, product.shape[2:])


@table(lambda degree: (2 * degree + 1, 3, 2 * degree - 1))
def embedding(degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """E_l."""
    return (sqrt(2 * degree + 1) * clebsch_gordan(degree, 1, degree - 1)).to(dtype=dtype, device=device)


@table(lambda degree: (2 * degree - 1, 1))
def middle(degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The entries of F_l for |n| < l."""
    matrix = embedding(degree, torch.float64, torch.device("cpu"))
    return (1 / matrix[1:-1, 1].diagonal())[:, None].to(dtype=dtype, device=device)


@constant
def ends(degree: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """The entries of F_l for n = −l and n = l: of x and of z."""
    matrix = embedding(degree, torch.float64, torch.device("cpu"))
    return (float(matrix[0, 0, -1]), float(matrix[0, 2, 0])), (
        float(matrix[-1, 0, 0]),
        float(matrix[-1, 2, -1]),
    )
