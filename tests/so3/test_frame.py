from __future__ import annotations

import torch

from se3t.so3 import safe_normalize, spherical_harmonics, wigner_d_all
from se3t.so3.frame import rotation_to_polar_axis

POLE = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


def _directions() -> torch.Tensor:
    axes = torch.cat((torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)))
    return torch.cat((axes, safe_normalize(torch.randn(20, 3, dtype=torch.float64))))


def test_the_frame_takes_the_direction_to_the_polar_axis_and_is_a_rotation() -> None:
    directions = _directions()
    rotation = rotation_to_polar_axis(directions)
    turned = (rotation @ directions[..., None])[..., 0]
    torch.testing.assert_close(turned, POLE.expand_as(turned), rtol=0, atol=1e-14)
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, identity, rtol=0, atol=1e-14)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(directions), dtype=torch.float64))


def test_the_frame_of_a_zero_vector_is_finite() -> None:
    direction = torch.zeros(1, 3, requires_grad=True)
    rotation = rotation_to_polar_axis(direction)
    (gradient,) = torch.autograd.grad(rotation.sum(), direction)
    assert rotation.isfinite().all()
    assert gradient.isfinite().all()


def test_harmonics_by_the_frame_equal_harmonics_in_value_and_gradient() -> None:
    """Y_l(d) = D^l(R)ᵀ Y_l(pole) does not depend on the free angle of the frame, so its derivatives are complete."""
    vectors = _directions().requires_grad_()
    weight = torch.randn(16, dtype=torch.float64)
    pole = spherical_harmonics(3, POLE)
    matrices = wigner_d_all(3, rotation_to_polar_axis(safe_normalize(vectors)))
    framed = torch.cat([d.mT @ pole[l * l : (l + 1) ** 2] for l, d in enumerate(matrices)], dim=-1)
    direct = spherical_harmonics(3, vectors)
    torch.testing.assert_close(framed, direct, rtol=0, atol=1e-14)
    gradients = [
        torch.autograd.grad((values @ weight).sum(), vectors, retain_graph=True)[0] for values in (framed, direct)
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)
