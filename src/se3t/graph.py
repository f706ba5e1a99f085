"""Point clouds as graphs: the value every model takes, and the builders of neighbourhoods in plain torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import GetAttrKey, register_dataclass, register_pytree_node

from se3t.compiling import lazy
from se3t.fiber import Features, Fiber, rotate_features
from se3t.neighbors import farthest_point_sampling, fully_connected, knn_graph, radius_graph, sort_by_target

__all__ = [
    "Graph",
    "Pairing",
    "batch_graphs",
    "farthest_point_sampling",
    "fully_connected",
    "knn_graph",
    "radius_graph",
    "sort_by_target",
]


@dataclass(frozen=True)
class Pairing:
    """Which edges are reciprocal pairs, found ahead (:func:`se3t.geometry.find_pairs`): a step reads no values.

    Attributes:
        order: ``[paired edge]`` edges that have a reverse, each followed by it; None where there are none.
        single: ``[single edge]`` all other edges; None where every edge has a reverse, or ``order`` is None.
        is_sorted: whether both are sorted by their invariants already, see :class:`se3t.geometry.RadialRows`.
    """

    order: Tensor | None
    single: Tensor | None = None
    is_sorted: bool = False

    def to(self, device: torch.device) -> Pairing:
        """The same on another device."""
        order, single = (None if part is None else part.to(device) for part in (self.order, self.single))
        return replace(self, order=order, single=single)


@dataclass(frozen=True)
class Graph:
    """One or several point clouds with edges: the input of every model of this library, and a pytree of torch.

    Edge e runs from ``source[e]`` (j of the paper) to ``target[e]`` (i): messages flow into the target. Edges are
    sorted by target.

    Attributes:
        positions: ``[node, 3]``, in the data set's unit of length.
        features: node features by degree, ``[node, channels, 2l+1]``.
        edge_index: ``[2, edge]`` int64, rows (source, target), sorted by target.
        edge_scalars: ``[edge, channels]`` invariant edge features (type 0, input of the radial networks), or None.
        edge_features: edge features of any type by degree, ``[edge, channels, 2l+1]``.
        edge_vectors: ``[edge, 3]`` x_j − x_i where it is not the difference of two positions, as across a periodic
            boundary; None: ``positions[source] - positions[target]``.
        batch: ``[node]`` int64, index of the cloud a node belongs to, ascending.
        num_graphs: number of clouds.
        pairing: what :func:`se3t.geometry.find_pairs` found, of these edges and scalars; None: found when it is needed.
        cloud_size: points of every cloud, where all have as many; None: models that need the sizes read ``batch``.
    """

    positions: Tensor
    features: Features
    edge_index: Tensor
    batch: Tensor
    num_graphs: int
    edge_scalars: Tensor | None = None
    edge_features: Features = field(default_factory=dict)
    edge_vectors: Tensor | None = None
    pairing: Pairing | None = None
    cloud_size: int | None = None

    @lazy
    def _clouds(self) -> Tensor:
        """``[graph, 0]``: what stands for ``num_graphs`` in the pytree."""
        return torch.empty(self.num_graphs, 0)

    @property
    def num_nodes(self) -> int:
        """Number of points of all clouds together."""
        return self.positions.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.positions.device

    @property
    def source(self) -> Tensor:
        """``[edge]`` index j of the point a message comes from."""
        return self.edge_index[0]

    @property
    def target(self) -> Tensor:
        """``[edge]`` index i of the point a message goes to."""
        return self.edge_index[1]

    def check(self) -> Graph:
        """Return the graph itself, after making sure that it is sound.

        Raises:
            ValueError: naming the field, when an index is out of range, edges are unsorted or join two clouds, or a
                shape does not fit.
        """
        _check(self)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Graph:
        """``Tensor.to`` on every floating tensor; indices change device only."""
        positions = self.positions.to(*args, **kwargs)
        scalars, pairing = self.edge_scalars, self.pairing
        return replace(
            self,
            positions=positions,
            pairing=None if pairing is None else pairing.to(positions.device),
            features={degree: value.to(*args, **kwargs) for degree, value in self.features.items()},
            edge_index=self.edge_index.to(positions.device),
            batch=self.batch.to(positions.device),
            edge_scalars=None if scalars is None else scalars.to(*args, **kwargs),
            edge_features={degree: value.to(*args, **kwargs) for degree, value in self.edge_features.items()},
            edge_vectors=None if self.edge_vectors is None else self.edge_vectors.to(*args, **kwargs),
        )

    def rotate(self, rotation: Tensor) -> Graph:
        """The rotated input L_s f: positions by the matrix ``[3, 3]``, type-l features by D^l.

        A float64 ``rotation`` acts in float64 on a graph of any dtype: every value is rounded once. Coincident points
        stay coincident bit for bit, which a matrix product does not promise.
        """
        return replace(
            self,
            positions=_rotate(self.positions, rotation),
            features=rotate_features(self.features, rotation),
            edge_features=rotate_features(self.edge_features, rotation),
            edge_vectors=None if self.edge_vectors is None else _rotate(self.edge_vectors, rotation),
        )

    def translate(self, shift: Tensor) -> Graph:
        """The translated input: ``shift`` of shape ``[3]``, added to every position."""
        return replace(self, positions=self.positions + shift)

    def permute(self, order: Tensor) -> Graph:
        """Renumber nodes: new node n is old node ``order[n]``; edges are renumbered and re-sorted with what they carry.

        Args:
            order: ``[node]`` int64, a permutation that keeps the nodes of each cloud together.

        Raises:
            ValueError: when ``order`` is no permutation of the nodes or tears a cloud apart.
        """
        if not torch.equal(order.sort().values, torch.arange(self.num_nodes, device=order.device)):
            raise ValueError(f"order: expected a permutation of the nodes 0 to {self.num_nodes - 1}")
        if not torch.equal(self.batch[order], self.batch):
            raise ValueError("order: a permutation must keep every node in its cloud; permute within clouds")
        moved = replace(
            self,
            positions=self.positions[order],
            features={degree: value[order] for degree, value in self.features.items()},
            edge_index=torch.argsort(order)[self.edge_index],
        )
        return moved.sort_edges()

    def sort_edges(self) -> Graph:
        """The same graph with its edges, and what they carry, sorted by target (and source)."""
        edge_index, order = sort_by_target(self.edge_index, torch.arange(self.edge_index.shape[1], device=self.device))
        return replace(
            self,
            edge_index=edge_index,
            pairing=None,
            edge_scalars=None if self.edge_scalars is None else self.edge_scalars[order],
            edge_features={degree: value[order] for degree, value in self.edge_features.items()},
            edge_vectors=None if self.edge_vectors is None else self.edge_vectors[order],
        )


def _flatten(graph: Graph) -> tuple[list[Any], list[str]]:
    """Values and names of the fields that are there; the number of clouds as a size, which traced programs may vary."""
    given = {name: value for name in _FIELDS if (value := getattr(graph, name)) is not None}
    given["num_graphs"] = graph._clouds
    return list(given.values()), list(given)


def _flatten_with_keys(graph: Graph) -> tuple[list[tuple[Any, Any]], list[str]]:
    values, names = _flatten(graph)
    return list(zip(map(GetAttrKey, names), values, strict=True)), names


def _unflatten(values: Iterable[Any], names: list[str]) -> Graph:
    given = dict(zip(names, values, strict=True))
    clouds = given["num_graphs"]
    if isinstance(clouds, Tensor) and clouds.dim() != 2:
        raise ValueError("a graph cannot be mapped over as a whole: map over its tensors, and make a Graph of them")
    graph = Graph(**{**given, "num_graphs": clouds.shape[0] if isinstance(clouds, Tensor) else clouds})
    vars(graph)["_clouds"] = clouds
    return graph


_FIELDS = [one.name for one in fields(Graph)]
register_dataclass(Pairing, serialized_type_name="se3t.graph.Pairing")
register_pytree_node(
    Graph, _flatten, _unflatten, serialized_type_name="se3t.graph.Graph", flatten_with_keys_fn=_flatten_with_keys
)


def batch_graphs(graphs: list[Graph]) -> Graph:
    """Put graphs side by side: one graph whose clouds do not interact, in the order given.

    Args:
        graphs: at least one, with equal fibers and the same optional fields; each may hold several clouds itself.

    Raises:
        ValueError: when the list is empty or the graphs carry different fields.
    """
    if not graphs:
        raise ValueError("graphs: expected at least one graph to batch, got an empty list")
    for number, graph in enumerate(graphs):
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


def _carries(graph: Graph) -> str:
    scalars = 0 if graph.edge_scalars is None else graph.edge_scalars.shape[-1]
    edge_fiber = Fiber.of(graph.edge_features)
    vectors = "" if graph.edge_vectors is None else ", edge vectors"
    return f"node features {Fiber.of(graph.features)!r}, {scalars} edge scalars, edge features {edge_fiber!r}{vectors}"


def _stack(fields: list[Features]) -> Features:
    return {degree: torch.cat([field[degree] for field in fields]) for degree in fields[0]}


def _check(graph: Graph) -> None:
    num_nodes, num_edges = graph.num_nodes, graph.edge_index.shape[-1]
    if graph.positions.shape != (num_nodes, 3):
        raise ValueError(f"positions: expected shape [node, 3], got {tuple(graph.positions.shape)}")
    _check_batch(graph)
    if graph.cloud_size is not None:
        require_cloud_size(graph.cloud_size, graph.num_graphs, num_nodes)
        if num_nodes and not torch.equal(graph.batch, torch.arange(num_nodes, device=graph.device) // graph.cloud_size):
            raise ValueError(f"cloud_size={graph.cloud_size}: the clouds of batch differ in size; leave it out")
    _check_edges(graph)
    if graph.pairing is not None and not is_pairing(graph, graph.pairing):
        raise ValueError("pairing: it does not belong to these edges and their scalars; call find_pairs again")
    _check_field("features", graph.features, num_nodes)
    _check_field("edge_features", graph.edge_features, num_edges)
    scalars = graph.edge_scalars
    if scalars is not None and (scalars.dim() != 2 or scalars.shape[0] != num_edges):
        raise ValueError(
            f"edge_scalars: expected shape [{num_edges}, channels], one row for each edge, got {tuple(scalars.shape)}"
        )
    vectors = graph.edge_vectors
    if vectors is not None and vectors.shape != (num_edges, 3):
        raise ValueError(f"edge_vectors: expected shape [{num_edges}, 3], got {tuple(vectors.shape)}")


def is_pairing(graph: Graph, pairing: Pairing) -> bool:
    """Whether ``pairing`` takes the edges in reciprocal pairs that share their scalars, and vectors up to the sign."""
    order, num_edges = pairing.order, graph.edge_index.shape[1]
    if order is None:
        return True
    num_single = 0 if pairing.single is None else len(pairing.single)
    if len(order) + num_single != num_edges or len(order) % 2:
        return False
    first, second = order[::2], order[1::2]
    if not torch.equal(graph.edge_index[:, first], graph.edge_index[:, second].flip(0)):
        return False
    return all(
        values is None or torch.equal(values[first], sign * values[second])
        for values, sign in ((graph.edge_scalars, 1), (graph.edge_vectors, -1))
    )


def _check_batch(graph: Graph) -> None:
    batch, num_nodes = graph.batch, graph.num_nodes
    if batch.shape != (num_nodes,) or batch.dtype != torch.int64:
        raise ValueError(
            f"batch: expected int64 [{num_nodes}], one cloud index a node, got {batch.dtype} {tuple(batch.shape)}"
        )
    if num_nodes and not bool((batch.diff() >= 0).all()):
        raise ValueError("batch: cloud indices must be ascending; reorder the nodes so that clouds are contiguous")
    if num_nodes and (int(batch[0]) < 0 or int(batch[-1]) >= graph.num_graphs):
        bad = int(batch[0]) if int(batch[0]) < 0 else int(batch[-1])
        raise ValueError(f"batch: cloud {bad} does not exist; the graph has {graph.num_graphs} clouds, numbered from 0")


def require_cloud_size(size: int, num_graphs: int, num_nodes: int) -> None:
    """Raise ValueError when so many clouds of one size do not make so many nodes."""
    if size * num_graphs != num_nodes:
        raise ValueError(f"cloud_size={size}: {num_graphs} such clouds do not make {num_nodes} nodes; leave it out")


def _check_edges(graph: Graph) -> None:
    edge_index, num_nodes = graph.edge_index, graph.num_nodes
    if edge_index.shape != (2, edge_index.shape[-1]) or edge_index.dtype != torch.int64:
        raise ValueError(f"edge_index: expected int64 [2, edge], got {edge_index.dtype} {tuple(edge_index.shape)}")
    if edge_index.shape[1] == 0:
        return
    low, high = (int(bound) for bound in edge_index.aminmax())
    if low < 0 or high >= num_nodes:
        bad = high if high >= num_nodes else low
        raise ValueError(f"edge_index: node {bad} does not exist; the graph has nodes 0 to {num_nodes - 1}")
    if not bool((graph.target.diff() >= 0).all()):
        raise ValueError("edge_index: edges must be sorted by target (row 1); sort them with se3t.graph.sort_by_target")
    loops = (graph.source == graph.target) & (graph.edge_vectors is None)  # with vectors it is the image of itself
    if bool(loops.any()):
        node = int(graph.source[loops][0])
        raise ValueError(f"edge_index: node {node} is its own neighbour; remove self loops")
    across = graph.batch[graph.source] != graph.batch[graph.target]
    if bool(across.any()):
        source, target = edge_index[:, int(across.nonzero()[0])].tolist()
        raise ValueError(f"edge_index: edge {source} -> {target} joins two clouds; clouds of a batch must not interact")


def _rotate(vectors: Tensor, rotation: Tensor) -> Tensor:
    dtype = torch.promote_types(vectors.dtype, rotation.dtype)
    x, y, z = vectors.to(dtype)[:, None].unbind(dim=-1)  # each [point, 1]
    columns = rotation.to(dtype).unbind(dim=-1)
    return (x * columns[0] + y * columns[1] + z * columns[2]).to(vectors.dtype)


def _check_field(name: str, features: Features, rows: int) -> None:
    for degree, value in features.items():
        if value.dim() != 3 or value.shape[0] != rows or value.shape[-1] != 2 * degree + 1:
            raise ValueError(
                f"{name}[{degree}]: expected shape [{rows}, channels, {2 * degree + 1}], got {tuple(value.shape)}"
            )
