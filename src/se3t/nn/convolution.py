"""The TFN layer: messages W^{lk}(x_j − x_i) f_j^k, summed over the neighbours, plus the self-interaction."""

from __future__ import annotations

import torch
from torch import nn
from torch_geometric.utils import scatter

from se3t.fiber import Features, Fiber, cat_features
from se3t.nn.basis import EquivariantBasis
from se3t.nn.kernels import get_kernel
from se3t.nn.linear import EquivariantLinear
from se3t.nn.precision import accumulated
from se3t.nn.radial import RadialNetwork

REDUCTIONS = ("sum", "mean", "none")
_SUM_GAIN = 0.35  # a sum over few neighbours starts with about half the variance of a feature


class EquivariantConv(nn.Module):
    """f_out,i^l = w^{ll} f_i^l + Σ_k Σ_{j∈N(i)} W^{lk}(x_j − x_i) f_j^k (Equations 6 to 8 of the paper).

    Args:
        fiber_in: types and channels of the node features.
        fiber_out: types and channels of the output.
        num_edge_scalars: invariant edge features, fed to the radial network beside ‖x‖.
        fiber_edge: edge features of any type (of degree > 0, as a rule), joined to the source feature.
        edge_mode: ``cat`` appends the edge features as channels, ``add`` adds them to the first channels of their
            degree.
        reduce: ``sum`` or ``mean`` over the incoming edges gives a node feature; ``none`` gives the messages of the
            edges, as keys and values need them.
        self_interaction: whether w^{ll} f_i^l is added, once per node; degrees that input and output share. Only with a
            reduction.
        self_interaction_bias: whether its degree 0 has a bias.
        kernel: name of the implementation, see :mod:`se3t.nn.kernels`.
        radial_hidden, radial_layer_norm, radial_bias, share_radial: see :class:`RadialNetwork`.

    Raises:
        ValueError: for fibers that do not fit, or an unknown name.

    **Deviation**: the authors' code takes the mean and adds the self term per edge (isolated nodes get zero), NVIDIA's
    sums with one self term per edge; the paper, followed here, sums with a single self term.
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
        self_interaction: bool = True,
        self_interaction_bias: bool = False,
        kernel: str = "edge_frame",
        radial_hidden: int = 32,
        radial_layer_norm: bool = True,
        radial_bias: bool = True,
        share_radial: str = "none",
    ) -> None:
        super().__init__()
        if reduce not in REDUCTIONS:
            raise ValueError(f"reduce={reduce!r}: expected one of {', '.join(REDUCTIONS)}")
        self.fiber_in, self.fiber_out = fiber_in, fiber_out
        self.fiber_edge = fiber_edge or Fiber({})
        self.edge_mode, self.reduce, self.kernel = edge_mode, reduce, get_kernel(kernel)
        self.radial = RadialNetwork(
            _source_fiber(fiber_in, self.fiber_edge, edge_mode),
            fiber_out,
            num_edge_scalars,
            hidden=radial_hidden,
            layer_norm=radial_layer_norm,
            last_bias=radial_bias,
            gain=_SUM_GAIN if reduce == "sum" else 1.0,
            share=share_radial,
        )
        shared = fiber_out.restrict(fiber_in)
        self.self_interaction = None
        if reduce != "none" and self_interaction and shared:
            self.self_interaction = EquivariantLinear(fiber_in.restrict(shared), shared, bias=self_interaction_bias)

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
        source = {degree: features[degree][geometry.source] for degree in self.fiber_in}  # weights follow this order
        if self.fiber_edge:
            join = cat_features if self.edge_mode == "cat" else _add
            source = join(source, geometry.edge_features)
        out = self.kernel(source, self.radial(geometry), self.radial, basis)
        if self.reduce == "none":
            return out
        place = (geometry.target, 0, geometry.num_nodes, self.reduce)
        out = {degree: scatter(accumulated(value), *place) for degree, value in out.items()}
        if self.self_interaction is not None:
            own = self.self_interaction({degree: features[degree] for degree in self.self_interaction.fiber_in})
            out = {degree: value + own[degree] if degree in own else value for degree, value in out.items()}
        return out

    def __repr__(self) -> str:
        return f"EquivariantConv({self.fiber_in!r} -> {self.fiber_out!r}, reduce={self.reduce})"


def _source_fiber(fiber_in: Fiber, fiber_edge: Fiber, edge_mode: str) -> Fiber:
    if edge_mode == "cat":
        return fiber_in + fiber_edge
    if edge_mode != "add":
        raise ValueError(f"edge_mode={edge_mode!r}: expected cat or add")
    for degree, channels in fiber_edge.items():
        if fiber_in.get(degree, 0) < channels:
            raise ValueError(
                f"edge_mode='add': {channels} edge channels of degree {degree} need as many node channels, "
                f"the node features are {fiber_in!r}; use edge_mode='cat'"
            )
    return fiber_in


def _add(source: Features, edge_features: Features) -> Features:
    out = dict(source)
    for degree, value in edge_features.items():
        channels = value.shape[-2]
        out[degree] = torch.cat([out[degree][:, :channels] + value, out[degree][:, channels:]], dim=1)
    return out
