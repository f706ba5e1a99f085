from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from se3t.so3 import safe_norm, safe_normalize


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_safe_norm_equals_the_norm_away_from_zero(dim: int, keepdim: bool) -> None:
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(safe_norm(x, dim, keepdim), torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim))


def test_safe_normalize_equals_the_quotient_away_from_zero() -> None:
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(safe_normalize(x), x / x.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(safe_normalize(x, dim=0), x / x.norm(dim=0, keepdim=True))


@pytest.mark.parametrize("function", [safe_norm, safe_normalize])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_derivatives_at_zero_are_zero(function, dtype: torch.dtype) -> None:
    x = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    value = function(x)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert not value.any()
    assert not first.any()
    assert not second.any()


@pytest.mark.parametrize("function", [safe_norm, safe_normalize])
@pytest.mark.parametrize("exponent", range(-37, 18, 2))
def test_derivatives_are_finite_for_lengths_of_every_size(function, exponent: int) -> None:
    x = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 0.0]]) * 10.0**exponent
    x.requires_grad_()
    value = function(x)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert all(bool(t.isfinite().all()) for t in (value, first, second))


def test_direction_of_a_short_vector_is_either_exact_or_zero() -> None:
    direction = torch.tensor([2.0, -1.0, 2.0]) / 3
    for exponent in range(-45, 18):
        found = safe_normalize(direction * 10.0**exponent)
        assert not found.any() or torch.allclose(found, direction, rtol=0, atol=2e-7), exponent
    assert safe_normalize(direction * 1e-11).any()


def test_work_dtype_leaves_one_rounding() -> None:
    x = torch.randn(1000, 3)
    exact = safe_normalize(x.double())
    assert safe_normalize(x, work_dtype=torch.float64).dtype == torch.float32
    assert (safe_normalize(x, work_dtype=torch.float64) - exact).abs().max() < 3.1e-8


@pytest.mark.parametrize("function", [safe_norm, safe_normalize])
def test_first_and_second_derivatives_agree_with_finite_differences(function) -> None:
    x = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(function, x)
    assert gradgradcheck(function, x)
