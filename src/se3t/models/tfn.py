"""The Tensor Field Network (Thomas et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from se3t.config import TFNModel
from se3t.fiber import Fiber
from se3t.models.stack import EquivariantStack
from se3t.nn import EquivariantConv


class TFN(EquivariantStack):
    """(equivariant convolution – norm nonlinearity) × (num_layers − 1), then one convolution, then readout.

    Equivariant as :class:`~se3t.models.se3_transformer.SE3Transformer` is, with ``parity=True`` under reflections too.

    Args:
        fiber_in: types and channels of the node features.
        fiber_hidden: types and channels between the layers.
        fiber_out: types and channels of the output.
        num_edge_scalars: invariant edge features, used beside the distance.
        fiber_edge: edge features of any type, joined to the source features in every layer.
        num_layers: number of convolutions, the last one included.
        self_interaction_bias: whether degree 0 of the self-interaction has a bias.
        layer_options: options of single convolutions, one mapping for each, on top of ``conv``.
        stack: ``relative_position``, ``norm``, ``norm_options``, ``fiber_last``, ``pooling`` and ``head``, see
            :class:`EquivariantStack`.
        conv: further arguments of :class:`EquivariantConv` (reduce, self_interaction, kernel, radial options).

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
        self_interaction_bias: bool = True,
        layer_options: Sequence[Mapping[str, object]] = (),
        **options: object,
    ) -> None:
        stack, conv = self.split_options(options)
        super().__init__(fiber_in, fiber_hidden, fiber_out, num_layers=num_layers, fiber_edge=fiber_edge, **stack)  # type: ignore[arg-type]
        conv["self_interaction_bias"] = self_interaction_bias
        for before, after, own in self.steps(conv, layer_options):
            self.layers.append(EquivariantConv(before, after, num_edge_scalars, fiber_edge=self.fiber_edge, **own))  # type: ignore[arg-type]

    @classmethod
    def from_config(
        cls,
        config: TFNModel,
        *,
        fiber_in: Fiber,
        fiber_out: Fiber,
        num_edge_scalars: int,
        horizon: float = 0.0,
        pooled: bool = False,
        fiber_edge: Fiber | None = None,
    ) -> TFN:
        """The model of a configuration: with ``pooled`` a TFN layer to type 0, pooling and two linear layers follow
        the ``num_layers``; ``horizon`` is not used.
        """
        return cls(
            fiber_in,
            Fiber.uniform(config.num_degrees, config.channels),
            fiber_out,
            num_edge_scalars=num_edge_scalars,
            fiber_edge=fiber_edge,
            num_layers=config.num_layers + pooled,
            norm=config.norm,
            reduce=config.reduce,
            kernel=config.kernel,
            memory=config.memory,
            radial_hidden=config.radial_hidden,
            share_radial=config.share_radial,
            parity=config.parity,
            **cls.pooled_options(config.pooling, config.pool_channels, pooled),
        )
