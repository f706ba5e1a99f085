from __future__ import annotations

import math

import pytest
import torch
from scipy.special import lpmv, sph_harm_y
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from se3t.so3 import associated_legendre, spherical_harmonics

POLES = torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64)
AXES = torch.cat((torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)))


def _directions(num: int = 200) -> Tensor:
    """Generic directions, both poles, all axes, and points close to the poles."""
    near = POLES + 1e-7 * torch.randn(20, 1, 3, dtype=torch.float64)
    return torch.cat((torch.randn(num, 3, dtype=torch.float64), AXES, near.reshape(-1, 3)))


def _slice(degree: int) -> slice:
    return slice(degree**2, (degree + 1) ** 2)


def _jacobian(function, vectors: Tensor) -> Tensor:
    """``[component, vector, 3]`` of a function that treats vectors one by one."""
    vectors = vectors.clone().requires_grad_()
    values = function(vectors)
    return torch.stack(
        [torch.autograd.grad(column.sum(), vectors, retain_graph=True)[0] for column in values.unbind(-1)]
    )


def _closed_forms(vectors: Tensor) -> Tensor:
    """Degrees 0, 1, 2 as they stand in tables of real harmonics, with our (z, x, y) for their (x, y, z)."""
    x, y, z = (vectors / vectors.norm(dim=-1, keepdim=True)).unbind(-1)
    values = [
        torch.full_like(x, math.sqrt(1 / math.pi) / 2),
        *(math.sqrt(3 / (4 * math.pi)) * component for component in (x, y, z)),
        math.sqrt(15 / math.pi) / 2 * z * x,
        math.sqrt(15 / math.pi) / 2 * x * y,
        math.sqrt(5 / math.pi) / 4 * (3 * y * y - 1),
        math.sqrt(15 / math.pi) / 2 * y * z,
        math.sqrt(15 / math.pi) / 4 * (z * z - x * x),
    ]
    return torch.stack(values, dim=-1)


def test_values_equal_closed_forms_up_to_degree_2() -> None:
    vectors = _directions()
    torch.testing.assert_close(spherical_harmonics(2, vectors), _closed_forms(vectors), rtol=0, atol=1e-14)


def test_gradients_equal_closed_forms_up_to_degree_2() -> None:
    vectors = _directions()
    expected = _jacobian(_closed_forms, vectors)
    torch.testing.assert_close(_jacobian(lambda v: spherical_harmonics(2, v), vectors), expected, rtol=0, atol=1e-12)


def test_values_equal_scipy_up_to_degree_12() -> None:
    """Real and imaginary part of the complex harmonics, freed from the Condon–Shortley phase."""
    vectors = _directions()
    x, y, z = (vectors / vectors.norm(dim=-1, keepdim=True)).numpy().T
    theta, phi = (torch.from_numpy(a) for a in _angles(x, y, z))
    ours = spherical_harmonics(12, vectors)
    for degree in range(13):
        for order in range(-degree, degree + 1):
            complex_value = torch.from_numpy(sph_harm_y(degree, abs(order), theta.numpy(), phi.numpy()))
            part = complex_value.imag if order < 0 else complex_value.real
            expected = part * ((-1) ** order * math.sqrt(2) if order else 1)
            torch.testing.assert_close(ours[:, degree**2 + degree + order], expected, rtol=0, atol=1e-12)


def _angles(x, y, z):
    import numpy as np

    return np.arctan2(np.hypot(x, z), y), np.arctan2(x, z)


@pytest.mark.parametrize("degree", range(12))
def test_values_and_gradients_equal_e3nn_as_far_as_it_goes(degree: int, o3) -> None:
    """e3nn stops at degree 11."""
    vectors = _directions(30)

    def theirs(v: Tensor) -> Tensor:
        return o3.spherical_harmonics(degree, v, normalize=True, normalization="integral")

    def ours(v: Tensor) -> Tensor:
        return spherical_harmonics(degree, v)[..., _slice(degree)]

    torch.testing.assert_close(ours(vectors), theirs(vectors), rtol=0, atol=1e-12)
    if degree == 0:
        return  # a constant
    unit = vectors / vectors.norm(dim=-1, keepdim=True)  # a gradient has unit 1/length, so compare at length 1
    torch.testing.assert_close(_jacobian(ours, unit), _jacobian(theirs, unit), rtol=0, atol=1e-12)


def test_solid_harmonics_equal_e3nn(o3) -> None:
    vectors = torch.randn(50, 3, dtype=torch.float64)
    expected = torch.cat(
        [o3.spherical_harmonics(d, vectors, normalize=False, normalization="integral") for d in range(7)], -1
    )
    torch.testing.assert_close(spherical_harmonics(6, vectors, normalize=False), expected, rtol=1e-12, atol=1e-12)


