"""The SE(3)-Transformer (Fuchs et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from se3t.config import SE3TransformerModel
from se3t.fiber import Fiber
from se3t.models.stack import EquivariantStack
from se3t.nn import EquivariantConv, SE3AttentionBlock

_ATTENTION = {
    "num_heads",
    "channels_div",
    "fiber_value",
    "self_interaction",
    "skip",
    "bias",
    "fuse_key_value",
    "uniform",
}  # what a convolution as last layer does not take over


class SE3Transformer(EquivariantStack):
    """(attention block – norm nonlinearity) × (num_layers − 1), then one attention block or convolution, then readout.

    Equivariant under rotations and translations of the positions together with rotations of the features, and under
    permutations; with ``parity=True`` under reflections too, features of type l having parity (−1)^l.

    Args:
        fiber_in: types and channels of the node features.
        fiber_hidden: types and channels between the layers.
        fiber_out: types and channels of the output.
        num_edge_scalars: invariant edge features, used beside the distance.
        fiber_edge: edge features of any type, joined to the source features in every layer.
        num_layers: number of layers, the last one included.
        last: the last layer: ``attention``, or ``convolution`` (a TFN layer, as before the pooling for QM9).
        layer_options: options of single layers, one mapping for each, on top of ``block``; for a convolution those of
            :class:`EquivariantConv`.
        stack: ``relative_position``, ``norm``, ``norm_options``, ``fiber_last``, ``pooling`` and ``head``, see
            :class:`EquivariantStack`.
        block: further arguments of :class:`SE3AttentionBlock` (num_heads, channels_div, self_interaction, skip,
            fuse_key_value, kernel, radial options).

    Raises:
        ValueError: when ``num_layers`` is below 1 or fibers do not fit.

    Source: paper, Sections 3 and 4. **Deviation**: both released codes put the output layer after ``num_layers`` hidden
    ones; here it is counted.
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
        last: str = "attention",
        layer_options: Sequence[Mapping[str, object]] = (),
        **options: object,
    ) -> None:
        stack, block = self.split_options(options)
        super().__init__(fiber_in, fiber_hidden, fiber_out, num_layers=num_layers, fiber_edge=fiber_edge, **stack)  # type: ignore[arg-type]
        if last not in ("attention", "convolution"):
            raise ValueError(f"last={last!r}: expected attention or convolution")
        for before, after, own in self.steps(block, layer_options):
            edges: dict[str, object] = {"num_edge_scalars": num_edge_scalars, "fiber_edge": self.fiber_edge}
            if last == "convolution" and len(self.layers) == num_layers - 1:
                inherited = {name: value for name, value in block.items() if name not in _ATTENTION}
                given = layer_options[-1] if layer_options else {}
                self.layers.append(EquivariantConv(before, after, **edges, **{**inherited, **given}))  # type: ignore[arg-type]
            else:
                self.layers.append(SE3AttentionBlock(before, after, **edges, **own))  # type: ignore[arg-type]

    @classmethod
    def from_config(
        cls,
        config: SE3TransformerModel,
        *,
        fiber_in: Fiber,
        fiber_out: Fiber,
        num_edge_scalars: int,
        horizon: float = 0.0,
        pooled: bool = False,
        fiber_edge: Fiber | None = None,
    ) -> SE3Transformer:
        """The model of a configuration: with ``pooled`` one more layer (``last``) to type 0, pooling and two linear
        layers follow the ``num_layers``; ``horizon`` is not used. ``ablation``: see :mod:`se3t.models.ablation`.
        """
        from se3t.models.ablation import ABLATIONS

        model = cls if config.ablation == "none" else ABLATIONS[config.ablation]
        return model(
            fiber_in,
            Fiber.uniform(config.num_degrees, config.channels),
            fiber_out,
            num_edge_scalars=num_edge_scalars,
            fiber_edge=fiber_edge,
            num_layers=config.num_layers + pooled,
            last=config.last if pooled else "attention",
            norm=config.norm,
            num_heads=config.num_heads,
            channels_div=config.channels_div,
            self_interaction=config.self_interaction,
            skip=config.skip,
            fuse_key_value=config.fuse_key_value,
            kernel=config.kernel,
            memory=config.memory,
            radial_hidden=config.radial_hidden,
            share_radial=config.share_radial,
            parity=config.parity,
            **cls.pooled_options(config.pooling, config.pool_channels, pooled),
        )
