"""The learnable radial functions φ_J^{lk}(‖x‖) of the kernel, which may also depend on invariant edge features."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from se3t.compiling import entries, without_autocast
from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry
from se3t.nn.basis import num_paths

SHARING = ("none", "full", "degree_out", "degree_in")


class RadialNetwork(nn.Module):
    """φ: (edge scalars, ‖x‖) → one number per path and pair of channels, for every pair of degrees (l, k).

    Linear(in, h) – LN – ReLU – Linear(h, h) – LN – ReLU – Linear(h, paths · C_out · C_in). The hidden part ("trunk")
    and the last layer are kept apart, because the last product dominates the cost and each kernel organises it
    differently.

    Args:
        fiber_in: types and channels of the source features.
        fiber_out: types and channels of the messages.
        num_edge_scalars: invariant edge features besides the length.
        hidden: width h.
        layer_norm: whether LayerNorm stands before each ReLU.
        last_bias: whether the last layer has a bias.
        gain: standard deviation of one message component at the start, for features of unit variance, with LayerNorm.
        share: which pairs (l, k) use one trunk: ``none`` (one trunk each), ``full``, ``degree_out``, ``degree_in``.
        parity: whether only paths with even l + k + J act, the first, third … of each pair. Every feature of type l
            then has parity (−1)^l, as positions, velocities and (of type 0) charges have, and reflection is a symmetry.

    Source: paper, Section 4 and Appendix; one network per pair of degrees.
    **Deviation**: the last layer is initialised such that messages of unit-variance features have about unit variance
    per component. ``share="full"`` is the choice of NVIDIA's implementation, for speed. ``parity`` is in no release.
    """

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        num_edge_scalars: int = 0,
        *,
        hidden: int = 32,
        layer_norm: bool = True,
        last_bias: bool = True,
        gain: float = 1.0,
        share: str = "none",
        parity: bool = False,
    ) -> None:
        super().__init__()
        if share not in SHARING:
            raise ValueError(f"share={share!r}: expected one of {', '.join(SHARING)}")
        self.fiber_in, self.fiber_out = fiber_in, fiber_out
        self.num_edge_scalars, self.hidden = num_edge_scalars, hidden
        self.layer_norm, self.parity = layer_norm, parity
        pairs = [(degree_out, degree_in) for degree_out in fiber_out for degree_in in fiber_in]
        self.trunk_of = _trunks(pairs, share)
        num_trunks = max(self.trunk_of.values(), default=-1) + 1
        self.trunk = nn.ModuleList(
            _TrunkLayer(num_trunks, width, hidden, layer_norm) for width in (num_edge_scalars + 1, hidden)
        )
        self.weight = nn.ParameterDict()
        self.bias = nn.ParameterDict()
        for degree_out, degree_in in pairs:
            self._add_last_layer(degree_out, degree_in, last_bias, gain)
        self._keys = [self.key(*pair) for pair in pairs]
        trunks, factors = list(self.trunk_of.values()), [self.factor_of(*pair) for pair in pairs]
        self.signature = json.dumps([repr(fiber_in), repr(fiber_out), trunks, factors, layer_norm, last_bias])

    @staticmethod
    def key(degree_out: int, degree_in: int) -> str:
        """Name of a pair's last layer in ``weight`` and ``bias``."""
        return f"{degree_out}_{degree_in}"

    def _add_last_layer(self, degree_out: int, degree_in: int, last_bias: bool, gain: float) -> None:
        shape = (self.fiber_out[degree_out], self._num_acting(degree_out, degree_in), self.fiber_in[degree_in])
        fan = sum(self._num_acting(degree_out, k) * channels for k, channels in self.fiber_in.items())
        # Var(W_J f) = 1 / (4π (2l+1)) per component; half of the hidden units are active, E[h²] = 1 after LayerNorm.
        std = gain * math.sqrt(4 * math.pi * (2 * degree_out + 1) / fan / (self.hidden / 2))
        self.weight[self.key(degree_out, degree_in)] = nn.Parameter(torch.randn(self.hidden, *shape) * std)
        if last_bias:
            self.bias[self.key(degree_out, degree_in)] = nn.Parameter(torch.zeros(shape))

    def _num_acting(self, degree_out: int, degree_in: int) -> int:
        return min(degree_out, degree_in) + 1 if self.parity else num_paths(degree_out, degree_in)

    @property
    def weights_per_edge(self) -> int:
        """Numbers that are made for an edge: paths × channels in × channels out, also of paths that do not act."""
        return sum(
            self.fiber_out[l] * num_paths(l, k) * self.fiber_in[k] for l in self.fiber_out for k in self.fiber_in
        )

    def forward(self, geometry: EdgeGeometry) -> tuple[Tensor, ...]:
        """Hidden features of every trunk, each ``[unique, hidden]``: one row for ``geometry.repeat`` consecutive edges.

        Args:
            geometry: lengths and invariant features of the edges.

        Raises:
            ValueError: when the number of edge scalars is not the one the network was built for.
        """
        self.check(geometry)
        with without_autocast(geometry.length.device.type):  # a length needs its digits
            hidden = self.trunk[0](geometry.invariants[None])
        for layer in self.trunk[1:]:
            hidden = layer(hidden)
        return hidden.unbind(0)  # not indexed later: each index would have a backward that fills all trunks with zeros

    def check(self, geometry: EdgeGeometry) -> None:
        """Raise ValueError when the number of edge scalars is not the one the network was built for."""
        received = 0 if geometry.edge_scalars is None else geometry.edge_scalars.shape[-1]
        if received != self.num_edge_scalars:
            raise ValueError(f"edge_scalars: expected {self.num_edge_scalars} per edge, got {received}")

    def last_layer(self, degree_out: int, degree_in: int) -> tuple[Tensor, Tensor]:
        """Weight ``[hidden, C_out, path, C_in]`` and bias ``[C_out, path, C_in]`` (zeros if none) of one pair."""
        weight, *rest = self.own_parameters(degree_out, degree_in)
        bias = rest[0] if rest else weight.new_zeros(weight.shape[1:])
        factor = self.factor_of(degree_out, degree_in)
        return (weight, bias) if factor == 1.0 else (factor * weight, factor * bias)

    def factor_of(self, degree_out: int, degree_in: int) -> float:
        """What weight and bias of a pair are multiplied by: a hook for released codes with other constants."""
        return 1.0

    def own_parameters(self, degree_out: int, degree_in: int) -> Iterator[Tensor]:
        """Weight and, if there is one, bias of a pair, before ``factor_of``; zero for paths that do not act."""
        key = self.key(degree_out, degree_in)
        for parameters in (self.weight, self.bias):
            if key in parameters:
                yield _all_paths(parameters[key]) if self.parity else parameters[key]

    def flat_parameters(self) -> list[Tensor]:
        """All that the compiled kernel takes.

        Weight ``[trunk, in, out]``, bias and, with LayerNorm, gain and shift ``[trunk, 1, out]`` of both hidden layers;
        then those of :meth:`own_parameters` of every pair of degrees.
        """
        flat: list[Tensor] = []
        for layer in self.trunk:
            flat += entries(layer, cast(_TrunkLayer, layer).names)
        if self.parity:
            return [*flat, *[parameter for pair in self.trunk_of for parameter in self.own_parameters(*pair)]]
        weights, biases = entries(self.weight, self._keys), entries(self.bias, self._keys if len(self.bias) else ())
        return flat + ([value for pair in zip(weights, biases, strict=True) for value in pair] if biases else weights)

    def pair_weight(self, hidden: Sequence[Tensor], degree_out: int, degree_in: int) -> Float[Tensor, "unique w p u"]:
        """φ_J^{lk}: ``[unique, C_out, path, C_in]``, one row for every row of ``hidden``."""
        return affine(hidden[self.trunk_of[degree_out, degree_in]], *self.last_layer(degree_out, degree_in))

    def stacked_weight(self, hidden: Sequence[Tensor], degree_out: int) -> Float[Tensor, "unique w column"]:
        """φ of all pairs of one output degree, ``[unique, C_out, Σ_k paths C_in]``, columns over k, then p, then u.

        One product where the pairs share their trunk, one product per pair otherwise.
        """
        pairs = [(degree_out, degree_in) for degree_in in self.fiber_in]
        trunks = {self.trunk_of[pair] for pair in pairs}
        if len(trunks) > 1:
            return torch.cat([self.pair_weight(hidden, *pair).flatten(2) for pair in pairs], dim=2)
        weights, biases = zip(*(self.last_layer(*pair) for pair in pairs), strict=True)
        weight = torch.cat([value.flatten(2) for value in weights], dim=2)
        return affine(hidden[trunks.pop()], weight, torch.cat([value.flatten(1) for value in biases], dim=1))

    def extra_repr(self) -> str:
        """What ``print`` shows in the brackets."""
        return f"{self.fiber_in!r} -> {self.fiber_out!r}, scalars={self.num_edge_scalars}, hidden={self.hidden}"


