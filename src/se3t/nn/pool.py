"""Pooling of node features into one feature per cloud."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.utils import scatter

from se3t.fiber import Features
from se3t.nn.precision import at_least_float32


def pool(features: Features, batch: Tensor, num_graphs: int, reduce: str = "mean") -> Features:
    """Reduce over the nodes of each cloud.

    Args:
        features: ``[node, C, 2l+1]`` by degree.
        batch: ``[node]`` index of the cloud.
        num_graphs: number of clouds.
        reduce: ``mean`` or ``sum`` (any degree), ``max`` (degree 0 only: the maximum of vectors is not equivariant).

    Returns:
        ``[graph, C, 2l+1]`` by degree.

    Raises:
        ValueError: for ``max`` over a degree above 0, or an unknown name.
    """
    return Pooling(reduce)(features, batch, num_graphs)


class Pooling(nn.Module):
    """:func:`pool` as a module, so that hooks can read its result.

    Args:
        reduce: ``mean``, ``sum`` or ``max``.

    Raises:
        ValueError: for an unknown name.
    """

    def __init__(self, reduce: str) -> None:
        super().__init__()
        if reduce not in ("mean", "sum", "max"):
            raise ValueError(f"pooling {reduce!r}: expected mean, sum or max")
        self.reduce = reduce

    def forward(self, features: Features, batch: Tensor, num_graphs: int) -> Features:
        """``[node, C, 2l+1]`` by degree → ``[graph, C, 2l+1]`` by degree."""
        higher = [degree for degree in features if degree > 0]
        if self.reduce == "max" and higher:
            raise ValueError(f"max pooling of degree {higher[0]} is not equivariant: pool degree 0 only, or use mean")
        return {
            degree: scatter(at_least_float32(value), batch, 0, num_graphs, self.reduce)
            for degree, value in features.items()
        }
