"""SchNet: continuous-filter convolutions, which see distances alone."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch_geometric.nn.models.schnet import GaussianSmearing, InteractionBlock, ShiftedSoftplus

from se3t.config import SchNetModel
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph
from se3t.models.base import SettingsModel
from se3t.models.pointwise import require_scalars
from se3t.nn.pool import Pooling
from se3t.nn.precision import at_least_float32, require_supported


class SchNet(SettingsModel):
    """h_i ← h_i + W₂ s(W₁ Σ_j W_in h_j ∘ F(‖x_j − x_i‖) w(‖x_j − x_i‖)), several times, then a network for each node.

    F is a network of two layers on Gaussians of the distance, w(d) = ½ (cos(π d / cutoff) + 1) up to the cutoff and 0
    beyond, s the softplus less log 2. The last network is Linear – s – Linear, its result is pooled over each cloud.
    Invariant to rotations, translations and reflections. Reads type 0 and the edges of the graph with their lengths;
    edge scalars and other edge features are not used. The blocks and their initial values are those of PyG.

    Args:
        fiber_in: type 0 alone: the elements as one-hot numbers, or any other scalars.
        fiber_out: type 0 alone.
        settings: see :class:`se3t.config.SchNetModel`; centres of Gaussians are spaced evenly from 0 to ``cutoff``, in
            the unit of length of the positions, and their spacing is the standard deviation; edges longer than
            ``cutoff`` send nothing. options: single settings by name.
        pooled: one output for each cloud, not one for each node.

    Raises:
        UserError: for other types than 0, and see :class:`SettingsModel`.

    Source: Schütt et al. 2017, "SchNet: a continuous-filter convolutional neural network for modeling quantum
    interactions", Sections 3 and 4; the cutoff as in the authors' later SchNetPack and in PyG.
    **Deviation**: the embedding is linear in the type-0 features, which for one-hot elements is a vector for each
    element. The paper has 64 channels, three blocks and 300 Gaussians up to 30 Å without a cutoff; our default sizes
    are PyG's. PyG's weight w rises again beyond the cutoff, where its own graphs have no edges: here edges may be
    longer, and count as being of the length of the cutoff.
    """

    schema = SchNetModel

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: SchNetModel | None = None,
        *,
        pooled: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(fiber_in, fiber_out, settings, options, pooled=pooled)
        require_scalars("schnet", fiber_in, fiber_out)
        s = self.settings
        self.cutoff = s.cutoff
        self.embedding = nn.Linear(fiber_in[0], s.channels)
        self.gaussians = GaussianSmearing(0.0, s.cutoff, s.num_gaussians)
        self.blocks = nn.ModuleList(
            InteractionBlock(s.channels, s.num_gaussians, s.num_filters, s.cutoff) for _ in range(s.num_layers)
        )
        width = max(s.channels // 2, 1)
        first, last = nn.Linear(s.channels, width), nn.Linear(width, fiber_out[0])
        for layer in (first, last):  # as PyG's model begins
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.head = nn.Sequential(first, ShiftedSoftplus(), last)
        self.pooling = Pooling(s.pooling) if pooled else None

    def forward(self, graph: Graph) -> Features:
        """Prediction for every node, or with ``pooled`` for every cloud: ``{0: [node or graph, C, 1]}``."""
        require_supported(self, graph)
        self.fiber_in.check(graph.features, "SchNet: input features")
        length = EdgeGeometry.of(graph).length.clamp(max=self.cutoff)  # [edge]
        smeared = self.gaussians(length)  # [edge, gaussian]
        hidden = at_least_float32(self.embedding(graph.features[0].squeeze(-1)))  # [node, channel]
        for block in self.blocks:
            hidden = hidden + block(hidden, graph.edge_index, length, smeared)
        output: Features = {0: self.head(hidden)[..., None]}
        return output if self.pooling is None else self.pooling(output, graph.batch, graph.num_graphs)
