"""Neural message passing with edge networks ("NMP" of Table 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import NNConv
from torch_geometric.nn.aggr import Set2Set
from torch_geometric.nn.models.schnet import GaussianSmearing

from se3t.config import MPNNModel
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph
from se3t.models.base import SettingsModel
from se3t.models.pointwise import require_scalars
from se3t.nn.precision import at_least_float32, require_supported


class MPNN(SettingsModel):
    """h_i ← GRU(Σ_j h_j A(e_ij), h_i), several times with the same weights, then Set2Set over each cloud.

    A is a network of two layers that makes a square matrix of the edge scalars and of Gaussians of the distance;
    h starts as ReLU(Linear(f)) of the type-0 features f. The result of Set2Set, or without it each h_i, passes
    Linear – ReLU – Linear. Invariant to rotations, translations and reflections.

    Args:
        fiber_in: type 0 alone.
        fiber_out: type 0 alone.
        settings: see :class:`se3t.config.MPNNModel`; centres of Gaussians are spaced evenly from 0 to ``cutoff``, in
            the unit of length of the positions, and their spacing is the standard deviation; longer edges differ from
            each other little. options: single settings by name.
        num_edge_scalars: invariant edge features, such as the class of a bond.
        pooled: Set2Set and one output for each cloud, not one for each node.

    Raises:
        UserError: for other types than 0, and see :class:`SettingsModel`.

    Source: Gilmer et al. 2017, "Neural message passing for quantum chemistry", Sections 3 and 5 (edge network, GRU,
    weights tied over the rounds, Set2Set: "enn-s2s"); Vinyals et al. 2016, "Order matters", for Set2Set.
    **Deviation**: they give A the distance itself (or bins of it), we give it Gaussians; they pass the final states
    with the input features through a linear map before Set2Set, we pass the states; no virtual nodes or edges, no
    towers; and sizes are ours: they tuned sizes for every target. PyG's NNConv would evaluate A in
    every round: as the weights are tied, it is evaluated once and NNConv gets the matrices.
    """

    schema = MPNNModel

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: MPNNModel | None = None,
        *,
        num_edge_scalars: int = 0,
        pooled: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(fiber_in, fiber_out, settings, options, pooled=pooled)
        require_scalars("mpnn", fiber_in, fiber_out)
        s = self.settings
        channels, self.num_layers = s.channels, s.num_layers
        self.embedding = nn.Sequential(nn.Linear(fiber_in[0], channels), nn.ReLU())
        self.gaussians = GaussianSmearing(0.0, s.cutoff, s.num_gaussians)
        self.edge_network = nn.Sequential(
            nn.Linear(num_edge_scalars + s.num_gaussians, s.edge_hidden),
            nn.ReLU(),
            nn.Linear(s.edge_hidden, channels**2),
        )
        self.convolution = NNConv(channels, channels, nn.Identity(), aggr="add", root_weight=False, bias=False)
        self.update = nn.GRUCell(channels, channels)
        self.set2set = Set2Set(channels, s.set2set_steps) if pooled else None
        width = 2 * channels if pooled else channels  # Set2Set: the query beside what it reads
        self.head = nn.Sequential(nn.Linear(width, channels), nn.ReLU(), nn.Linear(channels, fiber_out[0]))

    def forward(self, graph: Graph) -> Features:
        """Prediction for every node, or with ``pooled`` for every cloud: ``{0: [node or graph, C, 1]}``."""
        require_supported(self, graph)
        self.fiber_in.check(graph.features, "MPNN: input features")
        matrices = self.edge_network(self._invariants(graph))  # [edge, channel * channel]
        hidden = at_least_float32(self.embedding(graph.features[0].squeeze(-1)))  # [node, channel]
        for _ in range(self.num_layers):
            hidden = at_least_float32(self.update(self.convolution(hidden, graph.edge_index, matrices), hidden))
        if self.set2set is not None:
            with torch.autocast(hidden.device.type, enabled=False):  # not every CPU has an LSTM in half precision
                hidden = self.set2set(hidden, graph.batch, dim_size=graph.num_graphs)
        return {0: self.head(hidden)[..., None]}

    def _invariants(self, graph: Graph) -> Tensor:
        smeared = self.gaussians(EdgeGeometry.of(graph).length)
        return smeared if graph.edge_scalars is None else torch.cat([graph.edge_scalars, smeared], dim=-1)
