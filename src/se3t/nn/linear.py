"""W^{ll}: the node-wise equivariant linear map, which mixes channels and never components."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from se3t.fiber import Features, Fiber
from se3t.nn.precision import full_range

_WIDEST_ROW = 40  # channels x components up to which a dense row product is the faster one


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

    @full_range
    def forward(self, features: Features) -> Features:
        """``[..., C_in, 2l+1]`` by degree → ``[..., C_out, 2l+1]`` by degree.

        Raises:
            ValueError: when the features are not of type ``fiber_in``.
        """
        self.fiber_in.check(features)
        out = {degree: mix_channels(self.weight[str(degree)], features[degree]) for degree in self.fiber_out}
        if self.bias is not None:
            out[0] = out[0] + self.bias
        return out

    def __repr__(self) -> str:
        return f"EquivariantLinear({self.fiber_in!r} -> {self.fiber_out!r})"


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
