"""Graphs side by side as one: batches, and what data loaders need to make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch.utils.data import default_collate

from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph, require_graph
from se3t.pyg import batch_of, field_of, is_pyg


def batch_graphs(graphs: Sequence[Graph]) -> Graph:
    """Put graphs side by side: one graph whose clouds do not interact, in the order given.

    Args:
        graphs: at least one, with equal fibers and the same optional fields; each may hold several clouds itself.

    Raises:
        ValueError: when the list is empty, the graphs carry different fields, or one is no graph.
    """
    if not graphs:
        raise ValueError("graphs: expected at least one graph to batch, got an empty list")
    for number, graph in enumerate(graphs):
        require_graph(graph)
        if _carries(graph) != _carries(graphs[0]):
            raise ValueError(
                f"graphs: number {number} carries {_carries(graph)}, but number 0 carries {_carries(graphs[0])}; "
                "graphs of one batch need the same fields"
            )
    first_node = accumulate((graph.num_nodes for graph in graphs), initial=0)
    first_cloud = accumulate((graph.num_graphs for graph in graphs), initial=0)
    scalars = [graph.edge_scalars for graph in graphs if graph.edge_scalars is not None]
    vectors = [graph.edge_vectors for graph in graphs if graph.edge_vectors is not None]
    return Graph(
        positions=torch.cat([graph.positions for graph in graphs]),
        features=_stack([graph.features for graph in graphs]),
        edge_index=torch.cat(
            [graph.edge_index + first for graph, first in zip(graphs, first_node, strict=False)], dim=1
        ),
        batch=torch.cat([graph.batch + first for graph, first in zip(graphs, first_cloud, strict=False)]),
        num_graphs=sum(graph.num_graphs for graph in graphs),
        edge_scalars=torch.cat(scalars) if scalars else None,
        edge_features=_stack([graph.edge_features for graph in graphs]),
        edge_vectors=torch.cat(vectors) if vectors else None,
    )


def collate(items: Any, target: str | None = None, **fields: str | None) -> Any:
    """One batch of what a data set holds, for a step of training.

    As ``collate_fn`` of ``torch.utils.data.DataLoader``, with ``functools.partial`` for what it is told; or called with
    each batch of ``torch_geometric.loader.DataLoader``, which knows no other ``collate_fn`` than its own.

    Args:
        items: of a data set: graphs; ``Data`` of PyTorch Geometric; tuples of one of these and what
            ``torch.utils.data.default_collate`` takes, such as its label. Or a ``Batch``.
        target: field of ``Data`` and ``Batch`` that is returned beside the graph, such as ``y``.
        fields: those of :meth:`Graph.from_pyg`: ``scalars``, ``vectors``, ``edge_scalars``.

    Returns:
        a :class:`Graph`; with ``target`` (graph, target); of tuples (graph, what stands beside it, …).

    Raises:
        UserError: for other items, a field that is missing, or ``target`` or ``fields`` where there is no ``Data``.
    """
    if is_pyg(items):
        return _with_target(items, target, fields)
    if isinstance(items, str) or not isinstance(items, Sequence) or not items:
        raise UserError(f"collate: expected a list of graphs, at least one, or a Batch, got {type(items).__name__}")
    if is_pyg(items[0]):
        return _with_target(batch_of(items), target, fields)
    if target is not None or (fields and not isinstance(items[0], tuple)):
        raise UserError(
            f"collate: target and {', '.join(fields) or 'scalars'} name fields of PyTorch Geometric's Data, got "
            f"{type(items[0]).__name__}; a data set of graphs holds (graph, target)"
        )
    if isinstance(items[0], tuple):
        graphs, *others = zip(*items, strict=True)
        return collate(graphs, **fields), *(default_collate(list(column)) for column in others)
    return batch_graphs(items)


def _with_target(data: Any, target: str | None, fields: Mapping[str, str | None]) -> Any:
    graph = Graph.from_pyg(data, **fields)
    return graph if target is None else (graph, field_of(data, target, "name the field of the target (target=…)"))


def _carries(graph: Graph) -> str:
    scalars = 0 if graph.edge_scalars is None else graph.edge_scalars.shape[-1]
    edge_fiber = Fiber.of(graph.edge_features)
    vectors = "" if graph.edge_vectors is None else ", edge vectors"
    return f"node features {Fiber.of(graph.features)!r}, {scalars} edge scalars, edge features {edge_fiber!r}{vectors}"


def _stack(fields: list[Features]) -> Features:
    return {degree: torch.cat([field[degree] for field in fields]) for degree in fields[0]}
