"""Autocast to 16 bits on the device. Run on the CPU with Triton interpreted, not yet on a GPU."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nn.clouds import make_graph
from nn.test_half_precision import FIBER, MODELS
from nn.triton_cases import compare
from se3t.graph import Graph
from se3t.testing import equivariance_error

from .conftest import DEVICE, MARKS, ON_GPU
from .test_1_kernels import kernel_of

pytestmark = MARKS

HALF = {"bfloat16": 2**-8, "float16": 2**-11}
"""Dtypes, and the relative error of a rounding."""
KERNELS = ["edge_frame", "triton", "vectorised", "reference", "auto"]
PAIRS = [(model, kernel) for model in MODELS for kernel in KERNELS if ON_GPU or (model, kernel) != ("tfn", "triton")]


def parts_of(model: str, kernel: str) -> tuple[nn.Module, Graph]:
    """In float32, on the device."""
    kernel_of(kernel)  # skips where it cannot run
    torch.manual_seed(0)
    return MODELS[model](kernel).to(DEVICE), make_graph(FIBER, symmetric=True).to(DEVICE, torch.float32)


def results_of(module: nn.Module, graph: Graph, dtype: torch.dtype | None) -> list[Tensor]:
    """Outputs, and the gradients to all parameters as one vector."""
    with torch.autocast(DEVICE.type, dtype, enabled=dtype is not None):
        out = list(module(graph).values())
        loss = torch.stack([value.float().square().mean() for value in out]).sum()
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, materialize_grads=True)
    return [*(value.detach().double() for value in out), torch.cat([value.flatten().double() for value in found])]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("model", "kernel"), PAIRS)
def test_values_and_gradients_are_those_of_float32_but_for_rounding(model: str, kernel: str, dtype: str) -> None:
    module, graph = parts_of(model, kernel)
    exact, rough = (results_of(module, graph, digits) for digits in (None, getattr(torch, dtype)))
    errors = [float((one - other).norm() / other.norm()) for one, other in zip(rough, exact, strict=True)]
    print(f"\n{model}, {kernel}, {dtype}, {DEVICE}: errors {', '.join(f'{error:.1e}' for error in errors)}")
    assert all(value.isfinite().all() for value in rough)
    *values, gradients = errors
    assert max(values) <= 8 * HALF[dtype]
    assert gradients <= 32 * HALF[dtype]
    if dtype == "float16":  # its range is too small: layers compute in float32
        assert max(errors) < 1e-5
    else:
        assert max(errors) > 1e-4


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kernel", ["edge_frame", "triton", "auto"])
def test_large_features_do_not_overflow(kernel: str, dtype: str) -> None:
    """Up to 10^5, where float16 ends at 65504."""
    module, graph = parts_of("se3_transformer", kernel)
    large = replace(graph, features={degree: 3e4 * value for degree, value in graph.features.items()})
    assert all(value.isfinite().all() for value in results_of(module, large, getattr(torch, dtype)))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("model", MODELS)
def test_a_step_leaves_weights_in_float32(model: str, dtype: str) -> None:
    module, graph = parts_of(model, "auto")
    before = copy.deepcopy(module.state_dict())
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    with torch.autocast(DEVICE.type, getattr(torch, dtype)):
        loss = torch.stack([value.float().square().mean() for value in module(graph).values()]).sum()
    loss.backward()
    optimizer.step()
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in module.state_dict().values())
    assert any(not torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_error_of_equivariance_is_that_of_rounding(kernel: str, dtype: str) -> None:
    module, graph = parts_of("se3_transformer", kernel)
    with torch.autocast(DEVICE.type, getattr(torch, dtype)):
        errors = equivariance_error(module, graph, 2, torch.Generator().manual_seed(1))
    print(f"\n{kernel}, {dtype}, {DEVICE}: {max(errors.values()):.1e}")
    assert max(errors.values()) <= 8 * HALF[dtype]


@pytest.mark.parametrize("case", ["several", "wide"] if ON_GPU else ["up", "gaps"])
def test_the_triton_kernel_loses_no_more_than_torch_does(case: str) -> None:
    """At most 1.5 times the error of ``edge_frame`` under the same autocast."""
    kernel = kernel_of("triton")
    for share, symmetric in (("none", True), ("full", False)):
        assert compare(case, share, "generic", "bfloat16", symmetric=symmetric, kernel=kernel, device=DEVICE) <= 1.5
