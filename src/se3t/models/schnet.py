"""SchNet: continuous-filter convolutions, which see distances alone."""

from __future__ import annotations

from torch import nn
from torch_geometric.nn.models.schnet import GaussianSmearing, InteractionBlock, ShiftedSoftplus

from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph
from se3t.models.pointwise import require_scalars
from se3t.nn.pool import Pooling
from se3t.nn.precision import at_least_float32, require_supported


class SchNet(nn.Module):
    """h_i ← h_i + W₂ s(W₁ Σ_j W_in h_j ∘ F(‖x_j − x_i‖) w(‖x_j − x_i‖)), several times, then a network for each node.

    F is a network of two layers on Gaussians of the distance, w(d) = ½ (cos(π d / cutoff) + 1) up to the cutoff and 0
    beyond, s the softplus less log 2. The last network is Linear – s – Linear, its result is pooled over each cloud.
    Invariant to rotations, translations and reflections. Reads type 0 and the edges of the graph with their lengths;
    edge scalars and other edge features are not used. The blocks and their initial values are those of PyG.

    Args:
        fiber_in: type 0 alone: the elements as one-hot numbers, or any other scalars.
        fiber_out: type 0 alone.
        channels: of a node, in all blocks.
        num_filters: channels of the convolution.
        num_layers: interaction blocks.
        num_gaussians: centres of the Gaussians, evenly from 0 to ``cutoff``; their spacing is the standard deviation.
        cutoff: in the unit of length of the positions; longer edges send nothing.
        pooled: one output for each cloud, not one for each node.
        pooling: ``mean``, ``sum`` or ``max`` over the nodes of a cloud, with ``pooled``.

    Raises:
        UserError: for other types than 0, or a size that is too small.

    Source: Schütt et al. 2017, "SchNet: a continuous-filter convolutional neural network for modeling quantum
    interactions", Sections 3 and 4; the cutoff as in the authors' later SchNetPack and in PyG.
    **Deviation**: the embedding is linear in the type-0 features, which for one-hot elements is a vector for each
    element. The paper has 64 channels, three blocks and 300 Gaussians up to 30 Å without a cutoff; our default sizes
    are PyG's. PyG's weight w rises again beyond the cutoff, where its own graphs have no edges: here edges may be
    longer, and count as being of the length of the cutoff.
    """

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        *,
        channels: int = 128,
        num_filters: int = 128,
        num_layers: int = 6,
        num_gaussians: int = 50,
        cutoff: float = 10.0,
        pooled: bool = False,
        pooling: str = "mean",
    ) -> None:
        super().__init__()
        require_scalars("schnet", fiber_in, fiber_out)
        if min(channels, num_filters, num_layers) < 1 or num_gaussians < 2 or cutoff <= 0:
            raise UserError(
                f"schnet: channels, num_filters and num_layers must be at least 1, num_gaussians at least 2 and cutoff "
                f"above 0, got {channels}, {num_filters}, {num_layers}, {num_gaussians} and {cutoff}"
            )
        self.fiber_in, self.fiber_out, self.cutoff = fiber_in, fiber_out, cutoff
        self.embedding = nn.Linear(fiber_in[0], channels)
        self.gaussians = GaussianSmearing(0.0, cutoff, num_gaussians)
        self.blocks = nn.ModuleList(
            InteractionBlock(channels, num_gaussians, num_filters, cutoff) for _ in range(num_layers)
        )
        width = max(channels // 2, 1)
        first, last = nn.Linear(channels, width), nn.Linear(width, fiber_out[0])
        for layer in (first, last):  # as PyG's model begins
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.head = nn.Sequential(first, ShiftedSoftplus(), last)
        self.pooling = Pooling(pooling) if pooled else None

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

    def extra_repr(self) -> str:
        """Fibers and cutoff."""
        return f"{self.fiber_in!r} -> {self.fiber_out!r}, cutoff={self.cutoff:g}"
