"""What the layers need of the edges, computed once per forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from se3t.fiber import Features, cat_features
from se3t.graph import Graph
from se3t.so3 import safe_norm, safe_normalize


@dataclass(frozen=True)
class EdgeGeometry:
    """Relative positions of all edges, x_j − x_i of the paper, and the features the edges carry.

    Attributes:
        source: ``[edge]`` index j.
        target: ``[edge]`` index i.
        num_nodes: number of nodes.
        vector: ``[edge, 3]`` = ``positions[source] - positions[target]``, or the edge vectors of the graph.
        length: ``[edge]``, zero (with zero gradient) for coincident points.
        direction: ``[edge, 3]`` of unit length; the zero vector (with zero gradient) for coincident points.
        edge_scalars: ``[edge, channels]`` invariant edge features, or None.
        edge_features: ``[edge, channels, 2l+1]`` by degree.
        repeat: 2 when edges come as reciprocal pairs (j → i, then i → j) with the same invariants, so that one
            evaluation of the radial networks serves two consecutive edges; otherwise 1.
    """

    source: Int[Tensor, " edge"]
    target: Int[Tensor, " edge"]
    num_nodes: int
    vector: Float[Tensor, "edge 3"]
    length: Float[Tensor, " edge"]
    direction: Float[Tensor, "edge 3"]
    edge_scalars: Float[Tensor, "edge scalar"] | None = None
    edge_features: Features = field(default_factory=dict)
    repeat: int = 1

    @classmethod
    def of(cls, graph: Graph, *, pair: bool = False, relative_position: str = "none") -> EdgeGeometry:
        """Geometry of the edges of ``graph``; differentiable with respect to its positions.

        Args:
            graph: the point clouds.
            pair: reorder the edges into reciprocal pairs where every edge has its reverse and both carry the same
                invariants; otherwise, or where they do not, the order of the graph is kept. Scalars that ask for a
                gradient are never paired: each edge has its own.
            relative_position: ``to_source`` appends x_j − x_i to the edge features as one more channel of type 1,
                ``to_target`` appends x_i − x_j; ``none``.
        """
        edge_index, scalars, features, repeat = graph.edge_index, graph.edge_scalars, graph.edge_features, 1
        vectors = graph.edge_vectors
        order = reciprocal_order(edge_index, graph.num_nodes) if pair else None
        if order is not None and _share_invariants(scalars, vectors, order):
            edge_index, repeat = edge_index[:, order], 2
            scalars = None if scalars is None else scalars[order]
            vectors = None if vectors is None else vectors[order]
            features = {degree: value[order] for degree, value in features.items()}
        source, target = edge_index[0], edge_index[1]
        vector = graph.positions[source] - graph.positions[target] if vectors is None else vectors
        if relative_position != "none":
            sign = {"to_source": 1, "to_target": -1}[relative_position]
            features = cat_features(features, {1: sign * vector[:, None]})
        length, direction = safe_norm(vector), safe_normalize(vector)
        return cls(source, target, graph.num_nodes, vector, length, direction, scalars, features, repeat)

    @cached_property
    def in_degree(self) -> Int[Tensor, " node"]:
        """Number of edges that come into each node."""
        return torch.bincount(self.target, minlength=self.num_nodes)

    @property
    def invariants(self) -> Float[Tensor, "unique channel"]:
        """Input of the radial networks: edge scalars and the length, one row for every ``repeat`` consecutive edges."""
        length = self.length[:: self.repeat, None]
        return length if self.edge_scalars is None else torch.cat([self.edge_scalars[:: self.repeat], length], dim=1)


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


def _share_invariants(scalars: Tensor | None, vectors: Tensor | None, order: Tensor) -> bool:
    even, odd = order[::2], order[1::2]
    return all(
        values is None or (not values.requires_grad and torch.equal(values[even], sign * values[odd]))
        for values, sign in ((scalars, 1), (vectors, -1))
    )
