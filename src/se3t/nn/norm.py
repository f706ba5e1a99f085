"""Norm nonlinearities: scale each type-l feature by a function of its invariant norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from se3t.compiling import entries
from se3t.fiber import Features, Fiber
from se3t.nn.kernels.native.nodewise import is_usable
from se3t.nn.kernels.native.norm import Norm
from se3t.nn.kernels.native.norm import norm as norm_operator
from se3t.nn.precision import at_least_float32, full_range
from se3t.nn.scaling import norms_of, scaled, sizes_of

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
        activation: η, elementwise; ReLU unless given.
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

        self._signature = self._signature_of_operator()

    def _signature_of_operator(self) -> str | None:
        """What the compiled code takes; None where it cannot do the same."""
        is_plain = self.activation in (functional.relu, torch.relu) and not self.num_layers and not self.min_norm
        if not is_plain or self.kind not in ("layer", "bias"):
            return None
        epsilons = [cast(nn.LayerNorm, layer).eps for layer in self.norm.values()] if self.kind == "layer" else []
        return Norm(self.fiber_in, epsilons[0] if epsilons else None).signature

    def _shifts_and_gains(self) -> list[Tensor]:
        names = [str(degree) for degree in self.fiber_in]
        if self.kind == "bias":
            return entries(self.bias, names)
        layers = [self.norm[name] for name in names]
        return [*[cast(Tensor, layer.bias) for layer in layers], *[cast(Tensor, layer.weight) for layer in layers]]

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

    @full_range
    def forward(self, features: Features) -> Features:
        """``[..., C, 2l+1]`` by degree, in and out.

        Raises:
            ValueError: when the features are not of type ``fiber``.
        """
        self.fiber_in.check(features)
        if self.kind == "none" or not features:
            return features
        if self._signature is not None:
            values, parameters = [features[degree] for degree in self.fiber_in], self._shifts_and_gains()
            if is_usable(values, parameters):
                return dict(zip(self.fiber_in, norm_operator([*values, *parameters], self._signature), strict=True))
        if self.kind == "tfn" and 0 in features:  # scalars have a sign
            others = {degree: value for degree, value in features.items() if degree > 0}
            scalars = self.activation(features[0] + self.bias["0"][:, None])
            return {0: scalars, **self._scale(others)} if others else {0: scalars}
        return self._scale(features)

    def _scale(self, features: Features) -> Features:
        """All degrees side by side: what acts on norms alone is one operation for all of them."""
        values = [at_least_float32(value) for value in features.values()]  # squares leave the range of float16
        norm, inverse, parts = norms_of(values, self.min_norm)
        size = torch.cat([self._size(degree, part).flatten() for degree, part in zip(features, parts, strict=True)])
        if not self.num_layers:
            size = self.activation(size)
        if self.kind == INVERTED:
            sizes = zip(size.split(sizes_of(values)), parts, values, strict=True)
            result = [one.view_as(part)[..., None] / value * part[..., None] for one, part, value in sizes]
        elif self.kind == "tfn":
            result = scaled(size, values)
        else:
            result = scaled(size / norm if self.min_norm else size * inverse, values)
        return dict(zip(features, result, strict=True))

    def _size(self, degree: int, norm: Tensor) -> Tensor:
        if self.kind in ("bias", "tfn"):
            return norm + self.bias[str(degree)]
        return cast(Tensor, self.norm[str(degree)](norm))

    def __repr__(self) -> str:
        return f"NormNonlinearity({self.fiber_in!r}, {self.kind})"
