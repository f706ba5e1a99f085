"""Haar integral, Schur orthogonality, the Fourier transform on SO(3) and its convolution theorem, at low degree."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from se3t.so3 import fourier_transform, haar_quadrature, inverse_fourier_transform, random_rotation, wigner_d_all

DEGREE = 3


def _entries(rotations: Tensor, max_degree: int = DEGREE) -> Tensor:
    """All entries of D^0 … D^max_degree, each times √(2l+1): ``[sample, entry]``."""
    matrices = wigner_d_all(max_degree, rotations)
    return torch.cat([math.sqrt(2 * l + 1) * d.flatten(1) for l, d in enumerate(matrices)], dim=1)


def _coefficients() -> tuple[Tensor, ...]:
    return tuple(torch.randn(2 * l + 1, 2 * l + 1, dtype=torch.float64) for l in range(DEGREE + 1))


@pytest.mark.parametrize("max_degree", [0, 1, 2, 5, 8])
def test_haar_integral_of_one_is_one_and_of_every_other_degree_zero(max_degree: int) -> None:
    rotations, weights = haar_quadrature(max_degree)
    assert len(rotations) == len(weights) <= (max_degree + 1) ** 2 * (max_degree / 2 + 1)
    assert (weights > 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-14)
    for d in wigner_d_all(max_degree, rotations)[1:]:
        assert torch.einsum("s,smn->mn", weights, d).abs().max() < 1e-14


def test_haar_integral_is_invariant_under_both_translations_and_inversion() -> None:
    rotations, weights = haar_quadrature(2 * DEGREE)
    coefficients, shift = _coefficients(), random_rotation(dtype=torch.float64)

    def integral(samples: Tensor) -> float:
        return (weights @ inverse_fourier_transform(coefficients, samples) ** 2).item()

    expected = integral(rotations)
    assert expected > 1
    for moved in (shift @ rotations, rotations @ shift, rotations.mT):
        assert integral(moved) == pytest.approx(expected, rel=1e-12)


def test_schur_orthogonality() -> None:
    """∫ D^l_mn D^l'_m'n' dR = δδδ / (2l+1)."""
    rotations, weights = haar_quadrature(2 * DEGREE)
    entries = _entries(rotations)
    gram = entries.T @ (weights[:, None] * entries)
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=1e-13)


def test_schur_orthogonality_fails_for_a_rule_of_too_low_degree() -> None:
    rotations, weights = haar_quadrature(2 * DEGREE - 1)
    entries = _entries(rotations)
    gram = entries.T @ (weights[:, None] * entries)
    assert (gram - torch.eye(len(gram), dtype=torch.float64)).abs().max() > 0.1


def test_fourier_round_trip_of_coefficients() -> None:
    rotations, weights = haar_quadrature(2 * DEGREE)
    coefficients = _coefficients()
    values = inverse_fourier_transform(coefficients, rotations)
    for found, expected in zip(fourier_transform(values, rotations, weights, DEGREE), coefficients, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_fourier_round_trip_of_a_function() -> None:
    """f(R) = (a · R b)³ has degree 3: its transform gives it back at rotations outside the rule."""
    a, b = torch.randn(2, 3, dtype=torch.float64)

    def function(rotations: Tensor) -> Tensor:
        return (rotations @ b @ a) ** 3

    rotations, weights = haar_quadrature(2 * DEGREE)
    coefficients = fourier_transform(function(rotations), rotations, weights, DEGREE)
    fresh = random_rotation(20, dtype=torch.float64)
    torch.testing.assert_close(inverse_fourier_transform(coefficients, fresh), function(fresh), rtol=0, atol=1e-12)
    assert coefficients[3].norm() > 0.01
    assert coefficients[2].abs().max() < 1e-13  # an odd function of R


def test_parseval() -> None:
    rotations, weights = haar_quadrature(2 * DEGREE)
    coefficients = _coefficients()
    integral = weights @ inverse_fourier_transform(coefficients, rotations) ** 2
    total = sum((2 * l + 1) * (c**2).sum() for l, c in enumerate(coefficients))
    torch.testing.assert_close(integral, torch.as_tensor(total))


def test_convolution_is_a_product_of_irreps() -> None:
    """(f ∗ g)(R) = ∫ f(S) g(S⁻¹ R) dS has the coefficients ĝ(l) f̂(l), in this order and not in the other."""
    rotations, weights = haar_quadrature(2 * DEGREE)
    f, g = _coefficients(), _coefficients()
    samples = random_rotation(6, dtype=torch.float64)
    values_f = inverse_fourier_transform(f, rotations)
    shifted = (rotations.mT @ samples[:, None]).flatten(0, 1)
    values_g = inverse_fourier_transform(g, shifted).reshape(6, -1)
    convolution = values_g @ (weights * values_f)
    product = tuple(right @ left for left, right in zip(f, g, strict=True))
    torch.testing.assert_close(inverse_fourier_transform(product, samples), convolution, rtol=0, atol=1e-11)
    reverse = tuple(left @ right for left, right in zip(f, g, strict=True))
    assert (inverse_fourier_transform(reverse, samples) - convolution).abs().max() > 1


def test_a_shifted_function_has_shifted_coefficients() -> None:
    """f(S⁻¹ R) ↔ f̂(l) D^l(S)ᵀ: the regular representation decomposes into the irreducible ones."""
    rotations, weights = haar_quadrature(2 * DEGREE)
    coefficients, shift = _coefficients(), random_rotation(dtype=torch.float64)
    shifted = inverse_fourier_transform(coefficients, shift.mT @ rotations)
    found = fourier_transform(shifted, rotations, weights, DEGREE)
    for before, after, d in zip(coefficients, found, wigner_d_all(DEGREE, shift), strict=True):
        torch.testing.assert_close(after, before @ d.mT, rtol=0, atol=1e-12)
