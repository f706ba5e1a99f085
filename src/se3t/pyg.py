"""Graphs of PyTorch Geometric, ``Data`` and ``Batch``, as fields of a graph of this library, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor

from se3t.errors import UserError
from se3t.fiber import Features
from se3t.graph_checks import check_edge_shape, check_positions, check_rows, require_floating

EDGE_VECTORS = "edge_vectors"
"""The field that holds x_j − x_i of every edge where that is not the difference of two positions."""


def is_pyg(value: Any) -> bool:
    """Whether ``value`` is a graph of PyTorch Geometric, of whatever kind; imports nothing."""
    return any(base.__module__ == "torch_geometric.data.data" for base in type(value).__mro__)


def fields_of(data: Any, scalars: str | None, vectors: str | None, edge_scalars: str | None) -> dict[str, Any]:
    """Fields of a graph, as :meth:`se3t.graph.Graph.make` takes them.

    Args:
        data: a ``Data`` or ``Batch``.
        scalars: name of the field with scalars of the nodes, ``[node, channels]``; None: there are none.
        vectors: name of the field with vectors of the nodes, ``[node, 3]`` or ``[node, channels, 3]``; None: none.
        edge_scalars: name of the field with scalars of the edges, ``[edge, channels]``; None: there are none.

    Raises:
        UserError: when a field is missing or has another shape or dtype, named as ``data`` names it.
    """
    from torch_geometric.data import Batch, Data

    if not isinstance(data, Data):
        raise UserError(f"from_pyg: expected a Data or Batch of torch_geometric, got {type(data).__name__}")
    positions = field_of(data, "pos", "give it the coordinates of its nodes, [node, 3]")
    check_positions(positions, "data.pos")
    edge_index = field_of(data, "edge_index", "make edges with se3t.radius_graph or se3t.knn_graph")
    check_edge_shape(edge_index)
    edge_vectors = data.get(EDGE_VECTORS)
    return {
        "positions": positions,
        "features": _node_features(data, scalars, vectors, positions),
        "edge_index": edge_index,
        "batch": data.get("batch"),
        "num_graphs": data.num_graphs if isinstance(data, Batch) else None,
        "edge_scalars": _edge_scalars(data, edge_scalars, edge_index.shape[1], positions),
        "edge_vectors": edge_vectors,
    }


def _node_features(data: Any, scalars: str | None, vectors: str | None, positions: Tensor) -> Features:
    if scalars is None and vectors is None:
        raise UserError("from_pyg: scalars and vectors are both None; name the field of at least one of them")
    if "pos" in (scalars, vectors):
        raise UserError(
            "from_pyg: data.pos are the positions already, and as node features would break the symmetry under "
            "translations; name another field, such as scalars='x'"
        )
    features: Features = {}
    num_nodes = len(positions)
    if scalars is not None:
        value = field_of(data, scalars, "name the field that holds scalars of the nodes (scalars=…), or scalars=None")
        check_rows(f"data.{scalars}", value, num_nodes, "node", positions)
        features[0] = value[..., None]
    if vectors is not None:
        value = field_of(data, vectors, "name the field that holds vectors of the nodes (vectors=…)")
        require_floating(f"data.{vectors}", value, positions)
        value = value[:, None] if value.dim() == 2 else value
        if value.dim() != 3 or value.shape[0] != num_nodes or value.shape[2] != 3:
            raise UserError(
                f"data.{vectors}: expected shape [{num_nodes}, 3] or [{num_nodes}, channels, 3], got "
                f"{tuple(data[vectors].shape)}"
            )
        features[1] = value
    return features


def _edge_scalars(data: Any, name: str | None, num_edges: int, positions: Tensor) -> Tensor | None:
    value = None if name is None else data.get(name)
    if value is None and name not in (None, "edge_attr"):
        field_of(data, name, "name the field that holds scalars of the edges (edge_scalars=…), or edge_scalars=None")
    if value is not None:
        check_rows(f"data.{name}", value, num_edges, "edge", positions)
    return value


def field_of(data: Any, name: str, remedy: str) -> Any:
    """``data.name``.

    Raises:
        UserError: with the ``remedy`` and the fields that there are, when it is missing.
    """
    value = data.get(name)
    if value is None:
        raise UserError(f"data.{name}: missing; {remedy}; fields of this data: {', '.join(sorted(data.keys()))}")
    return value


def batch_of(items: Sequence[Any]) -> Any:
    """The ``Batch`` of a list of ``Data``.

    Raises:
        UserError: when they differ in their fields, or one is something else.
    """
    from torch_geometric.data import Batch

    expected = set(items[0].keys())
    for number, item in enumerate(items):
        if not is_pyg(item):
            raise UserError(
                f"item {number} is no Data but {type(item).__name__}, and item 0 is; one batch needs one kind"
            )
        if set(item.keys()) != expected:
            raise UserError(
                f"data {number} has {', '.join(sorted(item.keys()))}, but data 0 has {', '.join(sorted(expected))}; "
                "data of one batch need the same fields"
            )
    return Batch.from_data_list(list(items))


def data_of(
    nodes: Mapping[str, Tensor | None],
    edges: Mapping[str, Tensor | None],
    edge_index: Int[Tensor, "2 edge"],
    clouds: Sequence[tuple[int, int]],
) -> Any:
    """A ``Data`` of one cloud, or a ``Batch`` of several.

    Args:
        nodes: fields with one row for each node, None where there is none.
        edges: fields with one row for each edge, None where there is none.
        edge_index: rows (source, target), those of each cloud together.
        clouds: numbers of nodes and of edges of each cloud; at least one cloud.
    """
    from torch_geometric.data import Batch, Data

    found, node, edge = [], 0, 0
    for num_nodes, num_edges in clouds:
        parts = [(nodes, slice(node, node + num_nodes)), (edges, slice(edge, edge + num_edges))]
        given = {name: v[rows] for fields, rows in parts for name, v in fields.items() if v is not None}
        found.append(Data(edge_index=edge_index[:, edge : edge + num_edges] - node, **given))
        node, edge = node + num_nodes, edge + num_edges
    return found[0] if len(found) == 1 else Batch.from_data_list(found)
