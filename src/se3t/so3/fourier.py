"""Integration and Fourier analysis on SO(3): the Haar integral as a finite sum, the transform by the matrices D^l."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from se3t.so3.rotation import rotation_from_euler
from se3t.so3.wigner import wigner_d_all


def haar_quadrature(max_degree: int) -> tuple[Float64[Tensor, "sample 3 3"], Float64[Tensor, " sample"]]:
    """An exact average over SO(3): Σ_s w_s D^l(R_s) = ∫ D^l(R) dR for all l ≤ max_degree, with ∫ dR = 1.

    dR = dα/2π · sin β dβ/2 · dγ/2π: equally spaced α and γ leave the entry m = n = 0 alone, the Legendre polynomial
    P_l(cos β), which Gauss's rule integrates. A product of functions of degrees l and l' needs ``max_degree`` l + l'.

    Args:
        max_degree: largest degree, 0 or more.

    Returns:
        ``[sample, 3, 3]`` and ``[sample]``, float64, with about ½ (max_degree+1)³ samples.
    """
    circle = 2 * pi * torch.arange(max_degree + 1, dtype=torch.float64) / (max_degree + 1)
    cosine, weight = _gauss_legendre(max_degree // 2 + 1)
    alpha, beta, gamma = (grid.flatten() for grid in torch.meshgrid(circle, cosine.acos(), circle, indexing="ij"))
    weights = weight[None, :, None].expand(len(circle), -1, len(circle)) / (2 * len(circle) ** 2)
    return rotation_from_euler(alpha, beta, gamma), weights.flatten()


def _gauss_legendre(num_points: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [−1, 1], exact to degree 2·num_points − 1, from the Jacobi matrix (Golub, Welsch)."""
    k = torch.arange(1, num_points, dtype=torch.float64)
    off_diagonal = (k / (4 * k * k - 1).sqrt()).diag(1)
    nodes, vectors = torch.linalg.eigh(off_diagonal + off_diagonal.mT)
    return nodes, 2 * vectors[0] ** 2


def fourier_transform(
    values: Float[Tensor, " sample"],
    rotations: Float[Tensor, "sample 3 3"],
    weights: Float[Tensor, " sample"],
    max_degree: int,
) -> tuple[Tensor, ...]:
    """Fourier coefficients f̂(l) = ∫ f(R) D^l(R)ᵀ dR of a function on SO(3), for l = 0 … max_degree.

    With this choice the convolution (f ∗ g)(R) = ∫ f(S) g(S⁻¹R) dS becomes the product ĝ(l) f̂(l).

    Args:
        values: ``[sample]``, f at the rotations.
        rotations: ``[sample, 3, 3]`` and
        weights: ``[sample]``, as :func:`haar_quadrature` gives them for twice the degree of f or more.
        max_degree: largest degree.

    Returns:
        ``f̂[l]``: ``[2l+1, 2l+1]``.
    """
    return tuple(torch.einsum("s,smn->nm", weights * values, d) for d in wigner_d_all(max_degree, rotations))


def inverse_fourier_transform(
    coefficients: Sequence[Tensor], rotations: Float[Tensor, "sample 3 3"]
) -> Float[Tensor, " sample"]:
    """f(R) = Σ_l (2l+1) tr(f̂(l) D^l(R)), the function with the given Fourier coefficients (Peter–Weyl).

    Args:
        coefficients: ``f̂[l]``: ``[2l+1, 2l+1]`` for l = 0, 1, …
        rotations: ``[sample, 3, 3]``, where to evaluate.

    Returns:
        ``[sample]``.
    """
    matrices = wigner_d_all(len(coefficients) - 1, rotations)
    terms = (len(d[0]) * torch.einsum("nm,smn->s", f, d) for f, d in zip(coefficients, matrices, strict=True))
    return torch.stack(tuple(terms)).sum(0)
