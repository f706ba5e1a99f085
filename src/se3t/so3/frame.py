"""The rotation that takes a direction to the polar axis, in two charts (no single smooth choice exists)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_to_polar_axis(direction: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """A rotation R with R d = (0, 1, 0).

    R is only determined up to a rotation about the polar axis. Two charts are used: the smallest rotation for d_y ≥ 0,
    and for d_y < 0 a half turn about x followed by the smallest rotation, so that values and derivatives are finite for
    every direction. Anything that does not depend on the free angle has complete derivatives with respect to d.

    Args:
        direction: unit vectors; a zero vector gets a finite rotation without meaning.
    """
    lower = direction[..., 1] < 0
    sign = torch.where(lower, -1.0, 1.0).to(direction)
    x, y, z = direction[..., 0], direction[..., 1] * sign, direction[..., 2] * sign  # after the half turn where d_y < 0
    scale = 1 / (1 + y)
    rows = (
        (1 - x * x * scale, -x * sign, -x * z * scale * sign),
        (x, y * sign, z * sign),
        (-x * z * scale, -z * sign, (1 - z * z * scale) * sign),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
