"""The Tensor Field Network (Thomas et al. 2018)."""

from __future__ import annotations

import itertools

from torch import nn

from se3t.config import TFNModel
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph
from se3t.nn import EquivariantBasis, EquivariantConv, NormNonlinearity


class TFN(nn.Module):
    """(equivariant convolution – norm nonlinearity) × (num_layers − 1), then one convolution to ``fiber_out``.

    Args:
        fiber_in: types and channels of the node features.
        fiber_hidden: types and channels between the layers.
        fiber_out: types and channels of the output.
        num_edge_scalars: invariant edge features, used beside the distance.
        fiber_edge: edge features of any type, joined to the source features in every layer.
        num_layers: number of convolutions, the last one included.
        norm: kind of the norm nonlinearity, see :class:`NormNonlinearity`.
        conv: further arguments of :class:`EquivariantConv` (reduce, kernel, radial options).

    Raises:
        ValueError: when ``num_layers`` is below 1 or fibers do not fit.

    Source: Thomas et al., Tensor field networks, 2018; sizes as the SE(3)-Transformer's baseline in Section 4.1 of the
        paper.
    """

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_hidden: Fiber,
        fiber_out: Fiber,
        *,
        num_edge_scalars: int = 0,
        fiber_edge: Fiber | None = None,
        num_layers: int = 4,
        norm: str = "bias",
        **conv: object,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers}: expected at least 1")
        self.fiber_in, self.fiber_hidden, self.fiber_out = fiber_in, fiber_hidden, fiber_out
        fibers = [fiber_in, *[fiber_hidden] * (num_layers - 1), fiber_out]
        self.max_degree = max(fiber.max_degree for fiber in [*fibers, fiber_edge or Fiber({})])
        self.convs = nn.ModuleList(
            EquivariantConv(before, after, num_edge_scalars, fiber_edge=fiber_edge, self_interaction_bias=True, **conv)  # type: ignore[arg-type]
            for before, after in itertools.pairwise(fibers)
        )
        self.norms = nn.ModuleList(NormNonlinearity(fiber_hidden, norm) for _ in range(num_layers - 1))

    @classmethod
    def from_config(
        cls, config: TFNModel, *, fiber_in: Fiber, fiber_out: Fiber, num_edge_scalars: int, horizon: float
    ) -> TFN:
        """The model of a configuration; ``horizon`` is not used."""
        return cls(
            fiber_in,
            Fiber.uniform(config.num_degrees, config.channels),
            fiber_out,
            num_edge_scalars=num_edge_scalars,
            num_layers=config.num_layers,
            norm=config.norm,
            reduce=config.reduce,
            kernel=config.kernel,
            radial_hidden=config.radial_hidden,
            share_radial=config.share_radial,
        )

    def forward(self, graph: Graph) -> Features:
        """Node features ``[node, C_out, 2l+1]`` by degree of ``fiber_out``.

        Raises:
            ValueError: when the features of the graph are not of type ``fiber_in``.
        """
        basis = EquivariantBasis(EdgeGeometry.of(graph, pair=True), self.max_degree)
        features = graph.features
        for index, conv in enumerate(self.convs):
            features = conv(features, basis)
            if index < len(self.norms):
                features = self.norms[index](features)
        return features

    def extra_repr(self) -> str:
        """What ``print`` shows in the brackets."""
        return f"{self.fiber_in!r} -> {self.fiber_hidden!r} -> {self.fiber_out!r}"
