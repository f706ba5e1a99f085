"""The kernel in the frame of the edge, a few edges at a time: their radial weights are made, used and forgotten.

A convolution has 2 min(l, k) + 1 radial weights for every edge, pair of degrees and pair of channels, 180 kB an edge at
32 channels and types 0 to 3: the memory wall of this model. Here they exist for as many edges as fit into the cache,
and are made again for the gradients. What is kept between forward and backward are inputs and last radial layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from se3t.fiber import Features, Fiber

CHUNK_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}
"""Radial weights at a time, by device; on a CPU so many that they stay in the cache, on a GPU enough to fill it (not
measured)."""

Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Which degrees and channels a product has, and where its radial weights come from.

    Attributes:
        fiber_in: source features. fiber_out: messages.
        trunk_of: number of the trunk of each pair (degree_out, degree_in).
        mixing: for each pair the map from its J-paths to its orders, ``[order, path]``.
        repeat: consecutive edges that share their radial weights.
    """

    fiber_in: Fiber
    fiber_out: Fiber
    trunk_of: Mapping[Pair, int]
    mixing: Mapping[Pair, Tensor]
    repeat: int

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All (degree_out, degree_in), in the order of the parameters."""
        return tuple((l, k) for l in self.fiber_out for k in self.fiber_in)

    @property
    def orders(self) -> range:
        """The orders m that couple."""
        return range(min(self.fiber_in.max_degree, self.fiber_out.max_degree) + 1)

    @property
    def num_trunks(self) -> int:
        """Number of trunks."""
        return max(self.trunk_of.values()) + 1


def stack(rotated: Features, order: int) -> Tensor:
    """Components ±order of all degrees: ``[edge, 1, (k u)]``, or rows (+order, -order) ``[edge, 2, (a|b k u)]``."""
    parts = [(value, degree) for degree, value in rotated.items() if degree >= order]
    plus = [value[:, degree + order] for value, degree in parts]
    if order == 0:
        return torch.cat(plus, dim=1)[:, None]
    minus = [value[:, degree - order] for value, degree in parts]
    return torch.cat([*plus, *minus, *minus, *(-value for value in plus)], dim=1).unflatten(1, (2, -1))


def components(products: Sequence[Tensor], fiber: Fiber) -> Features:
    """Rows (+m, -m) of each order ``[edge, 1 or 2, (l w)]`` back to components ``[edge, 2l+1, w]`` by degree.

    Orders that the input cannot reach are zero.
    """
    columns: dict[int, list[Tensor]] = {degree: [] for degree in fiber}
    for order, product in enumerate(products):
        degrees = [degree for degree in fiber if degree >= order]
        for degree, part in zip(degrees, product.split([fiber[degree] for degree in degrees], dim=2), strict=True):
            columns[degree].append(part)
    out: Features = {}
    for degree, parts in columns.items():
        missing = [torch.zeros_like(parts[0])] * (degree + 1 - len(parts))
        minus = [*missing, *(part[:, 1:] for part in reversed(parts[1:]))]
        out[degree] = torch.cat([*minus, parts[0], *(part[:, :1] for part in parts[1:]), *missing], dim=1)
    return out


def assemble(values: Mapping[Pair, Tensor], layout: Layout) -> list[Tensor]:
    """``[…, w, q, u]`` per pair → per order m one matrix ``[…, (l w), (a|b k u)]``; q runs over a_0, a_1 …, b_1 …"""
    matrices = []
    for order in layout.orders:
        degrees_in = [k for k in layout.fiber_in if k >= order]
        rows = []
        for l in (degree for degree in layout.fiber_out if degree >= order):
            symmetric = [values[l, k][..., order, :] for k in degrees_in]
            skew = [values[l, k][..., min(l, k) + order, :] for k in degrees_in if order > 0]
            rows.append(torch.cat([*symmetric, *skew], dim=-1))
        matrices.append(torch.cat(rows, dim=-2))
    return matrices


def rotate(features: Features, frames: Mapping[int, Tensor]) -> Features:
    """Into the frame of the edge, components first: ``[edge, u, 2k+1]`` → ``[edge, 2k+1, u]``."""
    return {degree: frames[degree] @ value.mT if degree else value.mT for degree, value in features.items()}


def rotate_back(features: Features, frames: Mapping[int, Tensor]) -> Features:
    """Out of the frame of the edge: ``[edge, 2l+1, w]`` → ``[edge, w, 2l+1]``."""
    return {degree: (frames[degree].mT @ value if degree else value).mT for degree, value in features.items()}


def fused_messages(
    composed: Callable[..., Features],
    layout: Layout,
    features: Features,
    frames: Mapping[int, Tensor],
    hidden: Sequence[Tensor],
    layers: Mapping[Pair, tuple[Tensor, Tensor]],
) -> Features:
    """Messages of all edges with gradients of their own.

    Args:
        composed: the same function of the last four arguments in terms of torch's operations, for second derivatives.
        layout: degrees, channels and trunks.
        features: ``[edge, C_in, 2k+1]`` by degree.
        frames: ``[edge, 2l+1, 2l+1]`` by degree above zero.
        hidden: ``[unique, r]`` of each trunk.
        layers: weight ``[r, C_out, path, C_in]`` and bias ``[C_out, path, C_in]`` of each pair.
    """
    inputs = _Inputs.of(layout, features, frames, hidden, layers)
    outputs = _FusedMessages.apply(composed, layout, tuple(frames), *inputs.flat())
    return dict(zip(layout.fiber_out, outputs, strict=True))


@dataclass(frozen=True)
class _Inputs:
    """Everything that has a gradient, by name."""

    features: Features
    frames: dict[int, Tensor]
    hidden: tuple[Tensor, ...]
    layers: dict[Pair, tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, layout: Layout, features: Any, frames: Any, hidden: Any, layers: Any) -> _Inputs:
        ordered = {degree: features[degree] for degree in layout.fiber_in}
        return cls(ordered, dict(frames), tuple(hidden), {pair: layers[pair] for pair in layout.pairs})

    @classmethod
    def unflat(cls, layout: Layout, frame_degrees: Sequence[int], tensors: Sequence[Any]) -> _Inputs:
        rest = iter(tensors)
        return cls(
            {degree: next(rest) for degree in layout.fiber_in},
            {degree: next(rest) for degree in frame_degrees},
            tuple(next(rest) for _ in range(layout.num_trunks)),
            {pair: (next(rest), next(rest)) for pair in layout.pairs},
        )

    def flat(self) -> list[Tensor]:
        layers = [tensor for layer in self.layers.values() for tensor in layer]
        return [*self.features.values(), *self.frames.values(), *self.hidden, *layers]


class _FusedMessages(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, composed: Any, layout: Layout, frame_degrees: tuple[int, ...], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        inputs = _Inputs.unflat(layout, frame_degrees, tensors)
        radial = _Radial(layout, inputs)
        rotated = rotate(inputs.features, inputs.frames)
        lefts = [radial.shared(stack(rotated, order)) for order in layout.orders]
        products = [left.new_empty(*left.shape[:2], height) for left, height in zip(lefts, radial.heights, strict=True)]
        for order, part, weight in radial.chunks():
            torch.bmm(lefts[order][part], weight.mT, out=products[order][part])
        out = rotate_back(components([radial.single(value) for value in products], layout.fiber_out), inputs.frames)
        ctx.composed, ctx.layout, ctx.frame_degrees = composed, layout, frame_degrees
        results = tuple(value.contiguous() for value in out.values())
        first = 3 + len(inputs.features)  # gradients of the frames need the results
        wants_frames = any(ctx.needs_input_grad[first : first + len(frame_degrees)])
        ctx.save_for_backward(*tensors, *(results if wants_frames else ()))
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.needs_input_grad) - 3
        tensors, results = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        inputs = _Inputs.unflat(ctx.layout, ctx.frame_degrees, tensors)
        out_grads = dict(zip(ctx.layout.fiber_out, grads, strict=True))
        if torch.is_grad_enabled():  # a second derivative may be asked for
            found = _composed_gradients(ctx.composed, ctx.layout, ctx.frame_degrees, tensors, out_grads)
        else:
            out = dict(zip(ctx.layout.fiber_out, results, strict=True)) if results else None
            found = _gradients(ctx.layout, inputs, out, out_grads)
        return (None, None, None, *found)


def _composed_gradients(
    composed: Callable[..., Features],
    layout: Layout,
    frame_degrees: Sequence[int],
    tensors: Sequence[Tensor],
    grads: Features,
) -> list[Tensor | None]:
    # One input may depend on another, as frames of degree 2 on those of degree 1: views are apart from each other.
    views = [tensor.view_as(tensor) for tensor in tensors]
    inputs = _Inputs.unflat(layout, frame_degrees, views)
    out = composed(inputs.features, inputs.frames, inputs.hidden, inputs.layers)
    wanted = [view for view in views if view.requires_grad]
    values = [out[degree] for degree in grads]
    found = iter(torch.autograd.grad(values, wanted, list(grads.values()), create_graph=True, allow_unused=True))
    return [next(found) if view.requires_grad else None for view in views]


def _gradients(layout: Layout, inputs: _Inputs, out: Features | None, grads: Features) -> list[Tensor | None]:
    """Gradients of all inputs; of the frames only where the results ``out`` are given."""
    radial = _Radial(layout, inputs)
    rotated, turned = rotate(inputs.features, inputs.frames), rotate(grads, inputs.frames)
    lefts = [radial.shared(stack(rotated, order)) for order in layout.orders]
    rights = [radial.shared(_rows(turned, order)) for order in layout.orders]
    left_grads = [torch.empty_like(left) for left in lefts]
    radial.start_gradients()
    for order, part, weight in radial.chunks():
        left, right = lefts[order][part], rights[order][part]
        torch.bmm(right, weight, out=left_grads[order][part])
        radial.accumulate(order, part, right.mT @ left)
    rotated_grads = _unstack([radial.single(value) for value in left_grads], layout.fiber_in)
    frame_grads: Features = {}
    for degree, frame in inputs.frames.items() if out is not None else ():
        own = torch.zeros_like(frame)
        if degree in rotated_grads:
            own += rotated_grads[degree] @ inputs.features[degree]
        if out is not None and degree in grads:
            own += (frame @ out[degree].mT) @ grads[degree]
        frame_grads[degree] = own
    feature_grads = rotate_back(rotated_grads, inputs.frames)
    return [
        *feature_grads.values(),
        *(frame_grads.get(degree) for degree in inputs.frames),
        *radial.hidden_gradients(),
        *radial.layer_gradients(),
    ]


def _rows(turned: Features, order: int) -> Tensor:
    """Components (+order, -order) of all degrees, ``[edge, 1 or 2, (l w)]``: the transpose of :func:`components`."""
    parts = [(value, degree) for degree, value in turned.items() if degree >= order]
    plus = [value[:, degree + order] for value, degree in parts]
    if order == 0:
        return torch.cat(plus, dim=1)[:, None]
    minus = [value[:, degree - order] for value, degree in parts]
    return torch.cat([*plus, *minus], dim=1).unflatten(1, (2, -1))


def _unstack(stacks: Sequence[Tensor], fiber: Fiber) -> Features:
    """The transpose of :func:`stack`, for all orders at once: ``[edge, 2k+1, u]`` by degree."""
    some = stacks[0]
    out = {degree: some.new_zeros(len(some), 2 * degree + 1, channels) for degree, channels in fiber.items()}
    for order, value in enumerate(stacks):
        degrees = [degree for degree in fiber if degree >= order]
        sizes = [fiber[degree] for degree in degrees]
        if order == 0:
            for degree, part in zip(degrees, value[:, 0].split(sizes, dim=1), strict=True):
                out[degree][:, degree] = part
            continue
        symmetric, skew = value.unflatten(2, (2, -1)).unbind(2)  # [edge, 2, (k u)]
        plus, minus = symmetric[:, 0] - skew[:, 1], symmetric[:, 1] + skew[:, 0]
        for degree, up, down in zip(degrees, plus.split(sizes, dim=1), minus.split(sizes, dim=1), strict=True):
            out[degree][:, degree + order], out[degree][:, degree - order] = up, down
    return out


class _Radial:
    """Radial weights of a chunk of edges, and the gradients of what makes them; without autograd.

    Biases are one more row of the weights, for a hidden unit that is always one.
    """

    def __init__(self, layout: Layout, inputs: _Inputs) -> None:
        self.layout, self.inputs = layout, inputs
        self.hidden = [torch.cat([trunk, trunk.new_ones(len(trunk), 1)], dim=1) for trunk in inputs.hidden]
        folded = {pair: self._fold(pair) for pair in layout.pairs}
        self.is_joined = layout.num_trunks == 1
        # One trunk: join the small last layers, not their large results.
        self.layers = assemble(folded, layout) if self.is_joined else list(folded.values())
        self.heights = [sum(layout.fiber_out[l] for l in layout.fiber_out if l >= m) for m in layout.orders]
        sizes = [layer[0].numel() for layer in self.layers]
        self.room = max(sizes) if self.is_joined else sum(sizes)  # numbers for one edge
        bytes_at_a_time = CHUNK_BYTES.get(self.hidden[0].device.type, CHUNK_BYTES["cpu"])
        self.count = max(1, bytes_at_a_time // (self.room * self.hidden[0].element_size()))

    def _fold(self, pair: Pair) -> Tensor:
        mixing, (weight, bias) = self.layout.mixing[pair], self.inputs.layers[pair]
        rows = torch.cat([weight, bias[None]])  # [r + 1, w, p, u]
        return mixing @ rows if len(mixing) > 1 else mixing * rows

    def shared(self, value: Tensor) -> Tensor:
        """``[edge, a, c]`` → ``[unique, (edge a), c]``."""
        return value.unflatten(0, (-1, self.layout.repeat)).flatten(1, 2) if self.layout.repeat > 1 else value

    def single(self, value: Tensor) -> Tensor:
        """The inverse of :meth:`shared`."""
        return value.unflatten(1, (self.layout.repeat, -1)).flatten(0, 1) if self.layout.repeat > 1 else value

    def chunks(self) -> Iterator[tuple[int, slice, Tensor]]:
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

    def start_gradients(self) -> None:
        """Make room for gradients."""
        self.grads = [torch.zeros_like(layer) for layer in self.layers]
        self.hidden_grads = [torch.zeros_like(trunk) for trunk in self.hidden]
        self.waiting: list[Tensor] = []

    def accumulate(self, order: int, part: slice, grad: Tensor) -> None:
        """Add what the gradient of a chunk's weights gives to those of the last layers and hidden features."""
        if self.is_joined:
            self._add(order, 0, part, grad)
            return
        self.waiting.append(grad)
        if order + 1 < len(self.layout.orders):
            return
        values = _disassemble(self.waiting, self.layout)
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
        by_pair = _disassemble(self.grads, self.layout) if self.is_joined else dict(zip(pairs, self.grads, strict=True))
        for pair in pairs:
            mixing = self.layout.mixing[pair]
            rows = mixing.mT @ by_pair[pair] if len(mixing) > 1 else mixing * by_pair[pair]
            yield from (rows[:-1], rows[-1])


