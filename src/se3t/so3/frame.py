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

    Returns:
        ``[*batch, 3, 3]``, a view of memory in which the batch comes last, which is how :func:`wigner_d_all` works.
    """
    x, y, z = direction.movedim(-1, 0).contiguous()
    sign = torch.where(y < 0, -1.0, 1.0).to(direction)  # -1 where a half turn about x comes first
    scale = 1 / (1 + y * sign)
    part = x * scale
    mixed = -part * z
    rows = (
        (1 - x * part, -x * sign, mixed),
        (x, y, z),
        (mixed * sign, -z, (1 - z * z * scale) * sign),
    )
    matrix = torch.stack([entry for row in rows for entry in row]).unflatten(0, (3, 3))
    return matrix.movedim((0, 1), (-2, -1))
