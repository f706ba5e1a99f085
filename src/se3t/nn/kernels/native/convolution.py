"""The operators ``torch.ops.se3t.convolve`` and ``convolve_backward``: the compiled convolution and its gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from se3t.compiling import computed, copied, register, without_none
from se3t.fiber import Fiber, cat_features
from se3t.geometry import RadialRows
from se3t.nn.kernels import Sources
from se3t.nn.kernels.edge_frame import composed_messages, path_to_order
from se3t.nn.kernels.native.call import Call, check, has_coincident
from se3t.nn.kernels.native.compiler import unavailable
from se3t.nn.kernels.native.shape import Inputs, Shape
from se3t.nn.kernels.native.structures import component_major
from se3t.nn.kernels.orders import Layout
from se3t.nn.kernels.second_order import gradients_of, is_asked_for, must_be_composed, second_gradients_of
from se3t.nn.radial import affine
from se3t.so3.wrapped import has_memory


def _convolve(
    tensors: Sequence[Tensor], first: Tensor, second: Tensor, index: Tensor | None, signature: str
) -> list[Tensor]:
    """``torch.ops.se3t.convolve``: messages of every output degree."""
    shape, rows = Shape.parse(signature), RadialRows.of(first, second)
    if unavailable(first.device, tensors[-1].dtype):  # a traced program that runs where nothing can be compiled
        out = _convolve_shapes(tensors, first, second, index, signature)
        return copied(_composed(shape, rows, index, tensors), out)
    inputs = shape.unflat(tensors).contiguous()
    check(shape, rows, index, inputs)
    out = Call(shape, rows, index, inputs).forward()
    coincident = _Coincident.of(rows, inputs.invariants) if has_coincident(inputs) else None
    if coincident:
        coincident.mend(out, shape, index, inputs)
    return out


def _convolve_shapes(
    tensors: Sequence[Tensor], first: Tensor, second: Tensor, index: Tensor | None, signature: str
) -> list[Tensor]:
    num_edges = first.shape[0] + second.shape[0]
    fiber_out = Shape.parse(signature).fiber_out
    return [component_major(num_edges, channels, 2 * degree + 1, tensors[-1]) for degree, channels in fiber_out.items()]


def _convolve_backward(
    grads: Sequence[Tensor],
    tensors: Sequence[Tensor],
    out: Sequence[Tensor],
    first: Tensor,
    second: Tensor,
    index: Tensor | None,
    wanted: Sequence[bool],
    signature: str,
) -> list[Tensor]:
    """``torch.ops.se3t.convolve_backward``: a gradient of every tensor, without numbers where none is wanted.

    ``out`` are the messages where gradients of the frames are wanted, else none; ``wanted`` says whether edge features,
    invariants, and last radial layers have a gradient. All else is that of ``convolve``.
    """
    shape, rows = Shape.parse(signature), RadialRows.of(first, second)
    inputs = shape.unflat(tensors).contiguous()
    coincident = _Coincident.of(rows, inputs.invariants) if has_coincident(inputs) else None
    apart = coincident.without(grads) if coincident else grads
    call = Call(shape, rows, index, inputs)
    edge_features, invariants, layers = wanted
    result = without_none(call.backward(apart, out, edge_features=edge_features, invariants=invariants, layers=layers))
    if coincident:
        coincident.add_gradients(result, grads, shape, index, inputs)
    return result


def _convolve_backward_shapes(
    grads: Sequence[Tensor], tensors: Sequence[Tensor], out: Sequence[Tensor], *others: Any
) -> list[Tensor]:
    *_, (wants_edges, wants_invariants, wants_layers), signature = others
    shape = Shape.parse(signature)
    is_made = [True] * len(shape.fiber_point) + [wants_edges] * len(shape.fiber_edge)
    is_made += [len(out) > 0] * len(shape.frame_degrees) + [wants_invariants]
    num_layers = len(shape.pairs) * (2 if shape.has_bias else 1)
    is_made += [True] * (len(tensors) - len(is_made) - num_layers) + [wants_layers] * num_layers
    count = len(shape.fiber_point)
    features = [component_major(t.shape[0], t.shape[1], t.shape[2], t) for t in tensors[:count]]
    others_made = zip(tensors[count:], is_made[count:], strict=True)
    return without_none([*features, *(t.new_empty(t.shape) if made else None for t, made in others_made)])


class _Messages(torch.autograd.Function):
    """``convolve`` with its gradient, which is an operator again."""

    @staticmethod
    def forward(ctx: Any, keyset: Any, others: tuple[Any, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        out = tuple(computed(convolve, keyset, tensors, *others))
        shape = Shape.parse(others[-1])
        start = 2 + len(shape.fiber_point) + len(shape.fiber_edge)
        wants_frames = any(ctx.needs_input_grad[start : start + len(shape.frame_degrees)])
        ctx.others = others
        ctx.save_for_backward(*tensors, *(out if wants_frames else ()))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted, saved = ctx.needs_input_grad[2:], ctx.saved_tensors  # under activation checkpointing read once
        tensors, out = saved[: len(wanted)], saved[len(wanted) :]
        first, second, index, signature = ctx.others
        shape = Shape.parse(signature)
        if not all(map(has_memory, grads)):  # a batch of gradients
            function = partial(_composed, shape, RadialRows.of(first, second), index)
            return (None, None, *gradients_of(function, tensors, grads))
        start = len(shape.fiber_point)
        place = start + len(shape.fiber_edge) + len(shape.frame_degrees)
        layers = range(place + 1 + (8 if shape.layer_norm else 4), len(wanted))
        asked = (
            any(wanted[start : start + len(shape.fiber_edge)]),
            wanted[place],
            any(wanted[number] and is_asked_for(ctx, number) for number in layers),
        )
        result = convolve_backward(grads, tensors, out, first, second, index, asked, signature)
        made = (
            grad if want and grad.numel() == t.numel() else None
            for grad, want, t in zip(result, wanted, tensors, strict=True)
        )
        return (None, None, *made)


class _Gradients(torch.autograd.Function):
    """``convolve_backward`` with its gradient.

    Compiled, but in terms of torch's operations where that is to be differentiated again, where gradients of parameters
    are differentiated, and where points coincide.
    """

    @staticmethod
    def forward(
        ctx: Any, keyset: Any, counts: tuple[int, int], others: tuple[Any, ...], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        num_grads, num_out = ctx.counts = counts
        end = len(tensors) - num_out
        grads, inputs, out = tensors[:num_grads], tensors[num_grads:end], tensors[end:]
        result = tuple(computed(convolve_backward, keyset, grads, inputs, out, *others))
        ctx.others = others
        ctx.save_for_backward(*grads, *inputs, *out)
        ctx.set_materialize_grads(False)
        return result

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        first, second, index, _, signature = ctx.others
        shape, rows = Shape.parse(signature), RadialRows.of(first, second)
        num_grads, num_out = ctx.counts
        saved = ctx.saved_tensors
        end = len(saved) - num_out
        grads, tensors, out = saved[:num_grads], saved[num_grads:end], saved[end:]
        result = _second_gradients(shape, rows, index, grads, tensors, out, cotangents)
        if result is None:
            function = partial(_composed, shape, rows, index)
            result = second_gradients_of(function, saved[:end], num_grads, cotangents)
        return (None, None, None, *result, *[None] * num_out)


def _second_gradients(
    shape: Shape,
    rows: RadialRows,
    index: Tensor | None,
    grads: Sequence[Tensor],
    tensors: Sequence[Tensor],
    out: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
) -> list[Tensor | None] | None:
    """The result of ``second_gradients_of`` by the compiled code; None where that cannot be."""
    like, inputs = tensors[-1], shape.unflat(tensors).contiguous()
    num_inputs = len(inputs.features) + len(inputs.edge_features) + len(inputs.frames) + 1
    if (
        must_be_composed([value for value in cotangents if value is not None])
        or any(value is not None for value in cotangents[num_inputs:])  # of the parameters
        or (inputs.frames and not out)  # the messages are read where frames have gradients
        or unavailable(like.device, like.dtype)
        or has_coincident(inputs)
    ):
        return None
    given = zip(tensors[:num_inputs], cotangents, strict=False)
    full = [torch.zeros_like(tensor) if tangent is None else tangent for tensor, tangent in given]
    tangents = shape.unflat([*full, *tensors[num_inputs:]]).contiguous()  # those of the parameters are not read
    layers = any(value.requires_grad for layer in inputs.layers for value in layer)
    messages, result = Call(shape, rows, index, inputs).second(tangents, grads, out, layers=layers)
    return [*messages, *result]


def _recorded_messages(keyset: Any, tensors: Sequence[Tensor], *others: Any) -> list[Tensor]:
    return list(_Messages.apply(keyset, others, *tensors))


def _recorded_gradients(
    keyset: Any, grads: Sequence[Tensor], tensors: Sequence[Tensor], out: Sequence[Tensor], *others: Any
) -> list[Tensor]:
    return list(_Gradients.apply(keyset, (len(grads), len(out)), others, *grads, *tensors, *out))


convolve = register(
    "convolve(Tensor[] tensors, Tensor first, Tensor second, Tensor? index, str signature) -> Tensor[]",
    _convolve,
    _convolve_shapes,
    _recorded_messages,
)
convolve_backward = register(
    "convolve_backward(Tensor[] grads, Tensor[] tensors, Tensor[] out, Tensor first, Tensor second, Tensor? index, "
    "bool[] wanted, str signature) -> Tensor[]",
    _convolve_backward,
    _convolve_backward_shapes,
    _recorded_gradients,
)


def _composed(shape: Shape, rows: RadialRows, index: Tensor | None, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same in terms of torch's operations, differentiable any number of times."""
    inputs = shape.unflat(tensors)
    hidden = shape.hidden(inputs, inputs.invariants)
    of_points = dict(zip(shape.fiber_point, inputs.features, strict=True))
    of_edges = dict(zip(shape.fiber_edge, inputs.edge_features, strict=True))
    gathered = Sources(of_points, index, of_edges).gathered()
    layers = {}
    for pair, factor, layer in zip(shape.pairs, shape.factors, inputs.layers, strict=True):
        bias = layer[1] if shape.has_bias else layer[0].new_zeros(layer[0].shape[1:])
        layers[pair] = (factor * layer[0], factor * bias)
    frames = dict(zip(shape.frame_degrees, inputs.frames, strict=True))
    trunks = dict(zip(shape.pairs, shape.trunks, strict=True))
    are_pairs = rows.are_pairs()  # each edge followed by its reverse: one evaluation serves both
    by_edge = hidden.unbind(0) if are_pairs else [trunk.index_select(0, rows.row_of_edge) for trunk in hidden]
    mixing = {pair: path_to_order(*pair, hidden.dtype, hidden.device) for pair in shape.pairs}
    layout = Layout(shape.fiber_in, shape.fiber_out, trunks, mixing, repeat=2 if are_pairs else 1)
    out = composed_messages(layout, gathered, frames, by_edge, layers)
    messages = [out[degree] for degree in shape.fiber_out]
    coincident = _Coincident.of(rows, inputs.invariants)
    if not coincident:
        return messages
    at_zero = coincident.messages(shape, index, inputs)
    apart = coincident.without(messages)
    return [value.index_add(0, coincident.edges, part) for value, part in zip(apart, at_zero, strict=True)]


