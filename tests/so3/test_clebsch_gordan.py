from __future__ import annotations

import math

import pytest
import torch

from se3t.so3 import clebsch_gordan, e3nn_sign, random_rotation, real_from_complex, spherical_harmonics, wigner_d_all

SMALL = [(l, k, J) for l in range(5) for k in range(5) for J in range(abs(l - k), l + k + 1)]
LARGE = [
    (12, 12, 12),
    (12, 12, 0),
    (12, 11, 1),
    (11, 12, 10),
    (9, 5, 12),
    (12, 1, 11),
    (0, 12, 12),
    (7, 12, 8),
    (8, 8, 11),
]


def _identity(size: int) -> torch.Tensor:
    return torch.eye(size, dtype=torch.float64)


@pytest.mark.parametrize("triple", [(0, 0, 0), (1, 1, 1), (2, 1, 3), (3, 2, 4), *LARGE])
def test_clebsch_gordan_intertwines(triple: tuple[int, int, int]) -> None:
    """D^l Q = Q (D^k ⊗ D^J)."""
    l, k, J = triple
    d = wigner_d_all(max(triple), random_rotation(dtype=torch.float64))
    coupling = clebsch_gordan(*triple)
    left = torch.einsum("ka,aij->kij", d[l], coupling)
    right = torch.einsum("kab,ai,bj->kij", coupling, d[k], d[J])
    torch.testing.assert_close(left, right, rtol=0, atol=1e-13)


@pytest.mark.parametrize("triple", [*SMALL, *LARGE])
def test_norm_and_sign_rule(triple: tuple[int, int, int]) -> None:
    l, k, J = triple
    coupling = clebsch_gordan(l, k, J)
    assert coupling.shape == (2 * l + 1, 2 * k + 1, 2 * J + 1)
    assert coupling.dtype == torch.float64
    assert abs(coupling.norm().item() - 1) < 1e-14
    gram = torch.einsum("kij,lij->kl", coupling, coupling)
    torch.testing.assert_close(gram, _identity(2 * l + 1) / (2 * l + 1), rtol=0, atol=1e-14)
    flat = coupling.flatten()
    assert flat[flat.abs() > 1e-9][0] > 0
    assert not (
        (flat.abs() > 1e-15) & (flat.abs() < 1e-6)
    ).any()  # nothing near the threshold: the rule is not a matter of rounding


@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 1), (2, 1), (2, 3), (3, 3), (5, 4)])
def test_tensor_product_decomposes(left: int, right: int) -> None:
    """All couplings together are an orthogonal change of basis, and it block-diagonalises D^k ⊗ D^J into the D^l."""
    degrees = range(abs(left - right), left + right + 1)
    rows = [math.sqrt(2 * l + 1) * clebsch_gordan(l, left, right).flatten(1) for l in degrees]
    basis = torch.cat(rows)
    torch.testing.assert_close(basis @ basis.T, _identity(len(basis)), rtol=0, atol=1e-13)
    d = wigner_d_all(left + right, random_rotation(dtype=torch.float64))
    product = torch.kron(d[left], d[right])
    expected = torch.block_diag(*(d[l] for l in degrees))
    torch.testing.assert_close(basis @ product @ basis.T, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("triple", SMALL)
def test_equal_to_e3nn_with_the_stated_sign(triple: tuple[int, int, int], o3) -> None:
    expected = e3nn_sign(*triple) * o3.wigner_3j(*triple, dtype=torch.float64)
    torch.testing.assert_close(clebsch_gordan(*triple), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("triple", LARGE)
def test_equal_to_e3nn_with_the_stated_sign_up_to_degree_12(triple: tuple[int, int, int], o3) -> None:
    expected = o3.wigner_3j(*triple, dtype=torch.float64)
    torch.testing.assert_close(clebsch_gordan(*triple).abs(), expected.abs(), rtol=0, atol=1e-12)
    torch.testing.assert_close(clebsch_gordan(*triple), e3nn_sign(*triple) * expected, rtol=0, atol=1e-12)


def test_closed_forms_of_low_degree() -> None:
    """Dot product, multiplication by a scalar, cross product: the couplings of types 0 and 1 in vector algebra."""
    eye = _identity(3)
    torch.testing.assert_close(clebsch_gordan(0, 1, 1)[0], eye / math.sqrt(3))
    torch.testing.assert_close(clebsch_gordan(1, 1, 0)[..., 0], eye / math.sqrt(3))
    cross = torch.stack([torch.stack([torch.linalg.cross(a, b) for b in eye], -1) for a in eye], 1)
    torch.testing.assert_close(clebsch_gordan(1, 1, 1), cross / math.sqrt(6))


@pytest.mark.parametrize(("l", "k", "J"), [(2, 1, 1), (3, 1, 2), (3, 2, 3), (4, 2, 2)])
def test_gaunt_integral_of_three_harmonics(l: int, k: int, J: int) -> None:
    """∫ Y_l Y_k Y_J over the sphere is an intertwiner: a multiple of Q, which vanishes when l + k + J is odd."""
    directions, weights = _sphere_quadrature(l + k + J)
    y = spherical_harmonics(4, directions)
    gaunt = torch.einsum("s,sk,si,sj->kij", weights, *(y[:, d * d : (d + 1) ** 2] for d in (l, k, J)))
    coupling = clebsch_gordan(l, k, J)
    factor = (gaunt * coupling).sum()
    torch.testing.assert_close(gaunt, factor * coupling, rtol=0, atol=1e-13)
    assert (factor.abs() > 0.1) == ((l + k + J) % 2 == 0)


def _sphere_quadrature(degree: int) -> tuple[torch.Tensor, torch.Tensor]:
    from scipy.special import roots_legendre

    cosine, weight = (torch.from_numpy(a) for a in roots_legendre(degree // 2 + 1))
    phi = 2 * math.pi * torch.arange(degree + 1, dtype=torch.float64) / (degree + 1)
    y, angle = (a.flatten() for a in torch.meshgrid(cosine, phi, indexing="ij"))
    sine = (1 - y * y).sqrt()
    directions = torch.stack((sine * angle.sin(), y, sine * angle.cos()), dim=-1)
    return directions, (weight[:, None].expand(-1, len(phi)) * 2 * math.pi / len(phi)).flatten()


def test_change_to_the_real_basis_is_unitary() -> None:
    for degree in (0, 1, 5):
        change = real_from_complex(degree)
        eye = torch.eye(2 * degree + 1, dtype=torch.complex128)
        torch.testing.assert_close(change @ change.mH, eye, rtol=0, atol=1e-15)


def test_the_cache_cannot_be_damaged_by_a_caller() -> None:
    clebsch_gordan(1, 1, 1).zero_()
    assert clebsch_gordan(1, 1, 1).any()


def test_tensors_first_made_in_inference_mode_can_be_used_for_training() -> None:
    with torch.inference_mode():
        clebsch_gordan(6, 3, 5)
        wigner_d_all(7, random_rotation(dtype=torch.float64))
    weight = torch.ones(11, dtype=torch.float64, requires_grad=True)
    (clebsch_gordan(6, 3, 5) @ weight).sum().backward()
    rotation = random_rotation(dtype=torch.float64).requires_grad_()
    wigner_d_all(7, rotation)[7].sum().backward()
    assert weight.grad is not None
    assert rotation.grad is not None


@pytest.mark.parametrize(
    ("triple", "message"),
    [((1, 1, 3), "degree 3: expected 0 to 2"), ((3, 1, 1), "expected 2 to 4"), ((-1, 1, 1), "0 or more")],
)
def test_impossible_couplings_are_refused(triple: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clebsch_gordan(*triple)
