from __future__ import annotations

import math
from math import factorial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from se3t.so3 import (
    random_rotation,
    real_from_complex,
    rotation_about_axis,
    rotation_from_euler,
    spherical_harmonics,
    wigner_d,
    wigner_d_all,
)

DEGREES = range(13)


def _half_turns_and_quarter_turns() -> Tensor:
    """Rotations at which angles are not unique, and the identity."""
    axes = torch.eye(3, dtype=torch.float64)
    angles = torch.tensor([0.0, math.pi / 2, math.pi, 3 * math.pi / 2], dtype=torch.float64)
    return torch.cat([rotation_about_axis(axis, angles) for axis in axes])


def _rotations(num: int = 5) -> Tensor:
    return torch.cat((random_rotation(num, dtype=torch.float64), _half_turns_and_quarter_turns()))


def test_d_is_a_homomorphism() -> None:
    """D^l(R S) = D^l(R) D^l(S), D^l(1) = 1."""
    first, second = _rotations(), _rotations().flip(0)
    for left, right, product in zip(*(wigner_d_all(12, r) for r in (first, second, first @ second)), strict=True):
        torch.testing.assert_close(left @ right, product, rtol=0, atol=1e-12)
    for degree, identity in enumerate(wigner_d_all(12, torch.eye(3, dtype=torch.float64))):
        torch.testing.assert_close(identity, torch.eye(2 * degree + 1, dtype=torch.float64), rtol=0, atol=1e-13)


def test_d_is_orthogonal() -> None:
    rotation = _rotations()
    for degree, d in enumerate(wigner_d_all(12, rotation)):
        assert d.shape == (len(rotation), 2 * degree + 1, 2 * degree + 1)
        torch.testing.assert_close(
            d @ d.mT, torch.eye(2 * degree + 1, dtype=torch.float64).expand_as(d), rtol=0, atol=1e-13
        )
    for d, inverse in zip(wigner_d_all(12, rotation), wigner_d_all(12, rotation.mT), strict=True):
        torch.testing.assert_close(d.mT, inverse, rtol=0, atol=1e-13)


def test_d_of_degree_1_is_the_rotation_itself() -> None:
    rotation = _rotations()
    assert torch.equal(wigner_d(1, rotation), rotation)
    assert torch.equal(wigner_d(0, rotation), torch.ones(len(rotation), 1, 1, dtype=torch.float64))


def test_harmonics_of_a_rotated_vector_are_rotated_harmonics() -> None:
    """Y_l(R x) = D^l(R) Y_l(x)."""
    rotation, vectors = _rotations()[:, None], torch.randn(7, 3, dtype=torch.float64)
    before = spherical_harmonics(12, vectors)
    after = spherical_harmonics(12, (rotation @ vectors[..., None])[..., 0])
    for degree, d in enumerate(wigner_d_all(12, rotation)):
        block = slice(degree**2, (degree + 1) ** 2)
        torch.testing.assert_close((d @ before[:, block, None])[..., 0], after[..., block], rtol=0, atol=1e-13)


def test_middle_column_is_a_spherical_harmonic() -> None:
    """D^l_{m0}(R) = √(4π/(2l+1)) Y_lm(R y): the factor is not √(2l+1)."""
    rotation = _rotations()
    harmonics = spherical_harmonics(12, rotation[..., 1])
    for degree, d in enumerate(wigner_d_all(12, rotation)):
        expected = math.sqrt(4 * math.pi / (2 * degree + 1)) * harmonics[:, degree**2 : (degree + 1) ** 2]
        torch.testing.assert_close(d[..., degree], expected, rtol=0, atol=1e-13)


