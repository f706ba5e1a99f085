"""The SE(3)-Transformer (Fuchs et al. 2020)."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from torch import nn

from se3t.config import SE3TransformerModel, model_settings
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry, edge_fiber
from se3t.graph import Graph
from se3t.nn import (
    AttentionSettings,
    ConvSettings,
    EquivariantBasis,
    EquivariantConv,
    RadialBasis,
    Readout,
    SE3AttentionBlock,
)
from se3t.nn.gate import nonlinearity
from se3t.nn.radial_basis import faded


class SE3Transformer(nn.Module):
    """(attention block – norm nonlinearity) × (num_layers − 1), one more attention block; Figure 2 of the paper.

    ``pooled``, for one output of each cloud: a norm nonlinearity and one more layer to type 0 (``settings.last``: a TFN
    layer, or attention again), pooling over the nodes, and two linear layers.

    Equivariant under rotations and translations of the positions together with rotations of the features, and under
    permutations; with ``settings.parity`` under reflections too, features of type l having parity (−1)^l.

    Args:
        fiber_in: types and channels of the node features.
        fiber_out: types and channels of the output; type 0 alone with ``pooled``.
        settings: sizes and choices, see :class:`se3t.config.SE3TransformerModel`.
        fiber_hidden: types and channels between the layers, in place of those of ``settings``.
        num_edge_scalars: invariant edge features, used beside the distance.
        fiber_edge: edge features of any type, joined to the source features in every layer.
        relative_position: the relative position as one more edge feature, see :meth:`EdgeGeometry.of`.
        pooled: one output for each cloud, not one for each node.

    Raises:
        ValueError: for settings out of range, or fibers that do not fit.

    Source: paper, Sections 3 and 4. **Deviation**: both released codes put the output layer after ``num_layers`` hidden
    ones; here it is counted.
    """

    ablation = "none"
    radial_basis = RadialBasis()
    cutoff: float | None = None

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: SE3TransformerModel | None = None,
        *,
        fiber_hidden: Fiber | None = None,
        num_edge_scalars: int = 0,
        fiber_edge: Fiber | None = None,
        relative_position: str = "none",
        pooled: bool = False,
    ) -> None:
        super().__init__()
        # With hidden fibers alone an earlier version built another network: other heads, keys and self-interaction.
        s = model_settings(SE3TransformerModel, settings, is_required=fiber_hidden is not None)
        fiber_in, fiber_out = Fiber(fiber_in), Fiber(fiber_out)
        if s.ablation != self.ablation:
            raise ValueError(f"ablation={s.ablation}: {type(self).__name__} is not that model; use build_model")
        self.settings, self.relative_position = s, relative_position
        self.fiber_in, self.fiber_out = fiber_in, fiber_out
        self.fiber_hidden = fiber_hidden or Fiber.uniform(s.num_degrees, s.channels)
        self.fiber_edge = edge_fiber(fiber_edge, relative_position)
        self.radial_basis = RadialBasis(s.radial_basis, s.radial_functions, s.radial_cutoff)
        self.cutoff = s.cutoff
        num_edge_scalars += self.radial_basis.num_scalars
        edges = ConvSettings(
            num_edge_scalars, self.fiber_edge, s.radial_hidden, s.share_radial, s.parity, s.kernel, s.memory
        )
        last = Fiber({0: s.pool_channels}) if pooled else fiber_out
        fibers = [fiber_in, *[self.fiber_hidden] * (s.num_layers - 1 + pooled), last]
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList(nonlinearity(fiber, s.norm) for fiber in fibers[1:-1])
        self.readout = Readout(last, fiber_out, pooling=s.pooling if pooled else None, head=pooled)
        for number, (before, after) in enumerate(pairwise(fibers), 1):
            if number > s.num_layers and s.last == "convolution":  # the additional layer before the pooling
                self.layers.append(EquivariantConv(before, after, edges))
            else:
                self.layers.append(self._block(before, after, edges))

    def _block(self, fiber_in: Fiber, fiber_out: Fiber, edges: ConvSettings) -> SE3AttentionBlock:
        s = self.settings
        return SE3AttentionBlock(
            fiber_in,
            fiber_out,
            edges,
            num_heads=s.num_heads,
            channels_div=s.channels_div,
            self_interaction=s.self_interaction,
            skip=s.skip,
            fuse_key_value=s.fuse_key_value,
            key_nodes=s.key_nodes,
            attention=AttentionSettings(s.attention_weights, s.logit_scale, s.attention_scale),
        )

    @property
    def max_degree(self) -> int:
        """Largest degree that occurs in any layer, those of values included."""
        return max(cast(int, layer.max_degree) for layer in self.layers)

    def forward(self, graph: Graph) -> Features:
        """``[node, C_out, 2l+1]`` by degree of ``fiber_out``; ``[graph, C_out, 1]`` with ``pooled``.

        Raises:
            ValueError: when the features of the graph are not of type ``fiber_in``.
        """
        geometry = EdgeGeometry.of(graph, pair=True, relative_position=self.relative_position)
        geometry = faded(self.radial_basis.of(geometry), self.cutoff)
        basis = EquivariantBasis(geometry, self.max_degree)
        first, *others = self.layers
        features = first(graph.features, basis)
        for norm, layer in zip(self.norms, others, strict=True):
            features = layer(norm(features), basis)
        out: Features = self.readout(features, graph.batch, graph.num_graphs)
        return out

    def extra_repr(self) -> str:
        """What ``print`` shows in the brackets."""
        return f"{self.fiber_in!r} -> {self.fiber_hidden!r} -> {self.fiber_out!r}"