@dataclass(frozen=True)
class _Coincident:
    """Edges of length zero, which have no frame: only l = k, J = 0 survives, an isotropic map."""

    edges: Tensor
    rows: Tensor

    @classmethod
    def of(cls, rows: RadialRows, invariants: Tensor) -> _Coincident | None:
        """None where there are no such edges, as almost always."""
        lengths = invariants[:, -1]
        if bool(lengths.all()):
            return None
        single = (lengths == 0).nonzero()[:, 0]
        paired = single[single < len(rows.second)]
        return cls(torch.cat([rows.first[single], rows.second[paired]]), torch.cat([single, paired]))

    def without(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Copies with zeros at these edges."""
        return [value.index_fill(0, self.edges, 0.0) for value in values]

    def messages(self, shape: Shape, index: Tensor | None, inputs: Inputs) -> list[Tensor]:
        """Of these edges, in the order of the output degrees."""
        hidden = shape.hidden(inputs, inputs.invariants[self.rows])
        points = self.edges if index is None else index[self.edges]
        of_points = {d: value[points] for d, value in zip(shape.fiber_point, inputs.features, strict=True)}
        of_edges = {d: value[self.edges] for d, value in zip(shape.fiber_edge, inputs.edge_features, strict=True)}
        features = cat_features(of_points, of_edges)
        layers = {pair: number for number, pair in enumerate(shape.pairs)}
        messages = []
        for degree, channels in shape.fiber_out.items():
            if degree not in features:
                messages.append(hidden.new_zeros(len(self.edges), channels, 2 * degree + 1))
                continue
            number = layers[degree, degree]
            weight, *bias = (parameter.select(-2, 0) for parameter in inputs.layers[number])
            value = affine(
                hidden[shape.trunks[number]], weight, bias[0] if bias else weight.new_zeros(weight.shape[1:])
            )
            messages.append(
                shape.factors[number] / math.sqrt(4 * math.pi * (2 * degree + 1)) * value @ features[degree]
            )
        return messages

    def mend(self, out: Sequence[Tensor], shape: Shape, index: Tensor | None, inputs: Inputs) -> None:
        """Put the messages of these edges right, in place."""
        for value, part in zip(out, self.messages(shape, index, inputs), strict=True):
            value[self.edges] = part

    def add_gradients(
        self, result: Sequence[Tensor], grads: Sequence[Tensor], shape: Shape, index: Tensor | None, inputs: Inputs
    ) -> None:
        """Add what the messages of these edges contribute, in place.

        A component of an isotropic map is a convolution of scalars, which has its gradients in compiled code.
        """
        for number, (degree, degree_in) in enumerate(shape.pairs):
            if degree == degree_in:
                grad = grads[shape.fiber_out.degrees.index(degree)][self.edges]
                self._add_gradients(shape.unflat(result), grad, shape, index, inputs, number)

    def _add_gradients(
        self, result: Inputs, grad: Tensor, shape: Shape, index: Tensor | None, inputs: Inputs, number: int
    ) -> None:
        """Those of one degree: pair ``number``."""
        degree, trunk = shape.pairs[number][0], shape.trunks[number]
        parts = [  # of the points and of the edges: features, their gradients, rows
            (features[fiber.degrees.index(degree)], sums[fiber.degrees.index(degree)], rows)
            for fiber, features, sums, rows in (
                (
                    shape.fiber_point,
                    inputs.features,
                    result.features,
                    self.edges if index is None else index[self.edges],
                ),
                (shape.fiber_edge, inputs.edge_features, result.edge_features, self.edges),
            )
            if degree in fiber
        ]
        joined = torch.cat([features[rows] for features, _, rows in parts], dim=1)
        call = self._scalars(shape, inputs, number, joined)
        flat = without_none(
            call.backward(
                [grad.mT.reshape(-1, grad.shape[1], 1)], (), edge_features=False, invariants=True, layers=True
            )
        )
        of_scalars = call.shape.unflat(flat)
        by_edge = of_scalars.features[0].view(len(self.edges), 2 * degree + 1, -1).mT
        pieces = by_edge.split([features.shape[1] for features, _, _ in parts], dim=1)
        places = [(sums, rows, piece) for (_, sums, rows), piece in zip(parts, pieces, strict=True)]
        places.append((result.invariants, self.rows.repeat_interleave(2 * degree + 1), of_scalars.invariants))
        for sums, rows, piece in places:
            if sums.numel():  # else nobody wants it
                sums.index_add_(0, rows, piece)
        for sums, piece in zip(result.hidden, of_scalars.hidden, strict=True):
            sums[trunk] += piece[0]
        for sums, piece in zip(result.layers[number], of_scalars.layers[0], strict=True):
            if sums.numel():
                sums[..., :1, :] += piece

    def _scalars(self, shape: Shape, inputs: Inputs, number: int, features: Tensor) -> Call:
        """The maps of pair ``number`` as convolutions of scalars, an edge for each component."""
        degree, trunk = shape.pairs[number][0], shape.trunks[number]
        fiber_in, fiber_out = Fiber({0: features.shape[1]}), Fiber({0: shape.fiber_out[degree]})
        factor = shape.factors[number] / math.sqrt(2 * degree + 1)
        of_scalars = replace(
            shape, fiber_in=fiber_in, fiber_edge=Fiber({}), fiber_out=fiber_out, trunks=(0,), factors=(factor,)
        )
        given = Inputs(
            features=(features.mT.reshape(-1, features.shape[1], 1),),
            edge_features=(),
            frames=(),
            invariants=inputs.invariants[self.rows].repeat_interleave(2 * degree + 1, 0),
            hidden=tuple(parameter[trunk : trunk + 1] for parameter in inputs.hidden),
            layers=(tuple(parameter[..., :1, :] for parameter in inputs.layers[number]),),
        )
        return Call(of_scalars, RadialRows.in_order(len(given.invariants), 0), None, given.contiguous())
