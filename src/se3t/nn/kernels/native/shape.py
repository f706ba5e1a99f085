"""Which tensors the compiled convolution takes, and in which order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from torch import Tensor

from se3t.compiling import lazy
from se3t.fiber import Fiber
from se3t.nn.radial import trunk_layer

Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Shape:
    """What a radial network fixes: degrees, channels, sharing."""

    fiber_in: Fiber
    fiber_edge: Fiber  # the part of fiber_in that comes with the edges, its last channels
    fiber_out: Fiber
    trunks: tuple[int, ...]  # of each pair
    factors: tuple[float, ...]
    layer_norm: bool
    has_bias: bool

    def __hash__(self) -> int:
        return self._hash

    @lazy
    def _hash(self) -> int:
        return hash((self.fiber_in, self.fiber_edge, self.fiber_out, self.trunks, self.factors))

    @classmethod
    @cache
    def parse(cls, signature: str) -> Shape:
        """From the text that the operators take: of :attr:`RadialNetwork.signature`, and the channels of the edges."""
        radial, edge_channels = signature.split("; ")
        fiber_in, fiber_out, trunks, factors, layer_norm, has_bias = json.loads(radial)
        return cls(
            Fiber(fiber_in),
            Fiber(edge_channels),
            Fiber(fiber_out),
            tuple(trunks),
            tuple(factors),
            layer_norm,
            has_bias,
        )

    @lazy
    def pairs(self) -> list[Pair]:
        """Degrees (l, k) in the order of the layers."""
        return [(l, k) for l in self.fiber_out for k in self.fiber_in]

    @lazy
    def fiber_point(self) -> Fiber:
        """The part of fiber_in that comes with the points."""
        return Fiber({degree: channels - self.fiber_edge.get(degree, 0) for degree, channels in self.fiber_in.items()})

    @lazy
    def frame_degrees(self) -> list[int]:
        """Degrees that have frames."""
        return sorted({*self.fiber_in, *self.fiber_out} - {0})

    def hidden(self, inputs: Inputs, invariants: Tensor) -> Tensor:
        """Hidden features of the radial network, ``[trunk, row, unit]``."""
        hidden, step = invariants[None], len(inputs.hidden) // 2
        for layer in (inputs.hidden[:step], inputs.hidden[step:]):
            hidden = trunk_layer(hidden, *layer)
        return hidden

    def unflat(self, tensors: Sequence[Any]) -> Inputs:
        """Undo :meth:`Inputs.flat`."""
        points, edges, frames, hidden, step = self._counts
        layers = range(hidden, len(tensors), step)
        return Inputs(
            tuple(tensors[:points]),
            tuple(tensors[points:edges]),
            tuple(tensors[edges:frames]),
            tensors[frames],
            tuple(tensors[frames + 1 : hidden]),
            tuple([tuple(tensors[place : place + step]) for place in layers]),
        )

    @lazy
    def _counts(self) -> tuple[int, int, int, int, int]:
        """Where features, edge features, frames and hidden layers end; parameters of a last layer."""
        points = len(self.fiber_point)
        edges = points + len(self.fiber_edge)
        frames = edges + len(self.frame_degrees)
        return points, edges, frames, frames + 1 + (8 if self.layer_norm else 4), 2 if self.has_bias else 1


@dataclass(frozen=True)
class Inputs:
    """Everything that has a gradient."""

    features: tuple[Tensor, ...]
    edge_features: tuple[Tensor, ...]
    frames: tuple[Tensor, ...]
    invariants: Tensor
    hidden: tuple[Tensor, ...]  # of both hidden layers: weight, bias, and with LayerNorm gain, shift
    layers: tuple[tuple[Tensor, ...], ...]  # of each pair: weight, and bias if there is one

    def flat(self) -> list[Tensor]:
        """As the operators take them."""
        layers = [parameter for layer in self.layers for parameter in layer]
        return [*self.features, *self.edge_features, *self.frames, self.invariants, *self.hidden, *layers]

    def contiguous(self) -> Inputs:
        """As the compiled code takes them: features may have any strides."""
        return Inputs(
            self.features,
            self.edge_features,
            tuple(frame.contiguous() for frame in self.frames),
            self.invariants.contiguous(),
            tuple(parameter.contiguous() for parameter in self.hidden),
            tuple(tuple(parameter.contiguous() for parameter in layer) for layer in self.layers),
        )
