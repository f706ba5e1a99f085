"""What the layers need of the edges, computed once per forward pass."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from se3t.graph import Graph
from se3t.so3 import safe_norm, safe_normalize


@dataclass(frozen=True)
class EdgeGeometry:
    """Relative positions of all edges: x_j − x_i of the paper, its length and direction.

    Attributes:
        source: ``[edge]`` index j. target: ``[edge]`` index i, ascending.
        num_nodes: number of nodes.
        vector: ``[edge, 3]`` = ``positions[source] - positions[target]``.
        length: ``[edge]``, zero (with zero gradient) for coincident points.
        direction: ``[edge, 3]`` of unit length; the zero vector (with zero gradient) for coincident points.
    """

    source: Int[Tensor, " edge"]
    target: Int[Tensor, " edge"]
    num_nodes: int
    vector: Float[Tensor, "edge 3"]
    length: Float[Tensor, " edge"]
    direction: Float[Tensor, "edge 3"]

    @classmethod
    def of(cls, graph: Graph) -> EdgeGeometry:
        """Geometry of the edges of ``graph``; differentiable with respect to its positions."""
        vector = graph.positions[graph.source] - graph.positions[graph.target]
        return cls(graph.source, graph.target, graph.num_nodes, vector, safe_norm(vector), safe_normalize(vector))
