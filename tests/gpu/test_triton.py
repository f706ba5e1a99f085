"""The compiled Triton kernel. These tests have not run yet: they were written where there is no GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nn.triton_cases import FIBERS, SHARES, compare
from se3t.nn.kernels import triton_kernel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

LIMITS = {"float64": 1e-11, "float32": 5e-6, "bfloat16": 1.5}
"""Relative to the reference in float64; bfloat16 in multiples of the error of ``edge_frame`` under that autocast."""


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def test_the_kernel_runs_here() -> None:
    assert triton_kernel.unavailable("cuda") is None


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("fibers", FIBERS)
def test_compiled_kernel_equals_the_reference_with_all_gradients(fibers: str, share: str, dtype: str) -> None:
    for symmetric, positions in ((True, "coincident"), (False, "generic"), (True, "axes")):
        assert compare(fibers, share, positions, dtype, symmetric=symmetric, device="cuda") <= LIMITS[dtype]


def test_second_derivatives_equal_those_of_the_reference() -> None:
    found = compare("several", "none", "coincident", "float64", symmetric=True, second=True, device="cuda")
    assert found <= LIMITS["float64"]


def test_tf32_is_used_where_it_is_allowed_and_costs_what_it_must() -> None:
    """A product of numbers with 10 bits: wrong by 2^-11 each, and not right by float32."""
    torch.set_float32_matmul_precision("high")
    assert 1e-5 < compare("several", "full", "generic", "float32", symmetric=True, device="cuda") < 1e-2
