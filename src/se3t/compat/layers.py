"""Layers of the released codes where they differ from those of :mod:`se3t.nn`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.nn import ConvSettings, EquivariantConv, EquivariantLinear, RadialNetwork, SE3AttentionBlock
from se3t.nn.kernels import Sources

SELF_INTERACTIONS = ("once", "per_edge", "message", "none")
EDGE_MODES = ("cat", "cat_shared", "add")
_INVERSE_Y00 = math.sqrt(4 * math.pi)


@dataclass(frozen=True)
class ReleasedSettings(ConvSettings):
    """What a convolution of a released code does differently.

    Attributes:
        edge_mode: ``cat`` appends the edge features as channels; ``cat_shared`` those of the degrees that the node
            features have, leaving out the others; ``add`` adds them to the first channels of their degree, where the
            node features have several (a single channel would be drowned, and is left as it is).
        self_interaction: where w^{ll} acts: ``once`` adds w^{ll} f_i^l to every node; ``per_edge`` adds it to every
            message before the reduction (nodes without neighbours receive nothing); ``message`` applies it to the
            reduced messages, nothing of f_i is added; ``none``.
        radial_layer_norm: whether LayerNorm stands before each ReLU of the radial network.
        radial_bias: whether the last layer of the radial network has a bias.
        scalar_constant: whether the kernel of l = k = 0 has its constant Y_00 = 1/√(4π); NVIDIA's has not where the
            pair (0, 0) has a network of its own.
    """

    edge_mode: str = "cat"
    self_interaction: str = "once"
    radial_layer_norm: bool = True
    radial_bias: bool = True
    scalar_constant: bool = True

    def __post_init__(self) -> None:
        if self.edge_mode not in EDGE_MODES:
            raise ValueError(f"edge_mode={self.edge_mode!r}: expected one of {', '.join(EDGE_MODES)}")
        if self.self_interaction not in SELF_INTERACTIONS:
            raise ValueError(
                f"self_interaction={self.self_interaction!r}: expected one of {', '.join(SELF_INTERACTIONS)}"
            )


class ReleasedConv(EquivariantConv):
    """An :class:`EquivariantConv` as the released codes have it.

    Args:
        fiber_in, fiber_out, reduce, bias: as of :class:`EquivariantConv`.
        settings: with what is different.

    Raises:
        ValueError: for fibers that do not fit.
    """

    settings: ReleasedSettings

    def _radial_network(self, gain: float) -> RadialNetwork:
        s = self.settings
        self.fiber_joined = _joined(self.fiber_in, s)
        network = RadialNetwork if s.scalar_constant else _WithoutScalarConstant
        return network(
            self.fiber_in if s.edge_mode == "add" else self.fiber_in + self.fiber_joined,
            self.fiber_out,
            s.num_edge_scalars,
            hidden=s.radial_hidden,
            layer_norm=s.radial_layer_norm,
            last_bias=s.radial_bias,
            gain=gain,
            share=s.share_radial,
            parity=s.parity,
        )

    def _self_interaction(self, bias: bool) -> EquivariantLinear | None:
        if self.settings.self_interaction == "none":
            return None
        if self.settings.self_interaction == "message":
            return EquivariantLinear(self.fiber_out, self.fiber_out, bias=bias)
        return super()._self_interaction(bias)

    def _sources(self, features: Features, geometry: EdgeGeometry) -> Sources:
        nodes = {degree: features[degree] for degree in self.fiber_in}
        joined = {degree: geometry.edge_features[degree] for degree in self.fiber_joined}
        if self.settings.edge_mode == "add" and joined:
            return Sources(_added(Sources(nodes, geometry.source).gathered(), joined))
        return Sources(nodes, geometry.source, joined)

    def _with_self_term(
        self, interaction: EquivariantLinear, features: Features, reduced: Features, geometry: EdgeGeometry
    ) -> Features:
        if self.settings.self_interaction == "message":
            return interaction(reduced)
        if self.settings.self_interaction == "once":
            return super()._with_self_term(interaction, features, reduced, geometry)
        term = interaction({degree: features[degree] for degree in interaction.fiber_in})
        # the reduction of as many equal terms as a node has incoming edges
        count = geometry.in_degree.to(features[interaction.fiber_in.degrees[0]])
        count = (count if self.reduce == "sum" else count.clamp(max=1))[:, None, None]
        return {degree: value + count * term[degree] if degree in term else value for degree, value in reduced.items()}


class ReleasedBlock(SE3AttentionBlock):
    """An :class:`SE3AttentionBlock` of such convolutions."""

    convolution = ReleasedConv


class _WithoutScalarConstant(RadialNetwork):
    def factor_of(self, degree_out: int, degree_in: int) -> float:
        return _INVERSE_Y00 if degree_out == degree_in == 0 else 1.0


def _joined(fiber_in: Fiber, settings: ReleasedSettings) -> Fiber:
    """The edge features that a layer uses."""
    if settings.edge_mode == "cat":
        return settings.fiber_edge
    if settings.edge_mode == "cat_shared":
        return settings.fiber_edge.restrict(fiber_in)
    several = settings.fiber_edge.restrict(tuple(degree for degree, channels in fiber_in.items() if channels > 1))
    for degree, channels in several.items():
        if fiber_in[degree] < channels:
            raise ValueError(
                f"edge_mode='add': {channels} edge channels of degree {degree} need as many node channels, "
                f"the node features are {fiber_in!r}; use edge_mode='cat'"
            )
    return several


def _added(source: Features, edge_features: Features) -> Features:
    out = dict(source)
    for degree, value in edge_features.items():
        channels = value.shape[-2]
        out[degree] = torch.cat([out[degree][:, :channels] + value, out[degree][:, channels:]], dim=1)
    return out
