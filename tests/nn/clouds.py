"""Small random inputs for the layers, in float64."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from se3t.compat.layers import ReleasedBlock, ReleasedConv, ReleasedSettings
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph, fully_connected, radius_graph
from se3t.nn import ConvSettings, EquivariantBasis, EquivariantConv, SE3AttentionBlock

FIBER = Fiber("3x0+2x1+4x2+1x3")


def features_of(fiber: Fiber, points: int) -> Features:
    return {degree: torch.randn(points, count, 2 * degree + 1, dtype=torch.float64) for degree, count in fiber.items()}


def make_graph(
    fiber: Fiber = FIBER,
    positions: Tensor | None = None,
    *,
    scalars: int = 2,
    fiber_edge: Fiber | None = None,
    radius: float | None = None,
    symmetric: bool = False,
) -> Graph:
    """Two clouds; ``symmetric`` gives both directions of an edge the same scalars."""
    if positions is None:
        positions = torch.randn(9, 3, dtype=torch.float64)
    batch = torch.tensor([0] * 5 + [1] * (len(positions) - 5))
    edges = fully_connected(batch) if radius is None else radius_graph(positions, radius, batch)
    edge_scalars = torch.randn(edges.shape[1], scalars, dtype=torch.float64)
    if symmetric:
        charge = torch.randn(len(positions), scalars, dtype=torch.float64)
        edge_scalars = charge[edges[0]] * charge[edges[1]]
    return Graph(
        positions=positions,
        features=features_of(fiber, len(positions)),
        edge_index=edges,
        batch=batch,
        num_graphs=2,
        edge_scalars=edge_scalars if scalars else None,
        edge_features=features_of(fiber_edge or Fiber({}), edges.shape[1]),
    ).check()


def make_conv(fiber_in: Fiber, fiber_out: Fiber, num_edge_scalars: int = 0, **options: Any) -> EquivariantConv:
    """A convolution with these settings and arguments: that of a released code where one of them is its own."""
    settings, rest, released = _settings(num_edge_scalars, options)
    return (ReleasedConv if released else EquivariantConv)(fiber_in, fiber_out, settings, **rest)


def make_block(fiber_in: Fiber, fiber_out: Fiber, num_edge_scalars: int = 0, **options: Any) -> SE3AttentionBlock:
    """The same for an attention block."""
    settings, rest, released = _settings(num_edge_scalars, options)
    return (ReleasedBlock if released else SE3AttentionBlock)(fiber_in, fiber_out, settings, **rest)


def _settings(num_edge_scalars: int, options: dict[str, Any]) -> tuple[ConvSettings, dict[str, Any], bool]:
    names = {field.name for field in fields(ConvSettings)}
    own = {field.name for field in fields(ReleasedSettings)} - names - {"self_interaction"}
    if options.get("self_interaction") in ("once", "per_edge", "message", "none"):
        own.add("self_interaction")
    given = {name: value for name, value in options.items() if name in names | own}
    rest = {name: value for name, value in options.items() if name not in given}
    released = bool(own & options.keys())
    return (ReleasedSettings if released else ConvSettings)(num_edge_scalars, **given), rest, released


def basis_of(graph: Graph, max_degree: int = 3, *, pair: bool = False) -> EquivariantBasis:
    return EquivariantBasis(EdgeGeometry.of(graph, pair=pair), max_degree)


AXES = torch.cat([torch.zeros(1, 3), torch.eye(3), -torch.eye(3)]).double()
"""The origin and a point on every half axis: edges along each coordinate direction, both poles included."""

COINCIDENT = torch.tensor(
    [[0.0, 0, 0], [0, 0, 0], [1, 0, 2], [1, 0, 2], [-1, 1, 0.5], [0, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=torch.float64
)
