"""Rotation matrices: uniform samples, axis and angle, Euler angles, quaternions.

All rotations are active: R x is the rotated point. Angles are in radians.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.so3.safe import safe_normalize


def random_rotation(
    *shape: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "*batch 3 3"]:
    """Rotations drawn from the Haar (uniform) measure of SO(3).

    A four-dimensional Gaussian has no preferred direction, so its direction is a uniform unit quaternion; products with
    a fixed unit quaternion are isometries of the 3-sphere, so the image on SO(3) is invariant. (The Q of a raw QR
    factorisation is not.)

    Args:
        shape: leading shape of the result; none gives one matrix.
        generator: source of randomness; its device may differ from ``device``. Default: torch's global generator.
        dtype: dtype of the result (default: torch's default dtype). The draw is in float64 whatever the dtype, so one
            seed gives the same rotation in every dtype, and each is orthogonal to the precision of its dtype.
        device: device of the result (default: torch's default device).

    Returns:
        ``[*shape, 3, 3]``, orthogonal, of determinant one.
    """
    dtype = torch.get_default_dtype() if dtype is None else dtype
    device = torch.get_default_device() if device is None else device
    source = device if generator is None else generator.device
    gaussian = torch.randn(*shape, 4, generator=generator, dtype=torch.float64, device=source)
    return matrix_from_quaternion(gaussian).to(dtype=dtype, device=device)


def rotation_about_axis(axis: Float[Tensor, " 3"], angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation by ``angle`` about ``axis``, right-handed (Rodrigues): I + sin α K + (1 − cos α) K² with K x = axis × x.

    Args:
        axis: ``[3]``, of any length but zero.
        angle: ``[*batch]``, radians.

    Returns:
        ``[*batch, 3, 3]``.
    """
    cross = cross_matrix(safe_normalize(axis))
    sine, cosine = angle.sin()[..., None, None], angle.cos()[..., None, None]
    identity = torch.eye(3, dtype=axis.dtype, device=axis.device)
    return identity + sine * cross + (1 - cosine) * (cross @ cross)


def rotation_from_euler(
    alpha: Float[Tensor, "*batch"], beta: Float[Tensor, "*batch"], gamma: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """R = R_y(α) R_x(β) R_y(γ): Euler angles about the polar axis y, so that R y has azimuth α and polar angle β.

    (y, x) of our axes play the part of (z, y) in the physics convention z-y-z.

    Args:
        alpha: radians, in [0, 2π).
        beta: radians, in [0, π].
        gamma: radians, in [0, 2π).

    Returns:
        ``[*batch, 3, 3]``.
    """
    x_axis, y_axis = torch.eye(3, dtype=alpha.dtype, device=alpha.device)[:2]
    outer, inner = rotation_about_axis(y_axis, alpha), rotation_about_axis(y_axis, gamma)
    return outer @ rotation_about_axis(x_axis, beta) @ inner


def matrix_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation x ↦ q x q⁻¹ of a quaternion q = (w, x, y, z), which is normalised first; q and −q give the same matrix.

    Args:
        quaternion: ``[*batch, 4]``, real part first, not zero.

    Returns:
        ``[*batch, 3, 3]``.
    """
    w, x, y, z = safe_normalize(quaternion).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def cross_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The antisymmetric matrix K with K x = v × x: the Lie algebra so(3) as matrices.

    Args:
        vector: ``[*batch, 3]``.

    Returns:
        ``[*batch, 3, 3]``.
    """
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))
