"""``torch.ops.se3t.mix``: the equivariant linear maps of all degrees at once, of features that come in parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from se3t.compiling import lazy
from se3t.fiber import Fiber, cat_features
from se3t.nn.kernels.native.nodewise import num_threads, operators, require_shape
from se3t.nn.kernels.native.structures import Member, component_major, field_members

_WIDEST_ROW = 40  # channels x components up to which a dense row product is the faster one


@dataclass(frozen=True)
class Mixing:
    """What a layer fixes: types and channels of the parts, and of the result, whose degrees all occur in the parts.

    Tensors: the degrees of the first part, those of the next …; a weight ``[C_out, C_in]`` for each degree of the
    result, for the channels of all parts, one behind the other; the bias ``[C_out, 1]`` of degree 0, if there is one.
    """

    parts: tuple[Fiber, ...]
    fiber_out: Fiber
    has_bias: bool

    @property
    def signature(self) -> str:
        """The text that the operator takes."""
        return json.dumps([[repr(part) for part in self.parts], repr(self.fiber_out), self.has_bias])

    @classmethod
    @cache
    def parse(cls, signature: str) -> Mixing:
        """Undo :attr:`signature`."""
        parts, fiber_out, has_bias = json.loads(signature)
        return cls(tuple(map(Fiber, parts)), Fiber(fiber_out), has_bias)

    @lazy
    def num_features(self) -> int:
        """Tensors that are features."""
        return sum(map(len, self.parts))

    @lazy
    def _fixed(self) -> list[Member]:
        degrees = self.fiber_out.degrees
        channels = [part.get(degree, 0) for part in self.parts for degree in degrees]
        return [len(degrees), len(self.parts), degrees, list(self.fiber_out.values()), channels]

    @lazy
    def _operations(self) -> int:
        return sum(
            (2 * degree + 1) * channels * part.get(degree, 0)
            for part in self.parts
            for degree, channels in self.fiber_out.items()
        )

    @lazy
    def _places(self) -> list[tuple[int | None, int, int]]:
        """For every part and degree of the result: number of the tensor, channels, components."""
        numbers = {(p, d): n for n, (p, d) in enumerate((p, d) for p, part in enumerate(self.parts) for d in part)}
        return [
            (numbers.get((number, degree)), part.get(degree, 0), 2 * degree + 1)
            for number, part in enumerate(self.parts)
            for degree in self.fiber_out
        ]

    def results(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Features of every degree, uninitialised, the channels of a component next to each other in memory."""
        first = tensors[0]
        return [component_major(first.shape[0], c, 2 * degree + 1, first) for degree, c in self.fiber_out.items()]

    def members(
        self, tensors: Sequence[Tensor], out: Sequence[Tensor], grads: Sequence[Tensor], grads_in: Sequence[Tensor]
    ) -> list[Member]:
        """Of the structure in ``mixing.h``."""
        num_rows, count = len(tensors[0]), self.num_features
        for number, channels, size in self._places:
            if number is not None:
                require_shape(tensors[number], (num_rows, channels, size))
        for value, (degree, channels) in zip(out or grads, self.fiber_out.items(), strict=True):
            require_shape(value, (num_rows, channels, 2 * degree + 1))
        for weight, (degree, channels) in zip(tensors[count:], self.fiber_out.items(), strict=False):
            require_shape(weight, (channels, sum([part.get(degree, 0) for part in self.parts])))
        if self.has_bias:
            require_shape(tensors[-1], (self.fiber_out[0], 1))
        parameters = [value.data_ptr() for value in tensors[count:]]
        parameter_grads = [value.data_ptr() for value in grads_in[count:]]
        num_degrees = len(self.fiber_out)
        return [
            num_rows,
            num_threads(num_rows, self._operations),
            *self._fixed,
            self._part_fields(tensors),
            parameters[:num_degrees],
            *(parameters[num_degrees:] or [0]),
            field_members(out),
            field_members(grads),
            self._part_fields(grads_in),
            parameter_grads[:num_degrees],
            *(parameter_grads[num_degrees:] or [0]),
        ]

    def _part_fields(self, tensors: Sequence[Tensor]) -> list[int]:
        if not tensors:
            return []
        none = (0, 0, 0, 0)
        places = [none if n is None else (tensors[n].data_ptr(), *tensors[n].stride()) for n, _, _ in self._places]
        return [number for place in places for number in place]

    def composed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The same in terms of torch's operations, differentiable any number of times."""
        rest = iter(tensors)
        parts = [{degree: next(rest) for degree in part} for part in self.parts]
        joined = cat_features(*parts)
        out = [mix_channels(next(rest), joined[degree]) for degree in self.fiber_out]
        return [out[0] + next(rest), *out[1:]] if self.has_bias else out

    def second(
        self, grads: Sequence[Tensor], tensors: Sequence[Tensor], cotangents: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """By these operators again: the map is linear in the features f, and in the weights W.

        Σ cotangent · gradient is G · (W f' + W' f + b') for gradients G of the result and cotangents f', W', b'.
        """
        count, end = self.num_features, self.num_features + len(self.fiber_out)
        features, weights = tensors[:count], tensors[count:end]
        signature = self._without_bias.signature
        result: list[Tensor | None] = [None] * (len(grads) + len(tensors))
        for first, last in ((0, count), (count, end)):  # the part of the tensors that the cotangents take the place of
            if all(value is None for value in cotangents[first:last]):
                continue
            given = zip(cotangents[first:last], tensors[first:last], strict=True)
            replaced = [torch.zeros_like(value) if other is None else other for other, value in given]
            direction = [*features, *weights]
            direction[first:last] = replaced
            for number, value in enumerate(mix(direction, signature)):
                before = result[number]
                result[number] = value if before is None else before + value
            made = mix_backward(grads, direction, signature)
            for number in {*range(end)} - {*range(first, last)}:
                result[len(grads) + number] = made[number]
        if self.has_bias and cotangents[-1] is not None:
            scalars = result[0]
            result[0] = cotangents[-1].expand_as(grads[0]) if scalars is None else scalars + cotangents[-1]
        return result

    @lazy
    def _without_bias(self) -> Mixing:
        return replace(self, has_bias=False)


def mix_channels(weight: Tensor, value: Tensor) -> Tensor:
    """W f for one degree, as one matrix product over all points instead of a small one for each.

    A few channels and components make one row, multiplied by w ⊗ 1: more arithmetic than needed, but no transposition.

    Args:
        weight: ``[C_out, C_in]``.
        value: ``[..., C_in, 2l+1]``.

    Returns:
        ``[..., C_out, 2l+1]``, for many channels a view in which the channels come last.
    """
    channels, components = value.shape[-2:]
    if components == 1 or components * channels > _WIDEST_ROW:
        return functional.linear(value.mT, weight).mT
    identity = torch.eye(components, dtype=weight.dtype, device=weight.device)
    rows = (weight[:, None, :, None] * identity[:, None]).flatten(2).flatten(0, 1)  # [w k, u i]
    return functional.linear(value.flatten(-2), rows).unflatten(-1, (-1, components))


mix, mix_backward = operators("mix", lambda text: Mixing.parse(text))
