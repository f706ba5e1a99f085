"""Signs and component orders of other codes, and the way from ours to theirs and back.

Ours, and e3nn's: polar axis y, azimuth φ = atan2(x, z), m = −l … l, so that type 1 *is* (x, y, z); no phase (−1)^l.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.so3.clebsch_gordan import clebsch_gordan, first_sign, unsigned_coupling
from se3t.so3.wigner import wigner_d


def to_authors_phase(harmonics: Float[Tensor, "*batch components"]) -> Float[Tensor, "*batch components"]:
    """Spherical harmonics as the authors' code has them: (−1)^J times ours, equal to ours at −x. It is its own inverse.

    Args:
        harmonics: ``[*batch, (L+1)²]``, degrees 0 … L as :func:`se3t.so3.spherical_harmonics` returns them.

    Raises:
        ValueError: when the last dimension is not a square number.
    """
    size = harmonics.shape[-1]
    num_degrees = math.isqrt(size)
    if num_degrees**2 != size:
        raise ValueError(f"harmonics: expected (L+1)² components in the last dimension, got {size}")
    signs = [(-1.0) ** degree for degree in range(num_degrees) for _ in range(2 * degree + 1)]
    return harmonics * torch.tensor(signs, dtype=harmonics.dtype, device=harmonics.device)


def to_polar_z(degree: int, values: Float[Tensor, "*batch components"]) -> Float[Tensor, "*batch components"]:
    """Components of a type-l value in the basis with polar axis z, φ = atan2(y, x): for l = 1, (x, y, z) ↦ (y, z, x).

    That basis is Y_l(y, z, x) in terms of our Y_l(x, y, z), so the change is D^l of the cyclic permutation of the axes.

    Args:
        degree: l ≥ 0.
        values: ``[*batch, 2l+1]`` in our basis.
    """
    return values @ wigner_d(degree, _cyclic(values)).mT


def from_polar_z(degree: int, values: Float[Tensor, "*batch components"]) -> Float[Tensor, "*batch components"]:
    """Inverse of :func:`to_polar_z`: for l = 1, (y, z, x) ↦ (x, y, z).

    Args:
        degree: l ≥ 0.
        values: ``[*batch, 2l+1]`` in the basis with polar axis z.
    """
    return values @ wigner_d(degree, _cyclic(values))


def _cyclic(like: Tensor) -> Tensor:
    """The rotation (x, y, z) ↦ (y, z, x)."""
    return torch.eye(3, dtype=like.dtype, device=like.device).roll(-1, dims=0)


@cache
def e3nn_sign(degree_out: int, degree_in: int, degree: int) -> int:
    """The sign in ``clebsch_gordan(l, k, J) = sign · e3nn.o3.wigner_3j(l, k, J)``; a closed form, no e3nn needed.

    e3nn's tensor is Re i^(l−k−J) U^l C (Ū^k ⊗ Ū^J), with the coefficients C of Racah's formula and the unitary U of
    :func:`se3t.so3.real_from_complex`; ours is that times the sign which makes its first entry positive. For l, k ≤ 4
    the sign is −1 for these 34 triples (l, k, J), and +1 for the other 51:

    - l = 1: (1,1,2) (1,2,2) (1,2,3) (1,3,3) (1,3,4) (1,4,4) (1,4,5)
    - l = 2: (2,1,3) (2,2,1) (2,2,2) (2,3,2) (2,3,3) (2,4,3) (2,4,4)
    - l = 3: (3,1,4) (3,2,3) (3,2,4) (3,3,1) (3,3,2) (3,3,6) (3,4,2) (3,4,3) (3,4,6) (3,4,7)
    - l = 4: (4,1,5) (4,2,4) (4,2,5) (4,3,3) (4,3,4) (4,3,7) (4,4,1) (4,4,2) (4,4,5) (4,4,6)

    Args:
        degree_out: l.
        degree_in: k.
        degree: J, |l − k| ≤ J ≤ l + k.

    Returns:
        +1 or −1.

    Raises:
        ValueError: as :func:`clebsch_gordan`.
    """
    clebsch_gordan(degree_out, degree_in, degree)
    return first_sign(unsigned_coupling(degree_out, degree_in, degree))
