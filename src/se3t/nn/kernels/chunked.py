"""The kernel in the frame of the edge, a few edges at a time: their radial weights are made, used and forgotten.

A convolution has 2 min(l, k) + 1 radial weights for every edge, pair of degrees and pair of channels, 180 kB an edge at
32 channels and types 0 to 3: the memory wall of this model. Here they exist for as many edges as fit into the cache,
and are made again for the gradients. What is kept between forward and backward are inputs and last radial layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from se3t.compiling import without_autocast
from se3t.fiber import Features
from se3t.nn.kernels.orders import (
    Layout,
    Pair,
    assemble,
    components,
    disassemble,
    rotate,
    rotate_back,
    rows,
    stack,
    unstack,
)
from se3t.nn.kernels.second_order import gradients_of, must_be_composed
from se3t.so3.wrapped import is_transforming

CHUNK_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}
"""Radial weights at a time, by device; on a CPU so many that they stay in the cache, on a GPU enough to fill it (not
measured)."""


def fused_messages(
    composed: Callable[..., Features],
    layout: Layout,
    features: Features,
    frames: Mapping[int, Tensor],
    hidden: Sequence[Tensor],
    layers: Mapping[Pair, tuple[Tensor, Tensor]],
    engine: MakeEngine | None = None,
) -> Features:
    """Messages of all edges with gradients of their own, whatever the autocast state.

    Args:
        composed: the same function of the last four arguments in terms of torch's operations, for second derivatives.
        layout: degrees, channels and trunks.
        features: ``[edge, C_in, 2k+1]`` by degree.
        frames: ``[edge, 2l+1, 2l+1]`` by degree above zero.
        hidden: ``[unique, r]`` of each trunk.
        layers: weight ``[r, C_out, path, C_in]`` and bias ``[C_out, path, C_in]`` of each pair.
        engine: makes what multiplies with the radial weights, from the layout and all inputs; :class:`Chunks` unless
            given.
    """
    if is_transforming():
        return composed(features, frames, hidden, layers)
    inputs = Inputs.of(layout, features, frames, hidden, layers)
    with without_autocast(hidden[0].device.type):
        outputs = _FusedMessages.apply(composed, layout, tuple(frames), engine or Chunks, *inputs.flat())
    return dict(zip(layout.fiber_out, outputs, strict=True))


@dataclass(frozen=True)
class Inputs:
    """Everything that has a gradient, by name."""

    features: Features
    frames: dict[int, Tensor]
    hidden: tuple[Tensor, ...]
    layers: dict[Pair, tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, layout: Layout, features: Any, frames: Any, hidden: Any, layers: Any) -> Inputs:
        """In the order of the layout."""
        ordered = {degree: features[degree] for degree in layout.fiber_in}
        return cls(ordered, dict(frames), tuple(hidden), {pair: layers[pair] for pair in layout.pairs})

    @classmethod
    def unflat(cls, layout: Layout, frame_degrees: Sequence[int], tensors: Sequence[Any]) -> Inputs:
        """The inverse of :meth:`flat`."""
        rest = iter(tensors)
        return cls(
            {degree: next(rest) for degree in layout.fiber_in},
            {degree: next(rest) for degree in frame_degrees},
            tuple(next(rest) for _ in range(layout.num_trunks)),
            {pair: (next(rest), next(rest)) for pair in layout.pairs},
        )

    def flat(self) -> list[Tensor]:
        """One after the other."""
        layers = [tensor for layer in self.layers.values() for tensor in layer]
        return [*self.features.values(), *self.frames.values(), *self.hidden, *layers]


class _FusedMessages(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        composed: Any,
        layout: Layout,
        frame_degrees: tuple[int, ...],
        engine: MakeEngine,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        inputs = Inputs.unflat(layout, frame_degrees, tensors)
        rotated = rotate(inputs.features, inputs.frames)
        lefts = [layout.shared(stack(rotated, order)) for order in layout.orders]
        products = [layout.single(value) for value in engine(layout, inputs).products(lefts)]
        out = rotate_back(components(products, layout.fiber_out), inputs.frames)
        ctx.composed, ctx.layout, ctx.frame_degrees, ctx.engine = composed, layout, frame_degrees, engine
        results = tuple(value.contiguous() for value in out.values())
        first = 4 + len(inputs.features)  # gradients of the frames need the results
        wants_frames = any(ctx.needs_input_grad[first : first + len(frame_degrees)])
        ctx.save_for_backward(*tensors, *(results if wants_frames else ()))
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        count, saved = len(ctx.needs_input_grad) - 4, ctx.saved_tensors  # under activation checkpointing read once
        tensors, results = saved[:count], saved[count:]
        if must_be_composed(grads):
            function = partial(_composed, ctx.composed, ctx.layout, ctx.frame_degrees)
            return (None, None, None, None, *gradients_of(function, tensors, grads))
        inputs = Inputs.unflat(ctx.layout, ctx.frame_degrees, tensors)
        out_grads = dict(zip(ctx.layout.fiber_out, grads, strict=True))
        out = dict(zip(ctx.layout.fiber_out, results, strict=True)) if results else None
        with torch.autocast(grads[0].device.type, enabled=False):
            input_grads = _gradients(ctx.engine(ctx.layout, inputs), inputs, out, out_grads)
        return (None, None, None, None, *input_grads)


def _composed(
    composed: Callable[..., Features], layout: Layout, frame_degrees: Sequence[int], tensors: Sequence[Tensor]
) -> list[Tensor]:
    inputs = Inputs.unflat(layout, frame_degrees, tensors)
    out = composed(inputs.features, inputs.frames, inputs.hidden, inputs.layers)
    return [out[degree] for degree in layout.fiber_out]


def _gradients(engine: Engine, inputs: Inputs, out: Features | None, grads: Features) -> list[Tensor | None]:
    """Gradients of all inputs; of the frames only where the results ``out`` are given."""
    layout = engine.layout
    rotated, turned = rotate(inputs.features, inputs.frames), rotate(grads, inputs.frames)
    lefts = [layout.shared(stack(rotated, order)) for order in layout.orders]
    rights = [layout.shared(rows(turned, order)) for order in layout.orders]
    left_grads = [layout.single(value) for value in engine.gradients(lefts, rights)]
    rotated_grads = unstack(left_grads, layout.fiber_in)
    frame_grads: Features = {}
    for degree, frame in inputs.frames.items() if out is not None else ():
        frame_grad = torch.zeros_like(frame)
        if degree in rotated_grads:
            frame_grad += rotated_grads[degree] @ inputs.features[degree]
        if out is not None and degree in grads:
            frame_grad += (frame @ out[degree].mT) @ grads[degree]
        frame_grads[degree] = frame_grad
    feature_grads = rotate_back(rotated_grads, inputs.frames)
    return [
        *feature_grads.values(),
        *(frame_grads.get(degree) for degree in inputs.frames),
        *engine.hidden_gradients(),
        *engine.layer_gradients(),
    ]


class Engine(Protocol):
    """What multiplies with radial weights; made anew for the forward and for the backward pass, without autograd."""

    layout: Layout

    def products(self, lefts: Sequence[Tensor]) -> list[Tensor]:
        """For every order the rows ``[unique, row, (a|b k u)]`` times the weights: ``[unique, row, (l w)]``."""

    def gradients(self, lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of ``lefts``, from those of the products; those of the weights are kept for the methods below."""

    def hidden_gradients(self) -> Iterator[Tensor]:
        """Gradient of the hidden features of every trunk."""

    def layer_gradients(self) -> Iterator[Tensor]:
        """Gradients of weight and bias of every pair."""


