from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from se3t.so3 import (
    cross_matrix,
    matrix_from_quaternion,
    random_rotation,
    rotation_about_axis,
    rotation_from_euler,
    wigner_d_all,
)

EYE = torch.eye(3, dtype=torch.float64)


def test_random_rotations_are_orthogonal_with_determinant_one(generator: torch.Generator) -> None:
    rotation = random_rotation(4, 5, generator=generator, dtype=torch.float64)
    assert rotation.shape == (4, 5, 3, 3)
    torch.testing.assert_close(rotation @ rotation.mT, EYE.expand(4, 5, 3, 3), rtol=0, atol=1e-14)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(4, 5, dtype=torch.float64), rtol=0, atol=1e-14)


def test_random_rotations_follow_the_generator() -> None:
    first, again, other = (random_rotation(3, generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_seed_gives_the_same_rotation_in_every_dtype() -> None:
    single, double = (
        random_rotation(3, generator=torch.Generator().manual_seed(7), dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    assert single.dtype == torch.float32
    assert torch.equal(single, double.float())


def test_random_rotation_defaults_to_the_default_dtype() -> None:
    assert random_rotation().shape == (3, 3)
    assert random_rotation().dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    assert random_rotation().dtype == torch.float64


def test_random_rotations_are_uniform(generator: torch.Generator) -> None:
    """Under the Haar measure entries of D^l have mean 0 and mean square 1/(2l+1), and are uncorrelated."""
    num = 40_000
    entries = torch.cat(
        [d.flatten(1) for d in wigner_d_all(3, random_rotation(num, generator=generator, dtype=torch.float64))[1:]], 1
    )
    expected = torch.cat([torch.full(((2 * l + 1) ** 2,), 1 / (2 * l + 1), dtype=torch.float64) for l in (1, 2, 3)])
    bound = 5 / math.sqrt(num)  # five standard deviations of entries bounded by one
    assert entries.mean(0).abs().max() < bound
    assert (entries.T @ entries / num - expected.diag()).abs().max() < bound


def test_the_uniformity_test_sees_rotations_that_are_not_uniform(generator: torch.Generator) -> None:
    """Q of a raw QR factorisation, a familiar wrong recipe, and uniform Euler angles."""
    raw = torch.linalg.qr(torch.randn(40_000, 3, 3, generator=generator, dtype=torch.float64))[0]
    angles = 2 * math.pi * torch.rand(3, 40_000, generator=generator, dtype=torch.float64)
    for rotation in (raw, rotation_from_euler(angles[0], angles[1] / 2, angles[2])):
        d2 = wigner_d_all(2, rotation)[2]
        assert max(rotation.mean(0).abs().max(), d2.mean(0).abs().max()) > 0.02


def test_rotation_angle_of_uniform_rotations_has_density_one_minus_cosine(generator: torch.Generator) -> None:
    rotation = random_rotation(40_000, generator=generator, dtype=torch.float64)
    angle = ((rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1).acos()
    grid = torch.linspace(0.3, 3.0, 10, dtype=torch.float64)
    measured = (angle[:, None] <= grid).double().mean(0)
    assert (measured - (grid - grid.sin()) / math.pi).abs().max() < 5 * 0.5 / math.sqrt(40_000)


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, -2.0, 0.5)])
def test_rotation_about_axis_agrees_with_scipy(axis: tuple[float, float, float]) -> None:
    vector = torch.tensor(axis, dtype=torch.float64)
    angle = torch.tensor([[0.0, 0.3, -1.0], [math.pi, 3.0, 7.0]], dtype=torch.float64)
    rotation_vectors = angle.reshape(-1, 1) * vector / vector.norm()
    expected = torch.from_numpy(Rotation.from_rotvec(rotation_vectors.numpy()).as_matrix()).reshape(2, 3, 3, 3)
    torch.testing.assert_close(rotation_about_axis(vector, angle), expected, rtol=0, atol=1e-14)


def test_a_quarter_turn_about_y_takes_z_to_x() -> None:
    quarter = rotation_about_axis(EYE[1], torch.tensor(math.pi / 2, dtype=torch.float64))
    torch.testing.assert_close(quarter @ EYE[2], EYE[0], rtol=0, atol=1e-15)


def test_euler_angles_agree_with_e3nn_and_place_the_pole(o3) -> None:
    alpha, beta, gamma = torch.rand(3, 6, dtype=torch.float64) * 3
    rotation = rotation_from_euler(alpha, beta, gamma)
    torch.testing.assert_close(rotation, o3.angles_to_matrix(alpha, beta, gamma), rtol=0, atol=1e-14)
    pole = rotation[..., 1]  # R y
    torch.testing.assert_close(torch.atan2(pole[:, 0], pole[:, 2]), alpha)
    torch.testing.assert_close(pole[:, 1].acos(), beta)


def test_quaternions_agree_with_scipy_and_cover_twice() -> None:
    quaternion = torch.randn(5, 4, dtype=torch.float64)
    expected = torch.from_numpy(Rotation.from_quat(quaternion.numpy()[:, [1, 2, 3, 0]]).as_matrix())
    torch.testing.assert_close(matrix_from_quaternion(quaternion), expected, rtol=0, atol=1e-14)
    assert torch.equal(matrix_from_quaternion(-quaternion), matrix_from_quaternion(quaternion))


def test_cross_matrix_is_the_cross_product() -> None:
    vector, other = torch.randn(2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close((cross_matrix(vector) @ other[..., None])[..., 0], torch.linalg.cross(vector, other))


def test_rotation_is_the_exponential_of_its_cross_matrix() -> None:
    axis = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
    angle = torch.tensor([0.1, 2.0], dtype=torch.float64)
    exponential = torch.linalg.matrix_exp(angle[:, None, None] * cross_matrix(axis))
    torch.testing.assert_close(rotation_about_axis(axis, angle), exponential, rtol=0, atol=1e-14)
