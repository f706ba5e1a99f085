"""W^{ll}: the node-wise equivariant linear map, which mixes channels and never components."""

from __future__ import annotations

import math

import torch
from torch import nn

from se3t.compiling import constant, entries
from se3t.fiber import Features, Fiber
from se3t.nn.kernels.native.mixing import Mixing, mix
from se3t.nn.kernels.native.nodewise import is_usable
from se3t.nn.precision import full_range


class EquivariantLinear(nn.Module):
    """f_out^l = w^{ll} f^l (+ b for l = 0): by Schur's lemma all that a node can do to its own features linearly.

    Queries, linear self-interaction and projections of the paper (Sections 3.2 and 3.3).

    Args:
        fiber_in: types and channels of the input.
        fiber_out: types and channels of the output; every degree must occur in the input.
        bias: whether degree 0 has a bias (no other degree may have one).

    Raises:
        ValueError: when an output degree is missing in the input: the map would be zero.
    """

    def __init__(self, fiber_in: Fiber, fiber_out: Fiber, *, bias: bool = False) -> None:
        super().__init__()
        missing = [degree for degree in fiber_out if degree not in fiber_in]
        if missing:
            raise ValueError(
                f"EquivariantLinear({fiber_in!r} -> {fiber_out!r}): the input has no degree {missing[0]}, "
                "so that output would be zero; remove the degree from the output or make it by a convolution"
            )
        self.fiber_in, self.fiber_out = fiber_in, fiber_out
        self.weight = nn.ParameterDict(
            {
                str(degree): nn.Parameter(torch.randn(channels, fiber_in[degree]) / math.sqrt(fiber_in[degree]))
                for degree, channels in fiber_out.items()
            }
        )
        self.bias = nn.Parameter(torch.zeros(fiber_out[0], 1)) if bias and 0 in fiber_out else None
        self._text_out, self._names = repr(fiber_out), list(self.weight)

    @full_range
    def forward(self, *parts: Features) -> Features:
        """``[..., C_in, 2l+1]`` by degree → ``[..., C_out, 2l+1]`` by degree.

        Args:
            parts: the features, or some whose channels, one behind the other, are the features.

        Raises:
            ValueError: when the features are not of type ``fiber_in``.
        """
        self.fiber_in.check(parts[0], "features", *parts[1:])
        channels = tuple([tuple([(degree, value.shape[-2]) for degree, value in part.items()]) for part in parts])
        shape, signature = _mixing(channels, self._text_out, self.bias is not None)
        values = [part[degree] for part, fiber in zip(parts, shape.parts, strict=True) for degree in fiber]
        parameters = entries(self.weight, self._names)
        if self.bias is not None:
            parameters.append(self.bias)
        tensors = [*values, *parameters]
        out = mix(tensors, signature) if is_usable(values, parameters) else shape.composed(tensors)
        return dict(zip(self.fiber_out, out, strict=True))

    def __repr__(self) -> str:
        return f"EquivariantLinear({self.fiber_in!r} -> {self.fiber_out!r})"


@constant
def _mixing(parts: tuple[tuple[tuple[int, int], ...], ...], fiber_out: str, has_bias: bool) -> tuple[Mixing, str]:
    """What the operator is told: the degrees and channels of the parts, as far as the output has these degrees."""
    out = Fiber(fiber_out)
    shape = Mixing(tuple(Fiber(dict(channels)).restrict(out) for channels in parts), out, has_bias)
    return shape, shape.signature
