"""The TFN layer: messages W^{lk}(x_j − x_i) f_j^k, summed over the neighbours, plus the self-interaction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch_geometric.utils import scatter

from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.nn.basis import EquivariantBasis
from se3t.nn.kernels import MEMORY, Sources, get_kernel
from se3t.nn.linear import EquivariantLinear
from se3t.nn.precision import at_least_float32, full_range
from se3t.nn.radial import RadialNetwork, require_whole

REDUCTIONS = ("sum", "mean", "none")
SUM_GAIN = 0.35  # of summed messages: a sum over few neighbours starts with about half the variance of a feature


_NO_FEATURES = Fiber({})


@dataclass(frozen=True)
class ConvSettings:
    """What the convolutions of a network have in common: the edges they see, their radial networks, their kernel.

    Attributes:
        num_edge_scalars: invariant edge features, fed to the radial network beside ‖x‖.
        fiber_edge: edge features of any type (of degree > 0, as a rule), joined to the source feature as channels.
        radial_hidden: width of the radial network.
        share_radial: which pairs of degrees share its hidden layers, see :class:`RadialNetwork`.
        parity: whether only paths with even l + k + J act, see :class:`RadialNetwork`.
        kernel: name of the implementation, see :mod:`se3t.nn.kernels`.
        memory: ``speed`` keeps the radial weights of all edges for the gradients, ``low`` makes them a few edges at a
            time, twice; ``auto`` decides by their size. Only kernel ``edge_frame`` has the choice.
    """

    num_edge_scalars: int = 0
    fiber_edge: Fiber = _NO_FEATURES
    radial_hidden: int = 32
    share_radial: str = "none"
    parity: bool = False
    kernel: str = "auto"
    memory: str = "auto"


DEFAULTS = ConvSettings()


class EquivariantConv(nn.Module):
    """f_out,i^l = w^{ll} f_i^l + Σ_k Σ_{j∈N(i)} W^{lk}(x_j − x_i) f_j^k (Equations 6 to 8 of the paper).

    Args:
        fiber_in: types and channels of the node features.
        fiber_out: types and channels of the output.
        settings: edge features, radial network and kernel.
        reduce: ``sum`` or ``mean`` over the incoming edges gives a node feature, to which w^{ll} f_i^l is added for the
            degrees that input and output share; ``none`` gives the messages of the edges, as keys and values need them.
        bias: whether degree 0 of w^{ll} has a bias.
        gain: standard deviation of a component of a message at the start, for features of unit variance; None: 1, less
            where ``reduce`` sums them.

    Raises:
        ValueError: for an unknown name.

    **Deviation**: the authors' code takes the mean and adds the self term per edge (isolated nodes get zero) or, in its
    flavour 'TFN', mixes the messages; NVIDIA's sums with one self term per edge (both: :mod:`se3t.compat.layers`); the
    paper, followed here, sums with a single self term.
    """

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: ConvSettings = DEFAULTS,
        *,
        reduce: str = "sum",
        bias: bool = False,
        gain: float | None = None,
    ) -> None:
        super().__init__()
        if reduce not in REDUCTIONS:
            raise ValueError(f"reduce={reduce!r}: expected one of {', '.join(REDUCTIONS)}")
        if settings.memory not in MEMORY:
            raise ValueError(f"memory={settings.memory!r}: expected one of {', '.join(MEMORY)}")
        self.fiber_in, self.fiber_out, self.settings, self.reduce = fiber_in, fiber_out, settings, reduce
        self.kernel = get_kernel(settings.kernel)
        self.radial = self._radial_network(gain or (SUM_GAIN if reduce == "sum" else 1.0))
        self.self_interaction = None if reduce == "none" else self._self_interaction(bias)

    def _radial_network(self, gain: float) -> RadialNetwork:
        s = self.settings
        return RadialNetwork(
            self.fiber_in + s.fiber_edge,
            self.fiber_out,
            s.num_edge_scalars,
            hidden=s.radial_hidden,
            gain=gain,
            share=s.share_radial,
            parity=s.parity,
        )

    def _self_interaction(self, bias: bool) -> EquivariantLinear | None:
        shared = self.fiber_in.restrict(self.fiber_out)
        return EquivariantLinear(shared, self.fiber_out.restrict(shared), bias=bias) if shared else None

    @property
    def max_degree(self) -> int:
        """Largest degree of what comes in, the edge features used included, and of what goes out."""
        return max(self.radial.fiber_in.max_degree, self.fiber_out.max_degree)

    @full_range
    def forward(self, features: Features, basis: EquivariantBasis) -> Features:
        """Convolve.

        Args:
            features: ``[node, C_in, 2k+1]`` by degree.
            basis: of the graph's edges, with their scalars and features.

        Returns:
            ``[node, C_out, 2l+1]`` by degree, or ``[edge, …]`` with ``reduce="none"``; messages are multiplied by the
            ``fade`` of their edge, where the geometry has one.

        Raises:
            ValueError: when a field is not of the type that the layer was built for.
        """
        self.fiber_in.check(features)
        geometry = basis.geometry
        self.settings.fiber_edge.check(geometry.edge_features, "edge_features")
        require_whole(self.radial)
        messages = self.kernel(self._sources(features, geometry), self.radial, basis, self.settings.memory)
        if geometry.fade is not None:
            messages = {degree: geometry.fade[:, None, None] * value for degree, value in messages.items()}
        if self.reduce == "none":
            return messages
        place = (geometry.target, 0, geometry.num_nodes, self.reduce)
        reduced = {degree: scatter(at_least_float32(value), *place) for degree, value in messages.items()}
        if self.self_interaction is None:
            return reduced
        return self._with_self_term(self.self_interaction, features, reduced, geometry)

    def _sources(self, features: Features, geometry: EdgeGeometry) -> Sources:
        """The features f_j, and those of the edges as further channels."""
        nodes = {degree: features[degree] for degree in self.fiber_in}
        return Sources(nodes, geometry.source, {l: geometry.edge_features[l] for l in self.settings.fiber_edge})

    def _with_self_term(
        self, interaction: EquivariantLinear, features: Features, reduced: Features, geometry: EdgeGeometry
    ) -> Features:
        """``reduced`` and what a node makes of its own features."""
        term = interaction({degree: features[degree] for degree in interaction.fiber_in})
        return {degree: value + term[degree] if degree in term else value for degree, value in reduced.items()}

    def __repr__(self) -> str:
        return f"EquivariantConv({self.fiber_in!r} -> {self.fiber_out!r}, reduce={self.reduce})"


class MergedConv(EquivariantConv):
    """An :class:`EquivariantConv` of (f_j + w^{kk} f_i) / √2 in place of f_j: messages depend on both ends of an edge.

    Args: see :class:`EquivariantConv`.
    """

    def __init__(self, fiber_in: Fiber, *arguments: Any, **options: Any) -> None:
        super().__init__(fiber_in, *arguments, **options)
        self.target = EquivariantLinear(fiber_in, fiber_in)

    def _sources(self, features: Features, geometry: EdgeGeometry) -> Sources:
        sources, targets = super()._sources(features, geometry), self.target(features)
        merged = {
            degree: math.sqrt(0.5)
            * (value.index_select(0, geometry.source) + targets[degree].index_select(0, geometry.target))
            for degree, value in sources.features.items()
        }
        return Sources(merged, None, sources.edge_features)
