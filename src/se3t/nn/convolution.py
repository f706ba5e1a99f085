"""The TFN layer: messages W^{lk}(x_j − x_i) f_j^k, summed over the neighbours, plus the self-interaction."""

from __future__ import annotations

import torch
from torch import nn
from torch_geometric.utils import scatter

from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.nn.basis import EquivariantBasis
from se3t.nn.kernels import MEMORY, Sources, get_kernel
from se3t.nn.linear import EquivariantLinear
from se3t.nn.precision import at_least_float32, full_range
from se3t.nn.radial import RadialNetwork

REDUCTIONS = ("sum", "mean", "none")
SELF_INTERACTIONS = ("once", "per_edge", "message", "none")
EDGE_MODES = ("cat", "cat_shared", "add")
_SUM_GAIN = 0.35  # a sum over few neighbours starts with about half the variance of a feature


class EquivariantConv(nn.Module):
    """f_out,i^l = w^{ll} f_i^l + Σ_k Σ_{j∈N(i)} W^{lk}(x_j − x_i) f_j^k (Equations 6 to 8 of the paper).

    Args:
        fiber_in: types and channels of the node features.
        fiber_out: types and channels of the output.
        num_edge_scalars: invariant edge features, fed to the radial network beside ‖x‖.
        fiber_edge: edge features of any type (of degree > 0, as a rule), joined to the source feature.
        edge_mode: ``cat`` appends the edge features as channels; ``cat_shared`` those of the degrees that the node
            features have, leaving out the others; ``add`` adds them to the first channels of their degree, where the
            node features have several (a single channel would be drowned, and is left as it is).
        reduce: ``sum`` or ``mean`` over the incoming edges gives a node feature; ``none`` gives the messages of the
            edges, as keys and values need them.
        self_interaction: where w^{ll} acts, with a reduction: ``once`` adds w^{ll} f_i^l to every node, for the degrees
            that input and output share; ``per_edge`` adds it to every message before the reduction (nodes without
            neighbours receive nothing); ``message`` applies it to the reduced messages, nothing of f_i is added;
            ``none``.
        self_interaction_bias: whether its degree 0 has a bias.
        kernel: name of the implementation, see :mod:`se3t.nn.kernels`.
        memory: ``speed`` keeps the radial weights of all edges for the gradients, ``low`` makes them a few edges at a
            time, twice; ``auto`` decides by their size. Only kernel ``edge_frame`` has the choice.
        radial_hidden, radial_layer_norm, radial_bias, share_radial, scalar_constant, parity: see
            :class:`RadialNetwork`.

    Raises:
        ValueError: for fibers that do not fit, or an unknown name.

    **Deviation**: the authors' code takes the mean and adds the self term per edge (isolated nodes get zero) or, in its
    flavour 'TFN', mixes the messages; NVIDIA's sums with one self term per edge; the paper, followed here, sums with a
    single self term.
    """

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        num_edge_scalars: int = 0,
        *,
        fiber_edge: Fiber | None = None,
        edge_mode: str = "cat",
        reduce: str = "sum",
        self_interaction: str = "once",
        self_interaction_bias: bool = False,
        kernel: str = "auto",
        memory: str = "auto",
        radial_hidden: int = 32,
        radial_layer_norm: bool = True,
        radial_bias: bool = True,
        share_radial: str = "none",
        scalar_constant: bool = True,
        parity: bool = False,
    ) -> None:
        super().__init__()
        if reduce not in REDUCTIONS:
            raise ValueError(f"reduce={reduce!r}: expected one of {', '.join(REDUCTIONS)}")
        if self_interaction not in SELF_INTERACTIONS:
            raise ValueError(f"self_interaction={self_interaction!r}: expected one of {', '.join(SELF_INTERACTIONS)}")
        if memory not in MEMORY:
            raise ValueError(f"memory={memory!r}: expected one of {', '.join(MEMORY)}")
        self.fiber_in, self.fiber_out, self.memory = fiber_in, fiber_out, memory
        self.fiber_edge = fiber_edge or Fiber({})
        self.edge_mode, self.reduce, self.kernel = edge_mode, reduce, get_kernel(kernel)
        self.fiber_joined = _joined(fiber_in, self.fiber_edge, edge_mode)
        self.radial = RadialNetwork(
            fiber_in if edge_mode == "add" else fiber_in + self.fiber_joined,
            fiber_out,
            num_edge_scalars,
            hidden=radial_hidden,
            layer_norm=radial_layer_norm,
            last_bias=radial_bias,
            gain=_SUM_GAIN if reduce == "sum" else 1.0,
            share=share_radial,
            scalar_constant=scalar_constant,
            parity=parity,
        )
        self.self_term = "none" if reduce == "none" else self_interaction
        own = fiber_out if self_interaction == "message" else fiber_in.restrict(fiber_out)
        self.self_interaction = None
        if self.self_term != "none" and own:
            self.self_interaction = EquivariantLinear(own, fiber_out.restrict(own), bias=self_interaction_bias)

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
            ``[node, C_out, 2l+1]`` by degree, or ``[edge, …]`` with ``reduce="none"``.

        Raises:
            ValueError: when a field is not of the type that the layer was built for.
        """
        self.fiber_in.check(features)
        geometry = basis.geometry
        self.fiber_edge.check(geometry.edge_features, "edge_features")
        sources = Sources({degree: features[degree] for degree in self.fiber_in}, geometry.source)
        if self.fiber_joined:
            own = {degree: geometry.edge_features[degree] for degree in self.fiber_joined}
            if self.edge_mode == "add":
                sources = Sources(_add(sources.gathered(), own))
            else:
                sources = Sources(sources.features, geometry.source, own)
        out = self.kernel(sources, self.radial, basis, self.memory)
        if self.reduce == "none":
            return out
        place = (geometry.target, 0, geometry.num_nodes, self.reduce)
        out = {degree: scatter(at_least_float32(value), *place) for degree, value in out.items()}
        return out if self.self_interaction is None else self._interact(self.self_interaction, features, out, geometry)

    def _interact(
        self, interaction: EquivariantLinear, features: Features, reduced: Features, geometry: EdgeGeometry
    ) -> Features:
        if self.self_term == "message":
            return interaction(reduced)
        own = interaction({degree: features[degree] for degree in interaction.fiber_in})
        if self.self_term == "per_edge":  # the reduction of as many equal terms as a node has incoming edges
            count = geometry.in_degree.to(features[interaction.fiber_in.degrees[0]])
            count = count if self.reduce == "sum" else count.clamp(max=1)
            own = {degree: value * count[:, None, None] for degree, value in own.items()}
        return {degree: value + own[degree] if degree in own else value for degree, value in reduced.items()}

    def __repr__(self) -> str:
        return f"EquivariantConv({self.fiber_in!r} -> {self.fiber_out!r}, reduce={self.reduce})"


def _joined(fiber_in: Fiber, fiber_edge: Fiber, edge_mode: str) -> Fiber:
    """The edge features that a layer uses."""
    if edge_mode not in EDGE_MODES:
        raise ValueError(f"edge_mode={edge_mode!r}: expected one of {', '.join(EDGE_MODES)}")
    if edge_mode == "cat":
        return fiber_edge
    if edge_mode == "cat_shared":
        return fiber_edge.restrict(fiber_in)
    several = fiber_edge.restrict(tuple(degree for degree, channels in fiber_in.items() if channels > 1))
    for degree, channels in several.items():
        if fiber_in[degree] < channels:
            raise ValueError(
                f"edge_mode='add': {channels} edge channels of degree {degree} need as many node channels, "
                f"the node features are {fiber_in!r}; use edge_mode='cat'"
            )
    return several


def _add(source: Features, edge_features: Features) -> Features:
    out = dict(source)
    for degree, value in edge_features.items():
        channels = value.shape[-2]
        out[degree] = torch.cat([out[degree][:, :channels] + value, out[degree][:, channels:]], dim=1)
    return out