def require_whole(radial: nn.Module) -> None:
    """Refuse a radial network that FSDP keeps in parts: its parameters are whole only while it runs by itself.

    Raises:
        ValueError: naming what may be wrapped.
    """
    is_alone = not torch.distributed.is_available() or not torch.distributed.is_initialized()
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if is_alone or fsdp is None or torch.compiler.is_compiling():
        return
    kinds = tuple(vars(fsdp)[name] for name in ("FullyShardedDataParallel", "FSDPModule") if name in vars(fsdp))
    if any(isinstance(part, kinds) for part in radial.modules()):
        raise ValueError(
            "FSDP wraps a radial network, or a part of it, of which the layer around it takes the parameters: wrap "
            "layers (EquivariantConv, SE3AttentionBlock) or the model"
        )


def _all_paths(value: Tensor) -> Tensor:
    """``[…, even path, C_in]`` → ``[…, path, C_in]``, with zeros between."""
    if value.shape[-2] == 1:  # l = 0 or k = 0: the only path is even
        return value
    return functional.pad(value.unsqueeze(-2), (0, 0, 0, 1)).flatten(-3, -2)[..., :-1, :]


def affine(hidden: Float[Tensor, "unique r"], weight: Tensor, bias: Tensor) -> Tensor:
    """``[unique, r]`` times ``[r, *shape]`` plus ``[*shape]``: ``[unique, *shape]``, as one product."""
    return torch.addmm(bias.flatten(), hidden, weight.flatten(1)).unflatten(1, weight.shape[1:])


