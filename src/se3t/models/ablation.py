"""SE(3)-Transformers without one of their parts, to measure its effect: ``model.ablation``."""

from __future__ import annotations

from dataclasses import replace

import torch

from se3t.config import SE3TransformerModel
from se3t.fiber import Features, Fiber
from se3t.geometry import edge_vectors
from se3t.graph import Graph, Pairing
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import ConvSettings, SE3AttentionBlock
from se3t.so3 import safe_normalize


class WithoutAttention(SE3Transformer):
    """All logits are equal: values are averaged, or summed with ``attention_scale="degree"``.

    Queries and keys are still there, but nothing depends on them.
    """

    ablation = "attention"

    def _block(self, fiber_in: Fiber, fiber_out: Fiber, edges: ConvSettings) -> SE3AttentionBlock:
        block = super()._block(fiber_in, fiber_out, edges)
        block.attention.scale_logits(0.0)  # all logits are equal
        return block


class WithoutRadialNetworks(SE3Transformer):
    """φ_J^{lk} is one number for all edges: kernels see the direction of an edge, not its length nor its scalars.

    Lengths that are part of edge features of higher types stay there.
    """

    ablation = "radial"

    def forward(self, graph: Graph) -> Features:
        """As :meth:`SE3Transformer.forward`, on the graph with all edges of length one and their scalars zero."""
        directions = safe_normalize(edge_vectors(graph))
        scalars = None if graph.edge_scalars is None else torch.zeros_like(graph.edge_scalars)
        return super().forward(replace(graph, edge_vectors=directions, edge_scalars=scalars))


class WithoutEquivariance(SE3Transformer):
    """The same layers on plain numbers: every component of every type is a channel of type 0.

    Node features enter component by component, relative positions and edge features as edge scalars; there are as many
    hidden channels in all, ``Σ_l C_l``, all of type 0. Translations and permutations remain symmetries.

    Args:
        fiber_in, fiber_out, settings, num_edge_scalars, fiber_edge, pooled: see :class:`SE3Transformer`.
    """

    ablation = "equivariance"

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: SE3TransformerModel,
        *,
        num_edge_scalars: int = 0,
        fiber_edge: Fiber | None = None,
        pooled: bool = False,
    ) -> None:
        edge_dim = 0 if fiber_edge is None else fiber_edge.dim
        super().__init__(
            Fiber({0: fiber_in.dim}),
            Fiber({0: fiber_out.dim}),
            settings,
            fiber_hidden=Fiber({0: settings.num_degrees * settings.channels}),
            num_edge_scalars=num_edge_scalars + edge_dim + 3,
            pooled=pooled,
        )
        self.fiber_in, self.fiber_out = fiber_in, fiber_out

    def forward(self, graph: Graph) -> Features:
        """As :meth:`SE3Transformer.forward`."""
        vectors = edge_vectors(graph)
        self.fiber_in.check(graph.features, "features")
        edges = [vectors, *([] if graph.edge_scalars is None else [graph.edge_scalars])]
        edges += [graph.edge_features[degree].flatten(1) for degree in sorted(graph.edge_features)]
        plain = replace(
            graph,
            features={0: torch.cat([graph.features[degree].flatten(1) for degree in self.fiber_in], dim=1)[..., None]},
            edge_scalars=torch.cat(edges, dim=1),
            edge_features={},
            edge_vectors=vectors,
            pairing=Pairing(None),  # an edge and its reverse differ in these scalars
        )
        numbers = super().forward(plain)[0][..., 0]
        sizes = [channels * (2 * degree + 1) for degree, channels in self.fiber_out.items()]
        parts = zip(self.fiber_out.items(), numbers.split(sizes, dim=1), strict=True)
        return {degree: part.unflatten(1, (channels, 2 * degree + 1)) for (degree, channels), part in parts}