def _disassemble(matrices: Sequence[Tensor], layout: Layout) -> dict[Pair, Tensor]:
    """The transpose of :func:`assemble`: per order ``[…, (l w), (a|b k u)]`` → ``[…, w, q, u]`` per pair."""
    lead = matrices[0].shape[:-2]
    out = {
        (l, k): matrices[0].new_empty(*lead, layout.fiber_out[l], 2 * min(l, k) + 1, layout.fiber_in[k])
        for l, k in layout.pairs
    }
    for order, matrix in zip(layout.orders, matrices, strict=True):
        degrees_in = [k for k in layout.fiber_in if k >= order]
        degrees_out = [l for l in layout.fiber_out if l >= order]
        widths = [layout.fiber_in[k] for k in degrees_in] * (1 if order == 0 else 2)
        for l, row in zip(degrees_out, matrix.split([layout.fiber_out[l] for l in degrees_out], dim=-2), strict=True):
            for number, part in enumerate(row.split(widths, dim=-1)):
                k = degrees_in[number % len(degrees_in)]
                out[l, k][..., order if number < len(degrees_in) else min(l, k) + order, :] = part
    return out


def _product(hidden: Tensor, layer: Tensor, room: Tensor | None = None) -> Tensor:
    """``[edge, r]`` times ``[r, …]``, in ``room`` where that is given."""
    flat = layer.flatten(1)
    out = None if room is None else room[: len(hidden) * flat.shape[1]].view(len(hidden), -1)
    return torch.mm(hidden, flat, out=out).unflatten(1, layer.shape[1:])
