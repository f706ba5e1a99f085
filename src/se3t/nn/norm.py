"""Norm nonlinearities: scale each type-l feature by a function of its invariant norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from se3t.fiber import Features, Fiber
from se3t.so3 import safe_norm, safe_normalize

KINDS = ("layer", "bias", "tfn", "none")


class NormNonlinearity(nn.Module):
    """η(‖f^l‖) applied along f^l, which keeps the direction and so the equivariance.

    Kinds:
        ``layer``: ReLU(LN(‖f^l‖)) f^l/‖f^l‖, LayerNorm over the channels of one degree (paper, Section 4.3, QM9).
        ``bias``: ReLU(‖f^l‖ + b) f^l/‖f^l‖ with one b per channel and degree (authors' N-body code).
        ``tfn``: η(‖V‖ + b) V for l > 0 and η(V + b) for l = 0, no division by the norm (Thomas et al. 2018).
        ``none``: the identity.

    A zero feature stays zero, with zero gradient through its undefined direction.

    Args:
        fiber: types and channels, the same in and out.
        kind: see above.
        activation: η; ReLU unless given.

    Raises:
        ValueError: for an unknown kind, and for ``layer`` on a degree with a single channel.
    """

    def __init__(
        self, fiber: Fiber, kind: str = "layer", activation: Callable[[Tensor], Tensor] = functional.relu
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"norm={kind!r}: expected one of {', '.join(KINDS)}")
        alone = [degree for degree, channels in fiber.items() if channels == 1]
        if kind == "layer" and alone:
            raise ValueError(
                f"norm='layer' over {fiber!r}: LayerNorm of the single channel of degree {alone[0]} is always zero; "
                "give every degree two channels or more, or use norm='bias'"
            )
        self.fiber_in = self.fiber_out = fiber
        self.kind, self.activation = kind, activation
        if kind == "layer":
            self.norm = nn.ModuleDict({str(degree): nn.LayerNorm(channels) for degree, channels in fiber.items()})
        if kind in ("bias", "tfn"):
            self.bias = nn.ParameterDict(
                {str(degree): nn.Parameter(torch.zeros(channels)) for degree, channels in fiber.items()}
            )

    def forward(self, features: Features) -> Features:
        """``[..., C, 2l+1]`` by degree, in and out.

        Raises:
            ValueError: when the features are not of type ``fiber``.
        """
        self.fiber_in.check(features)
        if self.kind == "none":
            return features
        return {degree: self._scale(degree, value) for degree, value in features.items()}

    def _scale(self, degree: int, value: Tensor) -> Tensor:
        if self.kind == "tfn" and degree == 0:
            return self.activation(value + self.bias["0"][:, None])
        norm = safe_norm(value)
        if self.kind == "tfn":
            return self.activation(norm + self.bias[str(degree)])[..., None] * value
        shifted = self.norm[str(degree)](norm) if self.kind == "layer" else norm + self.bias[str(degree)]
        return self.activation(shifted)[..., None] * safe_normalize(value)

    def __repr__(self) -> str:
        return f"NormNonlinearity({self.fiber_in!r}, {self.kind})"
