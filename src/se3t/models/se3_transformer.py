"""The SE(3)-Transformer (Fuchs et al. 2020)."""

from __future__ import annotations

import itertools

from torch import nn

from se3t.config import SE3TransformerModel
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph
from se3t.nn import EquivariantBasis, NormNonlinearity, SE3AttentionBlock


class SE3Transformer(nn.Module):
    """(attention block – norm nonlinearity) × (num_layers − 1), then one attention block to ``fiber_out``.

    Equivariant under rotations and translations of the positions together with rotations of the features, and under
    permutations.

    Args:
        fiber_in: types and channels of the node features.
        fiber_hidden: types and channels between the layers.
        fiber_out: types and channels of the output.
        num_edge_scalars: invariant edge features, used beside the distance.
        fiber_edge: edge features of any type, joined to the source features in every layer.
        num_layers: number of attention blocks, the last one included.
        norm: kind of the norm nonlinearity, see :class:`NormNonlinearity`.
        block: further arguments of :class:`SE3AttentionBlock` (num_heads, channels_div, self_interaction, skip,
            fuse_key_value, kernel, radial options).

    Raises:
        ValueError: when ``num_layers`` is below 1 or fibers do not fit.

    Source: paper, Sections 3 and 4.1. **Deviation**: the authors' released code puts the output block after
    ``num_layers`` hidden ones; here it is counted.
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
        **block: object,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers}: expected at least 1")
        self.fiber_in, self.fiber_hidden, self.fiber_out = fiber_in, fiber_hidden, fiber_out
        fibers = [fiber_in, *[fiber_hidden] * (num_layers - 1), fiber_out]
        self.max_degree = max(fiber.max_degree for fiber in [*fibers, fiber_edge or Fiber({})])
        self.blocks = nn.ModuleList(
            SE3AttentionBlock(before, after, num_edge_scalars, fiber_edge=fiber_edge, **block)  # type: ignore[arg-type]
            for before, after in itertools.pairwise(fibers)
        )
        self.norms = nn.ModuleList(NormNonlinearity(fiber_hidden, norm) for _ in range(num_layers - 1))

    @classmethod
    def from_config(
        cls, config: SE3TransformerModel, *, fiber_in: Fiber, fiber_out: Fiber, num_edge_scalars: int, horizon: float
    ) -> SE3Transformer:
        """The model of a configuration; ``horizon`` is not used."""
        return cls(
            fiber_in,
            Fiber.uniform(config.num_degrees, config.channels),
            fiber_out,
            num_edge_scalars=num_edge_scalars,
            num_layers=config.num_layers,
            norm=config.norm,
            num_heads=config.num_heads,
            channels_div=config.channels_div,
            self_interaction=config.self_interaction,
            skip=config.skip,
            fuse_key_value=config.fuse_key_value,
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
        for index, block in enumerate(self.blocks):
            features = block(features, basis)
            if index < len(self.norms):
                features = self.norms[index](features)
        return features

    def extra_repr(self) -> str:
        """What ``print`` shows in the brackets."""
        return f"{self.fiber_in!r} -> {self.fiber_hidden!r} -> {self.fiber_out!r}"
