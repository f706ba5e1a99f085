"""Point clouds as graphs: the value every model takes, and the builders of neighbourhoods in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import GetAttrKey, register_dataclass, register_pytree_node

from se3t.compiling import lazy
from se3t.errors import UserError
from se3t.fiber import Features, Fiber, rotate_features
from se3t.graph_checks import (
    check_batch,
    check_cloud_numbers,
    check_edges,
    check_features,
    check_order,
    check_positions,
    check_rows,
    check_vectors,
)
from se3t.neighbors import farthest_point_sampling, fully_connected, knn_graph, radius_graph, sort_by_target
from se3t.pyg import EDGE_VECTORS, data_of, fields_of, is_pyg

__all__ = [
    "Graph",
    "Pairing",
    "farthest_point_sampling",
    "fully_connected",
    "knn_graph",
    "radius_graph",
    "sort_by_target",
]

Map: TypeAlias = Callable[[Tensor], Tensor]


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

    def mapped(self, index: Map) -> Pairing:
        """The same with ``index``, such as a move to another device, applied to its tensors."""
        order, single = (None if part is None else index(part) for part in (self.order, self.single))
        return replace(self, order=order, single=single)


@dataclass(frozen=True)
class Graph:
    """One or several point clouds with edges: the input of every model of this library, and a pytree of torch.

    Edge e runs from ``source[e]`` (j of the paper) to ``target[e]`` (i): messages flow into the target. Edges are
    sorted by target. :meth:`make` and :meth:`from_pyg` sort them and check every field; the constructor does neither.

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

    @classmethod
    def make(
        cls,
        positions: Float[Tensor, "node 3"],
        features: Features | Float[Tensor, "node channel"],
        edge_index: Int[Tensor, "2 edge"],
        batch: Int[Tensor, " node"] | None = None,
        edge_scalars: Float[Tensor, "edge scalar"] | None = None,
        *,
        edge_features: Features | None = None,
        edge_vectors: Float[Tensor, "edge 3"] | None = None,
        num_graphs: int | None = None,
    ) -> Graph:
        """A graph whose fields are checked, with its edges, and what they carry, sorted by target (and source).

        Checking reads the values, which makes a GPU wait; ``Graph(…)`` itself checks and sorts nothing.

        Args:
            positions: as for the class.
            features: as for the class, or ``[node, channels]``, which are scalars.
            edge_index: rows (source, target), in any order.
            batch: as for the class; None: all nodes are one cloud.
            edge_scalars: one row for each edge, in the order of ``edge_index``, as all that edges carry.
            edge_features: as for the class.
            edge_vectors: as for the class.
            num_graphs: number of clouds; None: up to the last with a node.

        Raises:
            UserError: naming the field, what was expected and what to do.
        """
        check_positions(positions)
        if batch is None:
            batch, counted = torch.zeros(len(positions), dtype=torch.int64, device=positions.device), 1
        else:
            check_batch(batch, positions)
            counted = int(batch[-1]) + 1 if len(batch) else 0
        if isinstance(features, Tensor):
            check_rows("features", features, len(positions), "node", positions)
            features = {0: features[..., None]}
        graph = cls(
            positions=positions,
            features=features,
            edge_index=edge_index,
            batch=batch,
            num_graphs=counted if num_graphs is None else num_graphs,
            edge_scalars=edge_scalars,
            edge_features={} if edge_features is None else edge_features,
            edge_vectors=edge_vectors,
        )
        _check_fields(graph)
        return graph.sort_edges()

    @classmethod
    def from_pyg(
        cls, data: Any, scalars: str | None = "x", vectors: str | None = None, edge_scalars: str | None = "edge_attr"
    ) -> Graph:
        """The graph of a ``Data`` or ``Batch`` of PyTorch Geometric: as :meth:`make`, whose errors name fields of it.

        ``pos`` are the positions, ``edge_index`` the edges, ``batch`` the clouds, ``edge_vectors``, where there are
        any, the edge vectors; further fields are not read.

        Args:
            data: with at least ``pos`` and ``edge_index``.
            scalars: field with scalars of the nodes, ``[node, channels]``; None: there are none.
            vectors: field with vectors of the nodes, ``[node, 3]`` or ``[node, channels, 3]``; None: there are none.
            edge_scalars: field with scalars of the edges, ``[edge, channels]``; None: there are none. ``edge_attr`` may
                be absent.

        Raises:
            UserError: when a field is missing, or does not fit.
        """
        return cls.make(**fields_of(data, scalars, vectors, edge_scalars))

    def to_pyg(self) -> Any:
        """A ``Data`` of PyTorch Geometric for one cloud, a ``Batch`` for several; edges stay sorted.

        Features of degree 0 are its ``x``, ``[node, channels]``, those of degree 1 ``vectors``, ``[node, channels,
        3]``, edge scalars ``edge_attr``: ``Graph.from_pyg(data, vectors="vectors")`` is the graph again.

        Raises:
            UserError: when the graph is not sound, has no cloud, or carries what has no place there: features of degree
                2 or more, or edge features.
        """
        self.check()
        if self.num_graphs == 0 or self.edge_features or any(degree > 1 for degree in self.features):
            raise UserError(
                "to_pyg: expected at least one cloud, features of degrees 0 and 1, and no edge_features, got "
                f"{self.num_graphs} clouds, features {Fiber.of(self.features)!r}, edge features "
                f"{Fiber.of(self.edge_features)!r}; take the others away with dataclasses.replace"
            )
        scalars = self.features[0].squeeze(-1) if 0 in self.features else None
        nodes = {"pos": self.positions, "x": scalars, "vectors": self.features.get(1)}
        edges = {"edge_attr": self.edge_scalars, EDGE_VECTORS: self.edge_vectors}
        sizes, counts = (torch.bincount(of, minlength=self.num_graphs) for of in (self.batch, self.batch[self.target]))
        return data_of(nodes, edges, self.edge_index, list(zip(sizes.tolist(), counts.tolist(), strict=True)))

    def check(self) -> Graph:
        """Return the graph itself, after making sure that it is sound. Values are read, which makes a GPU wait.

        Raises:
            UserError: naming the field, when an index is out of range, edges are unsorted or join two clouds, a number
                is not finite, or a shape, dtype or device does not fit.
        """
        check_positions(self.positions)
        check_batch(self.batch, self.positions)
        _check_fields(self)
        check_order(self.edge_index)
        if self.pairing is not None and not is_pairing(self, self.pairing):
            raise UserError("pairing: it does not belong to these edges and their scalars; call find_pairs again")
        return self

    def to(self, *args: Any, **kwargs: Any) -> Graph:
        """``Tensor.to`` on every floating tensor; indices change device only."""
        positions = self.positions.to(*args, **kwargs)
        device, non_blocking = positions.device, kwargs.get("non_blocking", False)
        return self._mapped(
            positions,
            lambda value: value.to(*args, **kwargs),
            lambda index: index.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Graph:
        """All tensors in page-locked memory, for ``to(device, non_blocking=True)``; data loaders call it."""
        return self._mapped(self.positions.pin_memory(), Tensor.pin_memory, Tensor.pin_memory)

    def _mapped(self, positions: Tensor, floating: Map, index: Map) -> Graph:
        scalars, vectors, pairing = self.edge_scalars, self.edge_vectors, self.pairing
        return replace(
            self,
            positions=positions,
            features={degree: floating(value) for degree, value in self.features.items()},
            edge_index=index(self.edge_index),
            batch=index(self.batch),
            edge_scalars=None if scalars is None else floating(scalars),
            edge_features={degree: floating(value) for degree, value in self.edge_features.items()},
            edge_vectors=None if vectors is None else floating(vectors),
            pairing=None if pairing is None else pairing.mapped(index),
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


def _check_fields(graph: Graph) -> None:
    """Everything that positions and batch, themselves sound, leave open, but the order of the edges."""
    check_cloud_numbers(graph.batch, graph.num_graphs, graph.cloud_size)
    check_edges(graph.edge_index, graph.batch, graph.edge_vectors)
    num_nodes, num_edges, positions = graph.num_nodes, graph.edge_index.shape[1], graph.positions
    check_features("features", graph.features, num_nodes, positions)
    check_features("edge_features", graph.edge_features, num_edges, positions)
    if graph.edge_scalars is not None:
        check_rows("edge_scalars", graph.edge_scalars, num_edges, "edge", positions)
    if graph.edge_vectors is not None:
        check_vectors("edge_vectors", graph.edge_vectors, num_edges, positions)


def require_graph(value: Any) -> None:
    """Refuse what is no graph, before a model reads its fields.

    Raises:
        UserError: naming the way to make one.
    """
    if not isinstance(value, Graph):
        kind = type(value).__name__
        if is_pyg(value):
            raise UserError(f"expected a se3t.Graph, got a {kind} of PyTorch Geometric; convert it with Graph.from_pyg")
        raise UserError(f"expected a se3t.Graph, got {kind}; make one with Graph.make or Graph.from_pyg")
    if value.batch is None:
        raise UserError("graph.batch: expected int64 [node], got None; Graph.make fills it in for a single cloud")


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


def _rotate(vectors: Tensor, rotation: Tensor) -> Tensor:
    dtype = torch.promote_types(vectors.dtype, rotation.dtype)
    x, y, z = vectors.to(dtype)[:, None].unbind(dim=-1)  # each [point, 1]
    columns = rotation.to(dtype).unbind(dim=-1)
    return (x * columns[0] + y * columns[1] + z * columns[2]).to(vectors.dtype)
