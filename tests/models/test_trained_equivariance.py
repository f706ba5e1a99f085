"""Equivariance is a property of the architecture: training, in whatever direction, must not lose it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from se3t.config import SE3TransformerModel
from se3t.fiber import Fiber
from se3t.graph import Graph
from se3t.models.se3_transformer import SE3Transformer
from se3t.models.tfn import TFN
from se3t.testing import equivariance_error

from .clouds import FIBER_IN, clouds

HIDDEN, FIBER_OUT = Fiber.uniform(4, 4), Fiber("2x0+2x1+1x2+1x3")
AXES = torch.cat([torch.zeros(1, 3), torch.eye(3), -torch.eye(3)]).double()
COINCIDENT = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 2], [1, 0, 2], [1, 0, 2], [-1, 1, 0.5]], dtype=torch.float64)


def charged(*sizes: int) -> Graph:
    """Products of charges on the edges, so that both directions of an edge share their radial networks."""
    graph = clouds(*sizes)
    charge = graph.features[0][:, 0]
    return replace(graph, edge_scalars=charge[graph.source] * charge[graph.target])


def trained(model: nn.Module) -> nn.Module:
    """A few steps towards random targets, in float32 as users train."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(15):
        graph = charged(5, 4).to(torch.float32)
        loss = torch.stack([(value - torch.randn_like(value)).square().mean() for value in model(graph).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module", params=["tfn", "se3_transformer"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(7)
    if request.param == "tfn":
        return trained(TFN(FIBER_IN, FIBER_OUT, fiber_hidden=HIDDEN, num_edge_scalars=1))
    return trained(
        SE3Transformer(
            FIBER_IN,
            FIBER_OUT,
            SE3TransformerModel(num_heads=2, channels_div=2),
            fiber_hidden=HIDDEN,
            num_edge_scalars=1,
        )
    )


@pytest.mark.parametrize("positions", [None, AXES, COINCIDENT], ids=["generic", "axes", "coincident"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_trained_model_is_equivariant_to_rounding(
    model: nn.Module, positions: torch.Tensor | None, dtype: torch.dtype, tolerance: float
) -> None:
    graph = charged(6) if positions is None else replace(charged(len(positions)), positions=positions)
    errors = equivariance_error(model.to(dtype), graph.to(dtype), num_samples=8)
    assert errors.keys() == FIBER_OUT.keys()
    for degree, error in errors.items():
        assert error < tolerance, f"degree {degree}: {error}"
