"""Rigid motions: the group SE(3) as the semidirect product of translations and rotations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class RigidMotion:
    """The motion x ↦ R x + t, an element (t, R) of SE(3) = ℝ³ ⋊ SO(3).

    Attributes:
        rotation: ``[*batch, 3, 3]``.
        translation: ``[*batch, 3]``, unit of the positions.
    """

    rotation: Float[Tensor, "*batch 3 3"]
    translation: Float[Tensor, "*batch 3"]

    def __call__(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 3"]:
        """Move points ``[*batch, point, 3]``."""
        return points @ self.rotation.mT + self.translation[..., None, :]

    def __matmul__(self, other: RigidMotion) -> RigidMotion:
        """Composition, ``other`` first: (t, R)(t', R') = (R t' + t, R R')."""
        return RigidMotion(self.rotation @ other.rotation, _apply(self.rotation, other.translation) + self.translation)

    def inverse(self) -> RigidMotion:
        """(t, R)⁻¹ = (−Rᵀ t, Rᵀ)."""
        transposed = self.rotation.mT
        return RigidMotion(transposed, -_apply(transposed, self.translation))

    def matrix(self) -> Float[Tensor, "*batch 4 4"]:
        """The 4 × 4 matrix [[R, t], [0, 1]] on homogeneous coordinates (x, 1)."""
        top = torch.cat((self.rotation, self.translation[..., None]), dim=-1)
        bottom = torch.zeros_like(top[..., :1, :])
        bottom[..., 3] = 1
        return torch.cat((top, bottom), dim=-2)


def _apply(rotation: Tensor, vector: Tensor) -> Tensor:
    return (rotation @ vector[..., None])[..., 0]
