"""Point clouds as graphs: the value every model takes, and the builders of neighbourhoods in plain torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from se3t.fiber import Features, rotate_features


@dataclass(frozen=True)
class Graph:
    """One or several point clouds with edges: the input of every model of this library.

    Edge e runs from ``source[e]`` (j of the paper) to ``target[e]`` (i): messages flow into the target. Edges are sorted by target.

    Attributes:
        positions: ``[node, 3]``, in the data set's unit of length.
        features: node features by degree, ``[node, channels, 2l+1]``.
        edge_index: ``[2, edge]`` int64, rows (source, target), sorted by target.
        edge_scalars: ``[edge, channels]`` invariant edge features (type 0, input of the radial networks), or None.
        edge_features: edge features of any type by degree, ``[edge, channels, 2l+1]``.
        batch: ``[node]`` int64, index of the cloud a node belongs to, ascending.
        num_graphs: number of clouds.
    """

    positions: Tensor
    features: Features
    edge_index: Tensor
    batch: Tensor
    num_graphs: int
    edge_scalars: Tensor | None = None
    edge_features: Features = field(default_factory=dict)

    @property
    def num_nodes(self) -> int:
        """Number of points of all clouds together."""
        return self.positions.shape[0]

    @property
    def source(self) -> Tensor:
        """``[edge]`` index j of the point a message comes from."""
        return self.edge_index[0]

    @property
    def target(self) -> Tensor:
        """``[edge]`` index i of the point a message goes to."""
        return self.edge_index[1]

    def check(self) -> Graph:
        """Raise ``ValueError`` naming the field when an index is out of range or a shape does not fit; return the graph."""
        _check(self)
        return self

    def to(self, *args: object, **kwargs: object) -> Graph:
        """``Tensor.to`` on every floating tensor; integer tensors change device only."""

        def move(value: Tensor) -> Tensor:
            moved = value.to(*args, **kwargs)  # type: ignore[arg-type, call-overload]
            return moved if value.is_floating_point() else moved.to(value.dtype)

        return replace(
            self,
            positions=move(self.positions),
            features={degree: move(value) for degree, value in self.features.items()},
            edge_index=move(self.edge_index),
            batch=move(self.batch),
            edge_scalars=None if self.edge_scalars is None else move(self.edge_scalars),
            edge_features={degree: move(value) for degree, value in self.edge_features.items()},
        )

    def rotate(self, rotation: Tensor) -> Graph:
        """The rotated input L_s f: positions by the matrix ``[3, 3]``, type-l features by D^l."""
        return replace(
            self,
            positions=self.positions @ rotation.transpose(-1, -2),
            features=rotate_features(self.features, rotation),
            edge_features=rotate_features(self.edge_features, rotation),
        )

    def translate(self, shift: Tensor) -> Graph:
        """The translated input: ``shift`` of shape ``[3]``, added to every position."""
        return replace(self, positions=self.positions + shift)

    def permute(self, order: Tensor) -> Graph:
        """Renumber nodes: new node n is old node ``order[n]`` (``order`` keeps every cloud's nodes together); edges are re-sorted."""
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order), device=order.device)
        edge_index = inverse[self.edge_index]
        by_target = torch.argsort(edge_index[1] * self.num_nodes + edge_index[0])
        return replace(
            self,
            positions=self.positions[order],
            features={degree: value[order] for degree, value in self.features.items()},
            edge_index=edge_index[:, by_target],
            batch=self.batch[order],
            edge_scalars=None if self.edge_scalars is None else self.edge_scalars[by_target],
            edge_features={degree: value[by_target] for degree, value in self.edge_features.items()},
        )


def _check(graph: Graph) -> None:
    num_nodes, num_edges = graph.num_nodes, graph.edge_index.shape[-1]
    if graph.positions.shape != (num_nodes, 3):
        raise ValueError(f"positions: expected shape [node, 3], got {tuple(graph.positions.shape)}")
    if graph.edge_index.shape != (2, num_edges) or graph.edge_index.dtype != torch.int64:
        raise ValueError(f"edge_index: expected int64 [2, edge], got {graph.edge_index.dtype} {tuple(graph.edge_index.shape)}")
    if num_edges and (int(graph.edge_index.min()) < 0 or int(graph.edge_index.max()) >= num_nodes):
        bad = int(graph.edge_index.max()) if int(graph.edge_index.max()) >= num_nodes else int(graph.edge_index.min())
        raise ValueError(f"edge_index: node {bad} does not exist; the graph has nodes 0 to {num_nodes - 1}")
    if num_edges and not bool((graph.target.diff() >= 0).all()):
        raise ValueError("edge_index: edges must be sorted by target (row 1); sort them with se3t.graph.sort_by_target")
    if graph.batch.shape != (num_nodes,):
        raise ValueError(f"batch: expected one cloud index for each of {num_nodes} nodes, got {tuple(graph.batch.shape)}")
    for degree, value in graph.features.items():
        if value.shape[0] != num_nodes or value.shape[-1] != 2 * degree + 1:
            raise ValueError(f"features[{degree}]: expected [{num_nodes}, channels, {2 * degree + 1}], got {tuple(value.shape)}")
    for degree, value in graph.edge_features.items():
        if value.shape[0] != num_edges or value.shape[-1] != 2 * degree + 1:
            raise ValueError(
                f"edge_features[{degree}]: expected [{num_edges}, channels, {2 * degree + 1}], got {tuple(value.shape)}"
            )
    if graph.edge_scalars is not None and graph.edge_scalars.shape[0] != num_edges:
        raise ValueError(f"edge_scalars: expected one row for each of {num_edges} edges, got {tuple(graph.edge_scalars.shape)}")
