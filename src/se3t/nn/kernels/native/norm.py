"""``torch.ops.se3t.norm``: the norm nonlinearities ``layer`` and ``bias`` of all degrees at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from se3t.compiling import lazy
from se3t.fiber import Fiber
from se3t.nn.kernels.native.nodewise import num_threads, operators, require_shape
from se3t.nn.kernels.native.structures import Member, component_major, field_members
from se3t.nn.scaling import norms_of, scaled
from se3t.so3.safe import zero_square


@dataclass(frozen=True)
class Norm:
    """What a layer fixes.

    Tensors: the features; the shift of LayerNorm, or the bias, of every degree; with LayerNorm the gains as well.

    Attributes:
        fiber: types and channels.
        epsilon: of LayerNorm; None: a bias in its place.
    """

    fiber: Fiber
    epsilon: float | None

    @property
    def signature(self) -> str:
        """The text that the operator takes."""
        return json.dumps([repr(self.fiber), self.epsilon])

    @classmethod
    @cache
    def parse(cls, signature: str) -> Norm:
        """Undo :attr:`signature`."""
        fiber, epsilon = json.loads(signature)
        return cls(Fiber(fiber), epsilon)

    @lazy
    def num_features(self) -> int:
        """Tensors that are features."""
        return len(self.fiber)

    @lazy
    def _fixed(self) -> tuple[list[Member], list[tuple[int, int]]]:
        """Degrees and channels, and shape of the features of a node."""
        degrees, channels = self.fiber.degrees, list(self.fiber.values())
        return [degrees, channels], [(c, 2 * degree + 1) for degree, c in self.fiber.items()]

    def results(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Features of every degree, uninitialised, the channels of a component next to each other in memory."""
        return [component_major(v.shape[0], v.shape[1], v.shape[2], v) for v in tensors[: self.num_features]]

    def members(
        self, tensors: Sequence[Tensor], out: Sequence[Tensor], grads: Sequence[Tensor], grads_in: Sequence[Tensor]
    ) -> list[Member]:
        """Of the structure in ``norm.h``."""
        count, num_rows, (fixed, shapes) = self.num_features, len(tensors[0]), self._fixed
        for group in (tensors, out or grads):
            for value, expected in zip(group, shapes, strict=False):
                require_shape(value, (num_rows, *expected))
        for parameters in (tensors[count : 2 * count], tensors[2 * count :]):
            for value, (channels, _) in zip(parameters, shapes, strict=False):
                require_shape(value, (channels,))
        pointers = [value.data_ptr() for value in tensors[count:]]
        gradients = [value.data_ptr() for value in grads_in[count:]]
        return [
            num_rows,
            num_threads(num_rows, 8 * self.fiber.dim),
            count,
            float(self.epsilon or 0),
            zero_square(tensors[0].dtype),
            *fixed,
            field_members(tensors[:count]),
            pointers[:count],
            pointers[count:],
            field_members(out),
            field_members(grads),
            field_members(grads_in[:count]),
            gradients[:count],
            gradients[count:],
        ]

    def composed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The same in terms of torch's operations, differentiable any number of times."""
        count = self.num_features
        values, shifts, gains = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]

        _, inverse, norms = norms_of(values)
        if self.epsilon is None:
            sizes = [norm + shift for norm, shift in zip(norms, shifts, strict=True)]
        else:
            sizes = [
                functional.layer_norm(norm, norm.shape[-1:], gain, shift, self.epsilon)
                for norm, gain, shift in zip(norms, gains, shifts, strict=True)
            ]
        return scaled(functional.relu(torch.cat([size.flatten() for size in sizes])) * inverse, values)

    def second(self, *_: Any) -> None:
        """By :meth:`composed`."""


norm, norm_backward = operators("norm", lambda text: Norm.parse(text))
