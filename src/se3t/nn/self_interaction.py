"""Attentive self-interaction: a channel mixing whose weights depend, invariantly, on the feature itself."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from se3t.compiling import without_autocast
from se3t.fiber import Features, Fiber, cat_features
from se3t.nn.layer_norm import LayerNorm
from se3t.nn.precision import at_least_float32, full_range

_FEW_CHANNELS = 16  # a softmax over fewer numbers is several times faster along a dimension that is not the last


class AttentiveSelfInteraction(nn.Module):
    """f_out,i^l = w_i^{ll} f_i^l with w_i^{ll} = MLP(⊕_{c,c'} f_{i,c'}^{lT} f_{i,c}^l) (Equation 12 of the paper).

    The Gram matrix of the channels is invariant, so the weights are, and the map is equivariant. A degree with a single
    input channel has constant weights: LayerNorm of one number says nothing.

    Args:
        fiber_in: types and channels of the input.
        fiber_out: types and channels of the output; every degree must occur in the input.
        softmax: whether the weights of one output channel pass a softmax over the input channels.

    Raises:
        ValueError: when an output degree is missing in the input.

    Source: paper, Section 3.3; the MLP is the authors' LayerNorm – LeakyReLU – Linear – softmax over input channels.
    **Deviation**: without ``softmax`` (the default) the weights may be negative and are initialised to a linear map;
    the paper prints no softmax, the authors' released code has one.
    """

    def __init__(self, fiber_in: Fiber, fiber_out: Fiber, *, softmax: bool = False) -> None:
        super().__init__()
        missing = [degree for degree in fiber_out if degree not in fiber_in]
        if missing:
            raise ValueError(
                f"AttentiveSelfInteraction({fiber_in!r} -> {fiber_out!r}): the input has no degree {missing[0]}; "
                "remove it from the output or make it by a convolution"
            )
        self.fiber_in, self.fiber_out, self.softmax = fiber_in, fiber_out, softmax
        self.mlp = nn.ModuleDict(
            {
                str(degree): nn.Sequential(
                    LayerNorm(fiber_in[degree] ** 2),
                    nn.LeakyReLU(),
                    nn.Linear(fiber_in[degree] ** 2, channels * fiber_in[degree]),
                )
                for degree, channels in fiber_out.items()
            }
        )
        for degree in fiber_out:
            last = cast(nn.Linear, cast(nn.Sequential, self.mlp[str(degree)])[-1])
            if not softmax:  # mostly a linear map of variance one, a tenth of it due to the attention
                nn.init.normal_(last.weight, std=math.sqrt(0.2 / fiber_in[degree] ** 3))
                nn.init.normal_(last.bias, std=math.sqrt(0.9 / fiber_in[degree]))

    @full_range
    def forward(self, *parts: Features) -> Features:
        """``[node, C_in, 2l+1]`` by degree → ``[node, C_out, 2l+1]`` by degree.

        Args:
            parts: the features, or some whose channels, one behind the other, are the features.

        Raises:
            ValueError: when the features are not of type ``fiber_in``.
        """
        features = cat_features(*parts)
        self.fiber_in.check(features)
        return {degree: self._weights(degree, features[degree]) @ features[degree] for degree in self.fiber_out}

    def _weights(self, degree: int, value: Tensor) -> Tensor:  # [node, w, u]
        wide = at_least_float32(value)
        with without_autocast(value.device.type):  # products of features, before LayerNorm
            gram = wide @ wide.transpose(-1, -2)
        weights = self.mlp[str(degree)](gram.flatten(-2)).unflatten(-1, (self.fiber_out[degree], value.shape[-2]))
        if not self.softmax:
            return cast(torch.Tensor, weights)
        if value.shape[-2] >= _FEW_CHANNELS:
            return functional.softmax(weights, dim=-1)
        return functional.softmax(weights.mT, dim=-2).mT

    def __repr__(self) -> str:
        return f"AttentiveSelfInteraction({self.fiber_in!r} -> {self.fiber_out!r})"
