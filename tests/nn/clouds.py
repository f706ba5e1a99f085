"""Small random inputs for the layers, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph, fully_connected, radius_graph
from se3t.nn import EquivariantBasis

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


def basis_of(graph: Graph, max_degree: int = 3, *, pair: bool = False) -> EquivariantBasis:
    return EquivariantBasis(EdgeGeometry.of(graph, pair=pair), max_degree)


AXES = torch.cat([torch.zeros(1, 3), torch.eye(3), -torch.eye(3)]).double()
"""The origin and a point on every half axis: edges along each coordinate direction, both poles included."""

COINCIDENT = torch.tensor(
    [[0.0, 0, 0], [0, 0, 0], [1, 0, 2], [1, 0, 2], [-1, 1, 0.5], [0, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=torch.float64
)