def trunk_layer(
    inputs: Float[Tensor, "some edge inputs"],
    weight: Float[Tensor, "trunk inputs outputs"],
    bias: Float[Tensor, "trunk 1 outputs"],
    gain: Float[Tensor, "trunk 1 outputs"] | None = None,
    shift: Float[Tensor, "trunk 1 outputs"] | None = None,
) -> Float[Tensor, "trunk edge outputs"]:
    """ReLU(LN(inputs · weight + bias)) of all trunks at once, without LN where there is no gain."""
    if gain is not None:  # LN subtracts the mean: subtracted here, where it costs nothing, no digits cancel later
        weight, bias = (value - value.mean(dim=-1, keepdim=True) for value in (weight, bias))
    value = torch.baddbmm(bias, inputs.expand(weight.shape[0], -1, -1), weight)
    if gain is not None and shift is not None:
        value = torch.addcmul(shift, functional.layer_norm(value, value.shape[-1:]), gain)
    return functional.relu(value)


class _TrunkLayer(nn.Module):
    """Linear – LayerNorm – ReLU, for all trunks at once."""

    def __init__(self, num_trunks: int, width_in: int, width_out: int, layer_norm: bool) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width_in)
        self.weight = nn.Parameter(torch.empty(num_trunks, width_in, width_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_trunks, 1, width_out).uniform_(-bound, bound))
        self.layer_norm = layer_norm
        self.names = ["weight", "bias"]
        if layer_norm:
            self.gain = nn.Parameter(torch.ones(num_trunks, 1, width_out))
            self.shift = nn.Parameter(torch.zeros(num_trunks, 1, width_out))
            self.names += ["gain", "shift"]

    def forward(self, inputs: Tensor) -> Tensor:
        return trunk_layer(inputs, *entries(self, self.names))


def _trunks(pairs: list[tuple[int, int]], share: str) -> dict[tuple[int, int], int]:
    labels = {
        "none": lambda l, k: (l, k),
        "full": lambda l, k: 0,
        "degree_out": lambda l, k: l,
        "degree_in": lambda l, k: k,
    }
    index: dict[object, int] = {}
    return {pair: index.setdefault(labels[share](*pair), len(index)) for pair in pairs}
