"""Every model of the registry on the device equals itself on the CPU. Run on the CPU, not yet on a GPU."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.clouds import clouds
from models.point_contract import CLASSES, POSITIONS, scans
from nn.triton_cases import difference
from se3t.config import SCHEMAS
from se3t.fiber import Fiber
from se3t.graph import Graph
from se3t.models import build_model
from se3t.testing import assert_equivariant

from .conftest import DEVICE, MARKS

pytestmark = MARKS

LIMITS = {"float64": 1e-10, "float32": 1e-4}
"""Relative, norm by norm."""
SMALL: dict[str, dict[str, Any]] = {
    "se3_transformer": {"num_layers": 2, "num_degrees": 3, "channels": 4, "channels_div": 2, "pool_channels": 8},
    "tfn": {"num_layers": 2, "num_degrees": 3, "channels": 4, "pool_channels": 8},
    "deepset": {"width": 16},
    "set_transformer": {"width": 16, "num_layers": 2, "num_inducing": 4, "pooling": "attention"},
    "schnet": {"channels": 16, "num_filters": 16, "num_layers": 2},
    "mpnn": {"channels": 8, "edge_hidden": 16},
    "dgcnn": {"num_neighbors": 6},
    "spidercnn": {"num_neighbors": 6},
    "modified_fisher": {"grid": 4},
}
PARTICLES = ("linear", "deepset", "set_transformer", "se3_transformer", "tfn")
POOLED = ("schnet", "mpnn", "se3_transformer pooled", "tfn pooled")
EQUIVARIANT = ("linear", "se3_transformer", "tfn", *POOLED)
CASES = [*PARTICLES, *POOLED, *sorted(set(SCHEMAS["model"]) - {*PARTICLES, *POOLED})]
SCALARS = Fiber("3x0")


def model_name(case: str) -> str:
    return case.removesuffix(" pooled")


def parts_of(case: str, kernel: str = "auto") -> tuple[nn.Module, Graph]:
    """Model and input in float64 on the CPU; biases are moved off zero, which would hide their faults."""
    name = model_name(case)
    config = SCHEMAS["model"][name](**SMALL.get(name, {}))
    if hasattr(config, "kernel"):
        config.kernel = kernel
    if case in PARTICLES:
        graph, fibers, pooled = clouds(7, 5), (Fiber("1x0+2x1"), Fiber("2x1")), False
    elif case in POOLED:
        graph, fibers, pooled = clouds(7, 5, fiber=SCALARS), (SCALARS, Fiber("2x0")), True
    else:
        graph, fibers, pooled = scans(2, 24), (POSITIONS, CLASSES), True
    edge_scalars = 0 if graph.edge_scalars is None else 1
    model = build_model(
        config, fiber_in=fibers[0], fiber_out=fibers[1], num_edge_scalars=edge_scalars, horizon=0.5, pooled=pooled
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval(), graph


def results_of(model: nn.Module, graph: Graph) -> Sequence[Tensor]:
    """Outputs and gradients to the parameters, in float64."""
    for part in model.modules():
        part.train(isinstance(part, nn.RNNBase))  # cuDNN has no gradients of them otherwise
    out = list(model(graph).values())
    parameters, found = list(model.parameters()), ()
    if parameters:
        loss = torch.stack([value.sin().sum() for value in out]).sum()
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return [value.detach().double().cpu() for value in (*out, *found)]


def test_no_model_is_left_out() -> None:
    assert {model_name(case) for case in CASES} == set(SCHEMAS["model"])


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_cpu(case: str, dtype: str) -> None:
    """There with kernel ``reference``, where the model has one."""
    model, graph = parts_of(case, kernel="reference")
    expected = results_of(model, graph)
    if hasattr(SCHEMAS["model"][model_name(case)], "kernel"):
        own, _ = parts_of(case)
        own.load_state_dict(model.state_dict())
    else:
        own = copy.deepcopy(model)
    received = results_of(own.to(DEVICE, getattr(torch, dtype)), graph.to(DEVICE, getattr(torch, dtype)))
    assert difference(received, expected) <= LIMITS[dtype]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("case", EQUIVARIANT)
def test_equivariance_holds_on_the_device(case: str, dtype: str) -> None:
    model, graph = (part.to(DEVICE, getattr(torch, dtype)) for part in parts_of(case))
    errors = assert_equivariant(model, graph, num_samples=2, generator=torch.Generator().manual_seed(1))
    print(f"\n{case}, {dtype}, {DEVICE}: largest error {max(max(each.values()) for each in errors.values()):.1e}")