def test_solid_harmonics_are_harmonic_and_homogeneous() -> None:
    """∇² r^J Y_J = 0 and r^J Y_J(c x) = c^J …: with the norm, this is what defines them."""
    vectors = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    values = spherical_harmonics(12, vectors, normalize=False)
    scaled = spherical_harmonics(12, 1.5 * vectors, normalize=False)
    powers = torch.cat([torch.full((2 * d + 1,), 1.5**d, dtype=torch.float64) for d in range(13)])
    torch.testing.assert_close(scaled, powers * values, rtol=1e-12, atol=1e-12)
    for component in (6, 20, 56, 156):
        (gradient,) = torch.autograd.grad(values[:, component].sum(), vectors, create_graph=True)
        second = [torch.autograd.grad(gradient[:, i].sum(), vectors, retain_graph=True)[0][:, i] for i in range(3)]
        size = torch.stack(second).abs().max()
        assert sum(second).abs().max() < 1e-13 * max(size, 1)
        assert size > 0.1


def test_harmonics_are_orthonormal_on_the_sphere() -> None:
    from scipy.special import roots_legendre

    cosine, weight = (torch.from_numpy(a) for a in roots_legendre(13))
    phi = 2 * math.pi * torch.arange(25, dtype=torch.float64) / 25
    y, angle = torch.meshgrid(cosine, phi, indexing="ij")
    sine = (1 - y * y).sqrt()
    values = spherical_harmonics(12, torch.stack((sine * angle.sin(), y, sine * angle.cos()), -1))
    gram = torch.einsum("ab,abi,abj->ij", weight[:, None].expand(-1, 25) * 2 * math.pi / 25, values, values)
    torch.testing.assert_close(gram, torch.eye(169, dtype=torch.float64), rtol=0, atol=1e-13)


def test_type_1_is_the_vector_itself() -> None:
    vectors = torch.randn(5, 3, dtype=torch.float64)
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(spherical_harmonics(1, vectors)[:, 1:], math.sqrt(3 / (4 * math.pi)) * unit)


def test_degrees_above_do_not_change_those_below() -> None:
    vectors = _directions(10)
    assert torch.equal(spherical_harmonics(12, vectors)[:, :25], spherical_harmonics(4, vectors))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 4, 3)])
@pytest.mark.parametrize("max_degree", [0, 1, 3])
def test_any_batch_shape(shape: tuple[int, ...], max_degree: int) -> None:
    vectors = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    values = spherical_harmonics(max_degree, vectors)
    assert values.shape == (*shape[:-1], (max_degree + 1) ** 2)
    flat = spherical_harmonics(max_degree, vectors.reshape(-1, 3))
    assert torch.equal(values.reshape(flat.shape), flat)
    (gradient,) = torch.autograd.grad(values.sum(), vectors)
    assert gradient.shape == shape


@pytest.mark.parametrize("normalize", [True, False])
def test_derivatives_agree_with_finite_differences(normalize: bool) -> None:
    """First and second, at both poles, on the axes and in generic directions."""
    vectors = torch.cat((AXES, torch.randn(2, 3, dtype=torch.float64))).requires_grad_()
    assert gradcheck(lambda v: spherical_harmonics(3, v, normalize), vectors)
    poles = torch.cat((POLES, torch.randn(1, 3, dtype=torch.float64))).requires_grad_()
    assert gradgradcheck(lambda v: spherical_harmonics(2, v, normalize), poles)


def test_derivatives_agree_with_finite_differences_at_degree_12() -> None:
    vectors = torch.cat((POLES, torch.randn(1, 3, dtype=torch.float64))).requires_grad_()
    weight = torch.randn(169, dtype=torch.float64)
    assert gradcheck(lambda v: spherical_harmonics(12, v) @ weight, vectors)
    assert gradgradcheck(lambda v: spherical_harmonics(12, v) @ weight, vectors, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_vector_has_only_degree_0_and_no_gradient(dtype: torch.dtype) -> None:
    vectors = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    values = spherical_harmonics(12, vectors)
    torch.testing.assert_close(values[:, 0], torch.full((2,), math.sqrt(1 / (4 * math.pi)), dtype=dtype))
    assert not values[:, 1:].any()
    weight = torch.randn(169, dtype=dtype)
    (first,) = torch.autograd.grad((values @ weight).sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), vectors)
    assert not first.any()
    assert not second.any()


@pytest.mark.parametrize("exponent", [-45, -37, -20, -14, -12, -11, -8, 0, 8, 18])
def test_derivatives_are_finite_at_every_length_of_float32(exponent: int) -> None:
    vectors = (torch.cat((AXES, torch.randn(4, 3, dtype=torch.float64))) * 10.0**exponent).float().requires_grad_()
    values = spherical_harmonics(12, vectors) @ torch.ones(169)
    (first,) = torch.autograd.grad(values.sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), vectors)
    assert all(bool(t.isfinite().all()) for t in (values, first, second))


@pytest.mark.parametrize(("max_degree", "bound"), [(6, 5e-7), (12, 1.2e-6)])
def test_float32_is_accurate_also_near_the_poles(max_degree: int, bound: float) -> None:
    theta = torch.cat(
        (torch.logspace(-8, -1, 4000, dtype=torch.float64), torch.linspace(0.1, 3.14, 4000, dtype=torch.float64))
    )
    phi = 2 * math.pi * torch.rand(len(theta), dtype=torch.float64)
    vectors = torch.stack((theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos()), dim=-1)
    for scale in (1.0, -1.0, 3.7):
        single = (scale * vectors).float()
        error = (spherical_harmonics(max_degree, single) - spherical_harmonics(max_degree, single.double())).abs().max()
        assert error < bound


