"""Norm nonlinearities: scale each type-l feature by a function of its invariant norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from se3t.fiber import Features, Fiber
from se3t.so3 import safe_norm, safe_normalize

KINDS = ("layer", "bias", "tfn", "none")
INVERTED = "layer_inverted"


class NormNonlinearity(nn.Module):
    """η(‖f^l‖) applied along f^l, which keeps the direction and so the equivariance.

    Kinds:
        ``layer``: ReLU(LN(‖f^l‖)) f^l/‖f^l‖, LayerNorm over the channels of one degree (paper, Section 4.3, QM9). With
            ``num_layers`` the norms pass that many times LN – ReLU – Linear, and no ReLU at the end.
        ``bias``: ReLU(‖f^l‖ + b) f^l/‖f^l‖ with one b per channel and degree (authors' N-body code).
        ``tfn``: η(‖V‖ + b) V for l > 0 and η(V + b) for l = 0, no division by the norm (Thomas et al. 2018).
        ``none``: the identity.
        ``layer_inverted``: ReLU(LN(‖f^l‖)) ‖f^l‖/f^l, component by component. **Not equivariant**: a slip of NVIDIA's
            later code for unequal channels; here only so that weights trained with it can be run.

    A zero feature stays zero, with zero gradient through its undefined direction.

    Args:
        fiber: types and channels, the same in and out.
        kind: see above.
        activation: η; ReLU unless given.
        num_layers: linear layers of the network that acts on the norms; kind ``layer`` only.
        min_norm: norms below this count as this, in value and in f^l/‖f^l‖ (the released codes: 1e-12 and 2⁻²⁴);
            0 keeps the direction of every feature but zero.

    Raises:
        ValueError: for an unknown kind, or ``num_layers`` with another kind than ``layer``.
    """

    def __init__(
        self,
        fiber: Fiber,
        kind: str = "layer",
        activation: Callable[[Tensor], Tensor] = functional.relu,
        *,
        num_layers: int = 0,
        min_norm: float = 0.0,
    ) -> None:
        super().__init__()
        if kind not in (*KINDS, INVERTED):
            raise ValueError(f"norm={kind!r}: expected one of {', '.join(KINDS)}")
        if num_layers and kind != "layer":
            raise ValueError(f"norm={kind!r}: num_layers={num_layers} goes with norm='layer' only")
        self.fiber_in = self.fiber_out = fiber
        self.kind, self.activation, self.num_layers, self.min_norm = kind, activation, num_layers, min_norm
        if kind in ("layer", INVERTED):
            self.norm = nn.ModuleDict({str(degree): self._network(channels) for degree, channels in fiber.items()})
        if kind in ("bias", "tfn"):
            self.bias = nn.ParameterDict(
                {str(degree): nn.Parameter(torch.zeros(channels)) for degree, channels in fiber.items()}
            )

    def _network(self, channels: int) -> nn.Module:
        if self.num_layers == 0:
            return nn.LayerNorm(channels)
        last = self.num_layers - 1
        return nn.Sequential(
            *(
                nn.Sequential(nn.LayerNorm(channels), nn.ReLU(), nn.Linear(channels, channels, bias=number == last))
                for number in range(self.num_layers)
            )
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
        if self.min_norm:
            norm = norm.clamp(min=self.min_norm)
        size = self._size(degree, norm)[..., None]
        if self.kind == INVERTED:
            return size / value * norm[..., None]
        return size * (value / norm[..., None] if self.min_norm else safe_normalize(value))

    def _size(self, degree: int, norm: Tensor) -> Tensor:
        if self.kind == "bias":
            return self.activation(norm + self.bias[str(degree)])
        changed: Tensor = self.norm[str(degree)](norm)
        return changed if self.num_layers else self.activation(changed)

    def __repr__(self) -> str:
        return f"NormNonlinearity({self.fiber_in!r}, {self.kind})"