class Chunks:
    """Products with radial weights of a chunk of edges at a time, and the gradients of what makes them; no autograd.

    Biases are one more row of the weights, for a hidden unit that is always one.
    """

    def __init__(self, layout: Layout, inputs: Inputs) -> None:
        self.layout, self.inputs = layout, inputs
        self.hidden = [torch.cat([trunk, trunk.new_ones(len(trunk), 1)], dim=1) for trunk in inputs.hidden]
        folded = {pair: fold(layout, inputs, pair) for pair in layout.pairs}
        self.is_joined = layout.num_trunks == 1
        # One trunk: join the small last layers, not their large results.
        self.layers = assemble(folded, layout) if self.is_joined else list(folded.values())
        self.heights = [sum(layout.fiber_out[l] for l in layout.fiber_out if l >= m) for m in layout.orders]
        sizes = [layer[0].numel() for layer in self.layers]
        self.room = max(sizes) if self.is_joined else sum(sizes)  # numbers for one edge
        bytes_at_a_time = CHUNK_BYTES.get(self.hidden[0].device.type, CHUNK_BYTES["cpu"])
        self.count = max(1, bytes_at_a_time // (self.room * self.hidden[0].element_size()))

    def products(self, lefts: Sequence[Tensor]) -> list[Tensor]:
        """See :meth:`Engine.products`."""
        out = [left.new_empty(*left.shape[:2], height) for left, height in zip(lefts, self.heights, strict=True)]
        for order, part, weight in self._chunks():
            torch.bmm(lefts[order][part], weight.mT, out=out[order][part])
        return out

    def gradients(self, lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> list[Tensor]:
        """See :meth:`Engine.gradients`."""
        out = [torch.empty_like(left) for left in lefts]
        self.grads = [torch.zeros_like(layer) for layer in self.layers]
        self.hidden_grads = [torch.zeros_like(trunk) for trunk in self.hidden]
        self.waiting: list[Tensor] = []
        for order, part, weight in self._chunks():
            left, right = lefts[order][part], rights[order][part]
            torch.bmm(right, weight, out=out[order][part])
            self._accumulate(order, part, right.mT @ left)
        return out

    def _chunks(self) -> Iterator[tuple[int, slice, Tensor]]:
        """Order, edges, and their weights ``[edge, (l w), (a|b k u)]``, valid until the next ones are asked for."""
        total = len(self.hidden[0])
        parts = [slice(start, min(start + self.count, total)) for start in range(0, total, self.count)]
        if self.is_joined:
            room = self.hidden[0].new_empty(min(self.count, total) * self.room)
            for order, layer in enumerate(self.layers):
                for part in parts:
                    yield order, part, _product(self.hidden[0][part], layer, room)
            return
        for part in parts:
            values = {
                pair: _product(self.hidden[self.layout.trunk_of[pair]][part], layer)
                for pair, layer in zip(self.layout.pairs, self.layers, strict=True)
            }
            for order, weight in enumerate(assemble(values, self.layout)):
                yield order, part, weight

    def _accumulate(self, order: int, part: slice, grad: Tensor) -> None:
        """Add what the gradient of a chunk's weights gives to those of the last layers and hidden features."""
        if self.is_joined:
            self._add(order, 0, part, grad)
            return
        self.waiting.append(grad)
        if order + 1 < len(self.layout.orders):
            return
        values = disassemble(self.waiting, self.layout)
        self.waiting = []
        for number, pair in enumerate(self.layout.pairs):
            self._add(number, self.layout.trunk_of[pair], part, values[pair])

    def _add(self, number: int, trunk: int, part: slice, grad: Tensor) -> None:
        flat = grad.flatten(1)
        self.grads[number].flatten(1).addmm_(self.hidden[trunk][part].mT, flat)
        self.hidden_grads[trunk][part].addmm_(flat, self.layers[number].flatten(1).mT)

    def hidden_gradients(self) -> Iterator[Tensor]:
        """Of every trunk."""
        yield from (grad[:, :-1].contiguous() for grad in self.hidden_grads)

    def layer_gradients(self) -> Iterator[Tensor]:
        """Weight and bias of every pair."""
        pairs = self.layout.pairs
        by_pair = disassemble(self.grads, self.layout) if self.is_joined else dict(zip(pairs, self.grads, strict=True))
        yield from unfold(self.layout, by_pair)


MakeEngine: TypeAlias = Callable[[Layout, Inputs], Engine]


def fold(layout: Layout, inputs: Inputs, pair: Pair) -> Tensor:
    """Last layer of a pair in terms of its orders, the bias as one more row: ``[r + 1, w, q, u]``."""
    mixing, (weight, bias) = layout.mixing[pair], inputs.layers[pair]
    rows = torch.cat([weight, bias[None]])  # [r + 1, w, p, u]
    return mixing @ rows if len(mixing) > 1 else mixing * rows


def unfold(layout: Layout, grads: Mapping[Pair, Tensor]) -> Iterator[Tensor]:
    """Gradients of weight and bias of every pair, from those of :func:`fold`."""
    for pair in layout.pairs:
        mixing = layout.mixing[pair]
        rows = mixing.mT @ grads[pair] if len(mixing) > 1 else mixing * grads[pair]
        yield from (rows[:-1], rows[-1])


def _product(hidden: Tensor, layer: Tensor, room: Tensor | None = None) -> Tensor:
    """``[edge, r]`` times ``[r, …]``, in ``room`` where that is given."""
    flat = layer.flatten(1)
    out = None if room is None else room[: len(hidden) * flat.shape[1]].view(len(hidden), -1)
    return torch.mm(hidden, flat, out=out).unflatten(1, layer.shape[1:])
