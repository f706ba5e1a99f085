"""Small graphs and layers for the tests of the compiled kernel."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph
from se3t.nn import EquivariantBasis, EquivariantConv

from .clouds import features_of, make_conv

NODES = 12


def edges_of(kind: str, count: int, nodes: int = NODES) -> Tensor:
    """``count`` edges: ``both`` in reciprocal pairs as far as that goes, ``one_way`` in none, ``some`` at random."""
    pairs = [(j, i) for i in range(nodes) for j in range(i)]
    order = torch.randperm(len(pairs)).tolist()
    if kind == "both":
        edges = [edge for number in order for edge in (pairs[number], pairs[number][::-1])]
    elif kind == "one_way":
        edges = [pairs[number] for number in order] * 2
    else:
        every = pairs + [(i, j) for j, i in pairs]
        edges = [every[number] for number in torch.randperm(len(every)).tolist()]
    chosen = sorted(edges[:count], key=lambda edge: edge[::-1])
    return torch.tensor(chosen, dtype=torch.int64).reshape(-1, 2).t().contiguous()


def graph_of(
    fiber: Fiber,
    edges: Tensor,
    *,
    scalars: int = 0,
    symmetric: bool = True,
    fiber_edge: Fiber | None = None,
    positions: Tensor | None = None,
) -> Graph:
    nodes = NODES if positions is None else len(positions)
    positions = torch.randn(nodes, 3, dtype=torch.float64) if positions is None else positions
    values = torch.randn(edges.shape[1], scalars, dtype=torch.float64)
    if symmetric:
        charge = torch.randn(nodes, scalars, dtype=torch.float64)
        values = charge[edges[0]] * charge[edges[1]]
    return Graph(
        positions=positions,
        features=features_of(fiber, nodes),
        edge_index=edges,
        batch=torch.zeros(nodes, dtype=torch.int64),
        num_graphs=1,
        edge_scalars=values if scalars else None,
        edge_features=features_of(fiber_edge or Fiber({}), edges.shape[1]),
    )


def conv_of(fiber_in: Fiber, fiber_out: Fiber, kernel: str = "native", **options: object) -> EquivariantConv:
    torch.manual_seed(3)
    layer = make_conv(fiber_in, fiber_out, kernel=kernel, **{"reduce": "none", **options}).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer


def run(
    layer: EquivariantConv,
    graph: Graph,
    *,
    pair: bool = True,
    relative: str = "none",
    continuous: bool = False,
    second: bool = False,
) -> list[Tensor]:
    """Messages and all gradients; ``continuous``: of edge scalars and edge vectors too.

    With ``second`` those of a loss of the gradients of everything but the parameters, as in training on forces.
    """
    vectors = graph.edge_vectors
    graph = replace(
        graph,
        positions=graph.positions.clone().requires_grad_(),
        features={degree: value.clone().requires_grad_() for degree, value in graph.features.items()},
        edge_features={degree: value.clone().requires_grad_() for degree, value in graph.edge_features.items()},
        edge_scalars=graph.edge_scalars if not continuous else graph.edge_scalars.clone().requires_grad_(),  # type: ignore[union-attr]
        edge_vectors=None if vectors is None else vectors.clone().requires_grad_(continuous),
    )
    geometry = EdgeGeometry.of(graph, pair=pair, relative_position=relative)
    out = layer(graph.features, EquivariantBasis(geometry, layer.max_degree))
    generator = torch.Generator().manual_seed(5)
    probes = [torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in out.values()]
    loss = sum((value * probe).sum() for value, probe in zip(out.values(), probes, strict=True))
    inputs = [graph.positions, graph.edge_scalars, graph.edge_vectors, *graph.features.values()]
    inputs += graph.edge_features.values()
    inputs = [leaf for leaf in inputs if leaf is not None and leaf.requires_grad]
    options = {"allow_unused": True, "materialize_grads": True}
    if second:
        first = torch.autograd.grad(loss, inputs, create_graph=True, **options)
        loss = loss.square() + sum((value * value.detach().sin()).sum() for value in first)
    found = torch.autograd.grad(loss, [*inputs, *layer.parameters()], **options)
    return [*(value.detach() for value in out.values()), *found]


def assert_equal_to_reference(
    fiber_in: Fiber, fiber_out: Fiber, graph: Graph, options: dict[str, object] | None = None, **how: object
) -> None:
    scalars = 0 if graph.edge_scalars is None else graph.edge_scalars.shape[1]
    results = [
        run(conv_of(fiber_in, fiber_out, kernel, num_edge_scalars=scalars, **(options or {})), graph, **how)  # type: ignore[arg-type]
        for kernel in ("reference", "native")
    ]
    for expected, received in zip(*results, strict=True):
        assert received.isfinite().all()
        if expected.numel():
            assert (expected - received).abs().max() <= 1e-11 * (1 + expected.abs().max())


def outputs(layer: EquivariantConv, graph: Graph, features: Features | None = None) -> Features:
    return layer(features or graph.features, EquivariantBasis(EdgeGeometry.of(graph), layer.max_degree))