def test_rotation_about_the_polar_axis_mixes_only_equal_orders() -> None:
    """D^l of an angle α about y: rotations by mα in the planes of m and −m."""
    alpha = torch.tensor(0.7, dtype=torch.float64)
    rotation = rotation_about_axis(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), alpha)
    for degree, d in enumerate(wigner_d_all(6, rotation)):
        expected = torch.zeros_like(d)
        for m in range(-degree, degree + 1):
            expected[degree + m, degree + m] = math.cos(m * alpha)
            expected[degree + m, degree - m] += -math.sin(m * alpha) if m else 0
        torch.testing.assert_close(d, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("degree", DEGREES)
def test_d_equals_the_explicit_wigner_sum(degree: int) -> None:
    """D = U conj(e^{−imα} d^l_mn(β) e^{−inγ}) U†, with Wigner's sum for d^l."""
    alpha, beta, gamma = 0.4, 1.1, -2.0
    rotation = rotation_from_euler(*(torch.tensor(a, dtype=torch.float64) for a in (alpha, beta, gamma)))
    orders = torch.arange(-degree, degree + 1, dtype=torch.float64)
    small = torch.tensor(
        [[_wigner_small_d(degree, int(m), int(n), beta) for n in orders] for m in orders], dtype=torch.float64
    )
    d = torch.exp(-1j * orders * alpha)[:, None] * small * torch.exp(-1j * orders * gamma)
    change = real_from_complex(degree)
    real = change @ d.conj() @ change.mH
    assert real.imag.abs().max() < 1e-12
    torch.testing.assert_close(wigner_d(degree, rotation), real.real, rtol=0, atol=1e-12)


def _wigner_small_d(l: int, m: int, n: int, beta: float) -> float:
    total = 0.0
    for s in range(max(0, n - m), min(l + n, l - m) + 1):
        bottom = factorial(l + n - s) * factorial(s) * factorial(m - n + s) * factorial(l - m - s)
        powers = math.cos(beta / 2) ** (2 * l + n - m - 2 * s) * math.sin(beta / 2) ** (m - n + 2 * s)
        total += (-1) ** (m - n + s) * powers / bottom
    return total * math.sqrt(factorial(l + m) * factorial(l - m) * factorial(l + n) * factorial(l - n))


@pytest.mark.parametrize("degree", DEGREES)
def test_d_equals_e3nn(degree: int, o3) -> None:
    torch.set_default_dtype(torch.float64)  # in which e3nn makes its generators
    alpha, beta, gamma = torch.rand(3, 4) * 3
    rotation = rotation_from_euler(alpha, beta, gamma)
    torch.testing.assert_close(wigner_d(degree, rotation), o3.wigner_D(degree, alpha, beta, gamma), rtol=0, atol=1e-12)


def test_reflections_follow_the_parity_of_the_harmonics() -> None:
    rotation = _rotations()
    for degree, (d, reflected) in enumerate(zip(wigner_d_all(6, rotation), wigner_d_all(6, -rotation), strict=True)):
        torch.testing.assert_close(reflected, (-1) ** degree * d, rtol=0, atol=1e-15)


def test_d_is_differentiable_along_rotations_and_at_singular_angles() -> None:
    """d/dα D^l(R exp(α K)) at α = 0 for R = 1: an antisymmetric matrix, the representation of so(3)."""
    angle = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)

    def along(a: Tensor) -> Tensor:
        return wigner_d(2, rotation_about_axis(axis, a))

    assert gradcheck(along, angle)
    assert gradgradcheck(along, angle, fast_mode=True)
    generator = torch.autograd.functional.jacobian(lambda a: along(a[None])[0], angle[0].detach())
    torch.testing.assert_close(generator, -generator.mT, rtol=0, atol=1e-14)
    casimir = sum(
        torch.autograd.functional.jacobian(lambda a, e=e: wigner_d(2, rotation_about_axis(e, a)), angle[0].detach())
        ** 2
        for e in torch.eye(3, dtype=torch.float64)
    )
    torch.testing.assert_close(casimir.sum(0), torch.full((5,), 6.0, dtype=torch.float64))  # l (l + 1)


def test_derivatives_with_respect_to_the_matrix_agree_with_finite_differences() -> None:
    rotation = torch.stack((torch.eye(3, dtype=torch.float64), random_rotation(dtype=torch.float64))).requires_grad_()
    assert gradcheck(lambda r: wigner_d(3, r), rotation)
    assert gradgradcheck(lambda r: wigner_d(3, r), rotation, fast_mode=True)


def test_float32_is_accurate_to_its_precision() -> None:
    rotation = random_rotation(50)
    for d, exact in zip(wigner_d_all(12, rotation), wigner_d_all(12, rotation.double()), strict=True):
        assert d.dtype == torch.float32
        assert (d - exact).abs().max() < 1e-6


def test_batch_shapes_and_negative_degree() -> None:
    assert [d.shape for d in wigner_d_all(2, random_rotation(2, 0))] == [(2, 0, 1, 1), (2, 0, 3, 3), (2, 0, 5, 5)]
    assert len(wigner_d_all(0, random_rotation())) == 1
    with pytest.raises(ValueError, match="got -1"):
        wigner_d_all(-1, random_rotation())
    with pytest.raises(ValueError, match="got -2"):
        wigner_d(-2, random_rotation())
