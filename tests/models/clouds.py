"""Graphs of the N-body kind, for the tests of models."""

from __future__ import annotations

import torch

from se3t.fiber import Fiber
from se3t.graph import Graph

FIBER_IN = Fiber("1x0+2x1")
FIBER_OUT = Fiber("2x1")


def clouds(*sizes: int, dtype: torch.dtype = torch.float64, fiber: Fiber = FIBER_IN) -> Graph:
    """Clouds of the given sizes with random positions and features, complete edges, one invariant edge feature."""
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    same = (batch[:, None] == batch[None, :]) & ~torch.eye(len(batch), dtype=torch.bool)
    target, source = same.nonzero().T
    return Graph(
        positions=torch.randn(len(batch), 3, dtype=dtype),
        features={l: torch.randn(len(batch), channels, 2 * l + 1, dtype=dtype) for l, channels in fiber.items()},
        edge_index=torch.stack((source, target)),
        batch=batch,
        num_graphs=len(sizes),
        edge_scalars=torch.randn(len(source), 1, dtype=dtype),
    ).check()


def alone(graph: Graph, index: int) -> Graph:
    """One cloud of a batch by itself."""
    nodes = graph.batch == index
    edges = nodes[graph.source]
    first = int(nodes.nonzero()[0]) if bool(nodes.any()) else 0
    return Graph(
        positions=graph.positions[nodes],
        features={degree: value[nodes] for degree, value in graph.features.items()},
        edge_index=graph.edge_index[:, edges] - first,
        batch=torch.zeros_like(graph.batch[nodes]),
        num_graphs=1,
        edge_scalars=None if graph.edge_scalars is None else graph.edge_scalars[edges],
    )