def test_float32_gradients_are_accurate_near_the_poles() -> None:
    weight = torch.randn(49, dtype=torch.float64)
    theta = torch.logspace(-8, -1, 500, dtype=torch.float64)
    vectors = torch.stack((theta.sin() * 0.6, theta.cos(), theta.sin() * 0.8), dim=-1).float()
    gradients = []
    for dtype in (torch.float32, torch.float64):
        v = vectors.to(dtype).requires_grad_()
        (gradient,) = torch.autograd.grad((spherical_harmonics(6, v) @ weight.to(dtype)).sum(), v)
        gradients.append(gradient.double())
    assert (gradients[0] - gradients[1]).abs().max() < 2e-6 * gradients[1].abs().max()


@pytest.mark.parametrize("normalize", [True, False])
def test_blocks_of_points_give_the_same_as_all_at_once(normalize: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.so3.native.unavailable", lambda device, dtype: "there is no compiler")
    vectors, weight = torch.randn(23, 3, dtype=torch.float64), torch.randn(49, dtype=torch.float64)

    def results() -> tuple[Tensor, ...]:
        leaf = vectors.clone().requires_grad_()
        values = spherical_harmonics(6, leaf, normalize)
        (first,) = torch.autograd.grad((values @ weight).sum(), leaf, create_graph=True)
        return values, first, *torch.autograd.grad(first.square().sum(), leaf)

    whole = results()
    monkeypatch.setattr("se3t.so3.harmonics._block_size", lambda tensor: 5)
    for one, other in zip(results(), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_the_same_whether_or_not_they_are_differentiated_again(dtype: torch.dtype) -> None:
    """The two come from different formulas for the direction and the length."""
    vectors = torch.cat((_directions(), torch.zeros(1, 3))).to(dtype).requires_grad_()
    total = (spherical_harmonics(6, vectors) @ torch.linspace(-1, 1, 49, dtype=dtype)).sum()
    (plain,) = torch.autograd.grad(total, vectors, retain_graph=True)
    (differentiable,) = torch.autograd.grad(total, vectors, create_graph=True)
    assert differentiable.requires_grad
    assert (plain - differentiable).abs().max() < 20 * torch.finfo(dtype).eps * plain.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    vectors = torch.randn(5, 3).to(dtype)
    values = spherical_harmonics(4, vectors)
    assert values.dtype == dtype
    assert torch.equal(values, spherical_harmonics(4, vectors.float()).to(dtype))


def test_negative_degree_is_refused() -> None:
    with pytest.raises(ValueError, match="got -1"):
        spherical_harmonics(-1, torch.zeros(3))


def test_legendre_has_no_condon_shortley_phase_and_a_minus_sign_in_its_recursion() -> None:
    """P_3^1(0.3) = −0.787, and +0.787 with the phase; a plus sign before the term of degree J − 2 would give 2.075."""
    found = associated_legendre(3, torch.tensor(0.3, dtype=torch.float64))
    assert found[3, 1].item() == pytest.approx(1.5 * (5 * 0.3**2 - 1) * math.sqrt(1 - 0.3**2), abs=1e-15)
    assert found[3, 1].item() == pytest.approx(-lpmv(1, 3, 0.3), abs=1e-15)  # SciPy's has the phase
    assert found[3, 1].item() == pytest.approx(-0.787, abs=5e-5)
    root = math.sqrt(1 - 0.3**2)
    assert found[1, 1].item() == pytest.approx(root)
    assert found[2, 1].item() == pytest.approx(3 * 0.3 * root)
    assert (5 * 0.3 * found[2, 1] - 3 * found[1, 1]).item() / 2 == pytest.approx(found[3, 1].item())


def test_legendre_equals_scipy() -> None:
    from scipy.special import assoc_legendre_p_all

    x = torch.linspace(-1, 1, 41, dtype=torch.float64)
    theirs = torch.from_numpy(assoc_legendre_p_all(12, 12, x.numpy())[0])  # with the phase (−1)^m
    for (degree, order), value in associated_legendre(12, x).items():
        torch.testing.assert_close(value, (-1) ** order * theirs[degree, order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalize", [True, False])
def test_function_transforms_give_the_derivatives_of_autograd(normalize: bool) -> None:
    vectors = torch.cat((_directions(20), torch.zeros(1, 3, dtype=torch.float64)))
    weight = torch.randn(25, dtype=torch.float64)

    def total(vectors: Tensor) -> Tensor:
        return (spherical_harmonics(4, vectors, normalize) @ weight).square().sum()

    def slope(vectors: Tensor) -> Tensor:
        return torch.func.grad(total)(vectors).square().sum()

    leaf = vectors.clone().requires_grad_()
    (first,) = torch.autograd.grad(total(leaf), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    torch.testing.assert_close(torch.func.grad(total)(vectors), first.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.func.grad(slope)(vectors), second, rtol=1e-9, atol=1e-9)
