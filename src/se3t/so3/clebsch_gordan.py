"""Clebsch–Gordan coefficients Q_J of the real basis, with a sign that no library, version or factorisation decides."""

from __future__ import annotations

from fractions import Fraction
from math import copysign, factorial, prod, sqrt

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from se3t.compiling import table

_NONZERO = 1e-9  # the smallest coefficient up to degree 12 is above 1e-6


def clebsch_gordan(
    degree_out: int, degree_in: int, degree: int
) -> Float64[Tensor, "2*{degree_out}+1 2*{degree_in}+1 2*{degree}+1"]:
    """The change of basis Q_J^{lk} of Eq. 8 as a tensor Q[m_out, m_in, m_J], l = degree_out, k = degree_in, J = degree.

    It couples: (f, Y) ↦ Σ Q[:, i, j] f_i Y_j takes types k and J to type l, that is
    D^l Q = Q (D^k ⊗ D^J). This fixes Q up to a factor, and we fix the factor:

    - **norm**: Σ Q² = 1, so that Σ_{ij} Q[m,i,j] Q[n,i,j] = δ_mn / (2l+1);
    - **sign**: the first entry, in the order (m_out, m_in, m_J), whose magnitude exceeds 1e-9 is positive.

    The coefficients are those of Racah's formula, in exact integers and fractions, rounded once and taken to the real
    basis by :func:`real_from_complex`. The signs therefore never change, and saved weights keep their meaning.

    Args:
        degree_out: l ≥ 0, type of the output.
        degree_in: k ≥ 0, type of the input.
        degree: J of the spherical harmonic, |l − k| ≤ J ≤ l + k.

    Returns:
        ``[2l+1, 2k+1, 2J+1]`` float64 on the CPU: cast last. A fresh copy of a cached tensor: the caller may modify it.

    Raises:
        ValueError: when a degree is negative or the three violate the triangle inequality.

    Source: Racah's formula for ⟨k m_k J m_J | l m_l⟩. e3nn's ``wigner_3j(l, k, J)`` is the same tensor up to a sign:
    see :func:`se3t.so3.e3nn_sign`.

    **Deviation**: the authors' code takes Q from the null space of a Sylvester equation, with the sign an SVD returns.
    """
    lowest, highest = abs(degree_out - degree_in), degree_out + degree_in
    if min(degree_out, degree_in, degree) < 0:
        raise ValueError(f"degrees: expected 0 or more, got ({degree_out}, {degree_in}, {degree})")
    if not lowest <= degree <= highest:
        raise ValueError(
            f"degree {degree}: expected {lowest} to {highest}, the degrees that couple {degree_in} to {degree_out}"
        )
    return _signed_coupling(degree_out, degree_in, degree, torch.float64, torch.device("cpu")).clone()


@table(lambda *degrees: tuple(2 * degree + 1 for degree in degrees))
def _signed_coupling(degree_out: int, degree_in: int, degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    coupling = unsigned_coupling(degree_out, degree_in, degree)
    return (coupling * first_sign(coupling)).to(dtype=dtype, device=device)


def first_sign(coupling: Tensor) -> int:
    """Sign of the first entry that is not zero, in the order of memory: the sign rule of :func:`clebsch_gordan`."""
    flat = coupling.flatten()
    return 1 if float(flat[flat.abs() > _NONZERO][0]) > 0 else -1


def unsigned_coupling(degree_out: int, degree_in: int, degree: int) -> Tensor:
    """Re i^(l−k−J) U^l C (Ū^k ⊗ Ū^J), normalised: C of Racah's formula, U of :func:`real_from_complex`.

    The phase makes the product real: its imaginary part is zero.
    """
    phase = (1, 1j, -1, -1j)[(degree_out - degree_in - degree) % 4]
    with torch.inference_mode(False):  # a cached inference tensor would be refused by autograd later
        out, into, harmonic = (real_from_complex(l) for l in (degree_out, degree_in, degree))
        coupled = _complex_coefficients(degree_in, degree, degree_out)
        coupled = torch.einsum("ka,aij->kij", out, coupled)
        coupled = torch.einsum("kaj,ia->kij", coupled, into.conj())
        coupled = torch.einsum("kia,ja->kij", coupled, harmonic.conj())
        real = (phase * coupled).real
        return (real / real.norm()).contiguous()


def real_from_complex(degree: int) -> Complex128[Tensor, "2*{degree}+1 2*{degree}+1"]:
    """Unitary U with Y = U Ŷ, from complex harmonics Ŷ_m ∝ e^{imφ} with the Condon–Shortley phase to the real ones.

    Row m > 0: ((−1)^m Ŷ_m + Ŷ_{−m})/√2; row −m: ((−1)^m Ŷ_m − Ŷ_{−m})/(i√2); row 0: Ŷ_0.

    Args:
        degree: l ≥ 0.

    Returns:
        ``[2l+1, 2l+1]``, rows and columns m = −l … l.
    """
    size, root = 2 * degree + 1, sqrt(0.5)
    real, imaginary = torch.zeros(2, size, size, dtype=torch.float64, device="cpu")
    real[degree, degree] = 1
    for m in range(1, degree + 1):
        plus, minus, sign = degree + m, degree - m, (-1) ** m
        real[plus, plus], real[plus, minus] = sign * root, root
        imaginary[minus, plus], imaginary[minus, minus] = -sign * root, root
    return torch.complex(real, imaginary)


def _complex_coefficients(j1: int, j2: int, j: int) -> Tensor:
    """⟨j1 m1 j2 m2 | j m⟩ as a tensor [m, m1, m2]; zero unless m = m1 + m2."""
    table = torch.zeros(2 * j + 1, 2 * j1 + 1, 2 * j2 + 1, dtype=torch.complex128, device="cpu")
    for m1 in range(-j1, j1 + 1):
        for m2 in range(max(-j2, -j - m1), min(j2, j - m1) + 1):
            table[m1 + m2 + j, m1 + j1, m2 + j2] = _racah(j1, m1, j2, m2, j)
    return table


def _racah(j1: int, m1: int, j2: int, m2: int, j: int) -> float:
    """Racah's formula: a rational number times the root of one; only that root is rounded."""
    m = m1 + m2
    total = Fraction(0)
    for k in range(max(0, j2 - j - m1, j1 - j + m2), min(j1 + j2 - j, j1 - m1, j2 + m2) + 1):
        arguments = (k, j1 + j2 - j - k, j1 - m1 - k, j2 + m2 - k, j - j2 + m1 + k, j - j1 - m2 + k)
        total += Fraction((-1) ** k, _factorials(*arguments))
    triangle = Fraction((2 * j + 1) * _factorials(j + j1 - j2, j - j1 + j2, j1 + j2 - j), factorial(j1 + j2 + j + 1))
    square = total * total * triangle * _factorials(j + m, j - m, j1 - m1, j1 + m1, j2 - m2, j2 + m2)
    return copysign(sqrt(square), total)


def _factorials(*numbers: int) -> int:
    return prod(map(factorial, numbers))
