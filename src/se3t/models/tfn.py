"""The Tensor Field Network (Thomas et al. 2018)."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from torch import nn

from se3t.config import TFNModel, model_settings
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry, edge_fiber
from se3t.graph import Graph
from se3t.nn import ConvSettings, EquivariantBasis, EquivariantConv, RadialBasis, Readout
from se3t.nn.gate import nonlinearity
from se3t.nn.radial_basis import faded


class TFN(nn.Module):
    """(equivariant convolution – norm nonlinearity) × (num_layers − 1), one more convolution.

    ``pooled``, for one output of each cloud: a norm nonlinearity, one more convolution to type 0, pooling over the
    nodes, and two linear layers. Equivariant as :class:`~se3t.models.se3_transformer.SE3Transformer` is.

    Args:
        fiber_in: types and channels of the node features.
        fiber_out: types and channels of the output; type 0 alone with ``pooled``.
        settings: sizes and choices, see :class:`se3t.config.TFNModel`.
        fiber_hidden: types and channels between the layers, in place of those of ``settings``.
        num_edge_scalars: invariant edge features, used beside the distance.
        fiber_edge: edge features of any type, joined to the source features in every layer.
        relative_position: the relative position as one more edge feature, see :meth:`EdgeGeometry.of`.
        pooled: one output for each cloud, not one for each node.

    Raises:
        ValueError: for settings out of range, or fibers that do not fit.

    Source: Thomas et al., Tensor field networks, 2018; sizes as the SE(3)-Transformer's baseline in Section 4.1 of the
        paper.
    """

    radial_basis = RadialBasis()
    cutoff: float | None = None

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: TFNModel | None = None,
        *,
        fiber_hidden: Fiber | None = None,
        num_edge_scalars: int = 0,
        fiber_edge: Fiber | None = None,
        relative_position: str = "none",
        pooled: bool = False,
    ) -> None:
        super().__init__()
        s = model_settings(TFNModel, settings)
        fiber_in, fiber_out = Fiber(fiber_in), Fiber(fiber_out)
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
        self.layers.extend(
            EquivariantConv(before, after, edges, reduce=s.reduce, bias=True) for before, after in pairwise(fibers)
        )

    @property
    def max_degree(self) -> int:
        """Largest degree that occurs in any layer."""
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
