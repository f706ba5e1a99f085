"""What the layers need of the edges, computed once per forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from se3t.compiling import lazy
from se3t.errors import UserError
from se3t.fiber import Features, Fiber, cat_features
from se3t.graph import Graph, Pairing, is_pairing, require_graph
from se3t.so3 import safe_norm, safe_normalize

RELATIVE_POSITIONS = ("none", "to_source", "to_target")


def edge_fiber(fiber_edge: Fiber | None, relative_position: str) -> Fiber:
    """Types and channels of the edge features of :meth:`EdgeGeometry.of`.

    Args:
        fiber_edge: of the graphs, or None where their edges carry none.
        relative_position: as of :meth:`EdgeGeometry.of`.

    Raises:
        ValueError: for an unknown ``relative_position``.
    """
    if relative_position not in RELATIVE_POSITIONS:
        raise ValueError(f"relative_position={relative_position!r}: expected one of {', '.join(RELATIVE_POSITIONS)}")
    return (fiber_edge or Fiber({})) + Fiber({1: int(relative_position != "none")})


@dataclass(frozen=True)
class EdgeGeometry:
    """Relative positions of all edges, x_j − x_i of the paper, and the features the edges carry.

    Attributes:
        source: ``[edge]`` index j.
        target: ``[edge]`` index i.
        num_nodes: number of nodes.
        vector: ``[edge, 3]`` = ``positions[source] - positions[target]``, or the edge vectors of the graph.
        length: ``[edge]``, zero (with zero gradient) for coincident points.
        edge_scalars: ``[edge, channels]`` invariant edge features, or None.
        edge_features: ``[edge, channels, 2l+1]`` by degree.
        fade: ``[edge]`` factor of the messages, or None for 1.
        repeat: 2 when edges come as reciprocal pairs (j → i, then i → j) with the same invariants, so that one
            evaluation of the radial networks serves two consecutive edges; otherwise 1.
        rows: evaluations of the radial networks, where the edges are in their order.
    """

    source: Int[Tensor, " edge"]
    target: Int[Tensor, " edge"]
    num_nodes: int
    vector: Float[Tensor, "edge 3"]
    length: Float[Tensor, " edge"]
    edge_scalars: Float[Tensor, "edge scalar"] | None = None
    edge_features: Features = field(default_factory=dict)
    fade: Float[Tensor, " edge"] | None = None
    repeat: int = 1
    rows: RadialRows | None = None

    @classmethod
    def of(cls, graph: Graph, *, pair: bool = False, relative_position: str = "none") -> EdgeGeometry:
        """Geometry of the edges of ``graph``; differentiable with respect to its positions.

        Args:
            graph: the point clouds.
            pair: reorder the edges into reciprocal pairs (each edge followed by its reverse, both with the same
                invariants). On a CPU, pairs and then edges without a partner are sorted by their invariants, see
                :class:`RadialRows`; elsewhere the order of the graph is kept unless every edge has a partner. Scalars
                that ask for a gradient are never paired: each edge has its own. Where ``graph.pairing`` is given, no
                value of a tensor is read on a GPU: it is believed there, and ``graph.check()`` tells whether it may be.
            relative_position: ``to_source`` appends x_j − x_i to the edge features as one more channel of type 1,
                ``to_target`` appends x_i − x_j; ``none``.

        Raises:
            UserError: when ``graph`` is no graph, or positions have fewer digits than float32.
        """
        require_graph(graph)
        require_digits(graph.positions)
        edge_index, scalars, features = graph.edge_index, graph.edge_scalars, graph.edge_features
        vectors = graph.edge_vectors
        order, repeat, rows = _edge_order(graph) if pair else (None, 1, None)
        if order is not None:
            edge_index = edge_index[:, order]
            scalars = None if scalars is None else scalars[order]
            vectors = None if vectors is None else vectors[order]
            features = {degree: value[order] for degree, value in features.items()}
        source, target = edge_index[0], edge_index[1]
        vector = graph.positions[source] - graph.positions[target] if vectors is None else vectors
        if relative_position != "none":
            sign = {"to_source": 1, "to_target": -1}[relative_position]
            features = cat_features(features, {1: sign * vector[:, None]})
        length = safe_norm(vector)
        return cls(source, target, graph.num_nodes, vector, length, scalars, features, repeat=repeat, rows=rows)

    @lazy
    def direction(self) -> Float[Tensor, "edge 3"]:
        """Unit edge vectors; the zero vector (with zero gradient) for coincident points."""
        return safe_normalize(self.vector)

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return self.source.shape[0]

    @lazy
    def in_degree(self) -> Int[Tensor, " node"]:
        """Number of edges that come into each node."""
        ones = torch.ones_like(self.target)
        return ones.new_zeros(self.num_nodes).index_add(0, self.target, ones)

    @lazy
    def radial_rows(self) -> RadialRows:
        """Edges in the order in which the compiled kernel takes them."""
        if self.rows is not None:
            return self.rows
        with torch.no_grad():
            rows = torch.arange(self.num_edges // self.repeat, device=self.source.device)
            rows = _sorted_by(self.invariants, rows)
        return RadialRows(self.repeat * rows, 2 * rows + 1 if self.repeat == 2 else rows[:0], self.num_edges)

    @lazy
    def incoming(self) -> tuple[Int[Tensor, " node_plus_1"], Int[Tensor, " edge"]]:
        """Edges by target: where those of each node start, and the edges."""
        start = functional.pad(self.in_degree.cumsum(0), (1, 0))
        if not torch.compiler.is_compiling() and bool((self.target[1:] >= self.target[:-1]).all()):
            return start, torch.arange(self.num_edges, device=start.device)
        return start, torch.argsort(self.target, stable=True)

    @property
    def invariants(self) -> Float[Tensor, "unique channel"]:
        """Input of the radial networks: edge scalars and the length, one row for every ``repeat`` consecutive edges."""
        length = self.length[:: self.repeat, None]
        return length if self.edge_scalars is None else torch.cat([self.edge_scalars[:: self.repeat], length], dim=1)


def edge_vectors(graph: Graph) -> Float[Tensor, "edge 3"]:
    """x_j − x_i of every edge: those of the graph, or differences of its positions.

    Raises:
        UserError: when ``graph`` is no graph.
    """
    require_graph(graph)
    if graph.edge_vectors is not None:
        return graph.edge_vectors
    return graph.positions[graph.source] - graph.positions[graph.target]


def require_digits(positions: Tensor) -> None:
    """Refuse positions in half precision.

    Raises:
        UserError: naming the way that works.
    """
    if positions.dtype not in (torch.float32, torch.float64):
        name = str(positions.dtype).removeprefix("torch.")
        raise UserError(
            f"positions are {name}, expected float32 or float64: differences need their digits; keep graph "
            f"and model in float32 and compute under torch.autocast({positions.device.type!r}, torch.{name})"
        )


_WINDOW = 4096  # edges sorted together
_FEW_COLUMNS = 8  # up to this many invariants are sorted by one after the other


@dataclass(frozen=True)
class RadialRows:
    """Evaluations of the radial networks: one for two reciprocal edges with equal invariants, or for a single edge.

    Pairs come before single edges, both sorted by their invariants, so that neighbours have similar hidden features.

    Attributes:
        first: ``[row]`` an edge.
        second: ``[pair]`` its reverse, for the first rows.
        num_edges: number of edges.
    """

    first: Int[Tensor, " row"]
    second: Int[Tensor, " pair"]
    num_edges: int

    @classmethod
    def of(cls, first: Int[Tensor, " row"], second: Int[Tensor, " pair"]) -> RadialRows:
        """Rows of all edges."""
        return cls(first, second, first.shape[0] + second.shape[0])

    @classmethod
    def in_order(cls, num_edges: int, num_pairs: int) -> RadialRows:
        """Of edges that come as pairs, each followed by its reverse, and then single."""
        first = torch.arange(0, 2 * num_pairs, 2, device="cpu")
        single = torch.arange(2 * num_pairs, num_edges, device="cpu")
        return cls(torch.cat([first, single]), first + 1, num_edges)

    def are_pairs(self) -> bool:
        """Whether row r serves the edges 2r and 2r + 1, and these alone."""
        first = torch.arange(0, self.num_edges, 2, device=self.first.device)
        return torch.equal(self.first, first) and torch.equal(self.second, first + 1)

    @lazy
    def row_of_edge(self) -> Int[Tensor, " edge"]:
        """``[edge]`` the row that serves it."""
        rows = self.first.new_empty(self.num_edges)
        rows[self.first] = torch.arange(self.first.shape[0], device=self.first.device)
        rows[self.second] = torch.arange(self.second.shape[0], device=self.first.device)
        return rows

    def invariants(self, geometry: EdgeGeometry) -> Float[Tensor, "row channel"]:
        """Input of the radial networks of each row, differentiable."""
        return geometry.invariants.index_select(0, self.first // geometry.repeat)


def _edge_order(graph: Graph) -> tuple[Tensor | None, int, RadialRows | None]:
    """Order of the edges (None: as they are), how many of them share an evaluation throughout, and the evaluations."""
    pairing = _pairing(graph)
    if pairing.order is None or (pairing.single is not None and graph.positions.device.type != "cpu"):
        return None, 1, None
    if graph.positions.device.type != "cpu":
        return pairing.order, 2, None
    order, single = (
        (pairing.order, pairing.single) if pairing.is_sorted else _sorted_pairs(graph, pairing.order, pairing.single)
    )
    joined = order if single is None else torch.cat([order, single])
    return joined, 2 if single is None else 1, RadialRows.in_order(joined.shape[0], order.shape[0] // 2)


def _pairing(graph: Graph) -> Pairing:
    """The pairing of the graph where it may be believed, else the one that is found."""
    given, is_cpu = graph.pairing, graph.positions.device.type == "cpu"
    if torch.compiler.is_compiling():  # values cannot be read
        return Pairing(None) if given is None or _asks_for_gradient(graph) else given
    if is_cpu:
        if given is None or given.order is None or _asks_for_gradient(graph) or not is_pairing(graph, given):
            return _partners(graph)
        return given
    if _asks_for_gradient(graph):
        return Pairing(None)
    if given is not None:
        return given
    pairing = Pairing(reciprocal_order(graph.edge_index, graph.num_nodes))
    return pairing if is_pairing(graph, pairing) else Pairing(None)


@torch.no_grad()
def _sorted_pairs(graph: Graph, order: Tensor, single: Tensor | None) -> tuple[Tensor, Tensor | None]:
    invariants = safe_norm(edge_vectors(graph))[:, None]
    if graph.edge_scalars is not None:
        invariants = torch.cat([graph.edge_scalars, invariants], dim=1)
    pairs = order.unflatten(0, (-1, 2))
    pairs = pairs[_sorted_by(invariants, pairs[:, 0])]
    return pairs.flatten(), None if single is None else single[_sorted_by(invariants, single)]


def _partners(graph: Graph) -> Pairing:
    """Edges that have a reverse edge with the same scalars and the opposite vector, and all others."""
    source, target = graph.source, graph.target
    edges = torch.arange(len(source), device=source.device)
    if _asks_for_gradient(graph):
        return Pairing(edges[:0], edges)
    smaller, larger = torch.minimum(source, target), torch.maximum(source, target)
    code, order = torch.sort((smaller * graph.num_nodes + larger) * 2 + (source < target))
    left, right = order[:-1], order[1:]
    matches = (code[:-1] % 2 == 0) & (code[1:] == code[:-1] + 1)
    for values, sign in ((graph.edge_scalars, 1), (graph.edge_vectors, -1)):
        if values is not None:
            matches &= (values[left] == sign * values[right]).all(dim=1)
    paired = torch.stack([left[matches], right[matches]], dim=1).flatten()
    if len(paired) == len(edges):
        return Pairing(paired)
    is_single = torch.ones_like(edges, dtype=torch.bool)
    is_single[paired] = False
    return Pairing(paired, edges[is_single])


def _sorted_by(invariants: Tensor, rows: Tensor) -> Tensor:
    """Order of some rows by their invariants: the edge scalars, one after the other, and then the length.

    Many scalars are one number instead, to which each adds less than the one before: equal ones lie together.
    Rows far from each other stay apart, so that what belongs to a stretch of rows fits into the cache.
    """
    values = invariants[rows]
    if values.shape[1] > _FEW_COLUMNS:
        scalars, length = values[:, :-1], values[:, -1]
        weights = torch.logspace(0, -16, scalars.shape[1], base=2.0, dtype=values.dtype, device=values.device)
        values = torch.stack([(scalars * weights).sum(dim=1), length], dim=1)
    order = torch.argsort(values[:, -1], stable=True)
    for column in range(values.shape[1] - 2, -1, -1):
        order = order[torch.argsort(values[order, column], stable=True)]
    if torch.compiler.is_compiling() or len(rows) > _WINDOW:
        order = order[torch.argsort(rows[order] // _WINDOW, stable=True)]
    return order


def reciprocal_order(edge_index: Int[Tensor, "2 edge"], num_nodes: int) -> Int[Tensor, " edge"] | None:
    """Order of the edges in which each edge is followed by its reverse; None where some edge has none.

    Args:
        edge_index: rows (source, target). A repeated edge is taken to have no reverse.
        num_nodes: number of nodes.
    """
    source, target = edge_index[0], edge_index[1]
    if source.numel() % 2:
        return None
    smaller, larger = torch.minimum(source, target), torch.maximum(source, target)
    order = torch.argsort((smaller * num_nodes + larger) * 2 + (source < target), stable=True)
    if order.numel() == 0:
        return order
    paired = edge_index[:, order].unflatten(1, (-1, 2))  # [2, pair, 2]
    return order if bool((paired[:, :, 0] == paired[:, :, 1].flip(0)).all()) else None


def find_pairs(graph: Graph) -> Graph:
    """The graph with its ``pairing``: then forward passes need not look for reciprocal edges, nor read any value.

    It belongs to these edges and edge scalars (and vectors, where given), whatever the positions; graphs that are made
    by sorting or permuting look again. On a CPU edges are sorted as well, by their invariants at the present positions.
    """
    graph = replace(graph, pairing=None)
    pairing = _pairing(graph)
    if pairing.order is not None and graph.positions.device.type == "cpu":
        pairing = Pairing(*_sorted_pairs(graph, pairing.order, pairing.single), is_sorted=True)
    return replace(graph, pairing=pairing)


def _asks_for_gradient(graph: Graph) -> bool:
    return any(value is not None and value.requires_grad for value in (graph.edge_scalars, graph.edge_vectors))
