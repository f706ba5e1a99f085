"""Norm nonlinearities: scale each type-l feature by a function of its invariant norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from se3t.compiling import apply
from se3t.fiber import Features, Fiber
from se3t.nn.precision import at_least_float32, full_range
from se3t.so3.safe import is_zero

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
        if self.kind == "tfn" and 0 in features:  # scalars have a sign
            others = {degree: value for degree, value in features.items() if degree > 0}
            scalars = self.activation(features[0] + self.bias["0"][:, None])
            return {0: scalars, **self._scale(others)} if others else {0: scalars}
        return self._scale(features)

    def _scale(self, features: Features) -> Features:
        """All degrees side by side: what acts on norms alone is one operation for all of them."""
        values = [at_least_float32(value) for value in features.values()]  # squares leave the range of float16
        norm, inverse = apply(_NormAndInverse, *values)
        if self.min_norm:
            norm = norm.clamp(min=self.min_norm)
        parts = [part.view(value.shape[:-1]) for part, value in zip(norm.split(_sizes(values)), values, strict=True)]
        size = torch.cat([self._size(degree, part).flatten() for degree, part in zip(features, parts, strict=True)])
        if not self.num_layers:
            size = self.activation(size)
        if self.kind == INVERTED:
            sizes = zip(size.split(_sizes(values)), parts, values, strict=True)
            scaled = [one.view_as(part)[..., None] / value * part[..., None] for one, part, value in sizes]
        elif self.kind == "tfn":
            scaled = apply(_Scale, size, *values)
        else:
            scaled = apply(_Scale, size / norm if self.min_norm else size * inverse, *values)
        return dict(zip(features, scaled, strict=True))

    def _size(self, degree: int, norm: Tensor) -> Tensor:
        if self.kind in ("bias", "tfn"):
            return norm + self.bias[str(degree)]
        return cast(Tensor, self.norm[str(degree)](norm))

    def __repr__(self) -> str:
        return f"NormNonlinearity({self.fiber_in!r}, {self.kind})"


class _NormAndInverse(torch.autograd.Function):
    """‖f‖ and 1/‖f‖ of features ``[..., C_l, 2l+1]``, one degree after the other in one dimension; 0 and 0 for f = 0.

    The gradient (g − g' /‖f‖²) f/‖f‖ is made of saved inputs and outputs by plain operations: it has all derivatives.
    """

    @staticmethod
    def forward(*values: Tensor) -> tuple[Tensor, Tensor]:
        square = torch.cat([_dot(value, value) for value in values])
        inverse = square.masked_fill(is_zero(square, square.dtype), torch.inf).rsqrt_()
        return square * inverse, inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1], *inputs)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_norm: Tensor | None, grad_inverse: Tensor | None) -> tuple[Tensor | None, ...]:
        inverse, *values = ctx.saved_tensors
        if grad_inverse is not None:
            part = -grad_inverse * inverse * inverse
            grad_norm = part if grad_norm is None else grad_norm + part
        if grad_norm is None:
            return (None,) * len(values)
        return _multiply(grad_norm * inverse, values)


class _Scale(torch.autograd.Function):
    """factor · f for features ``[..., C_l, 2l+1]``, the factors one degree after the other in one dimension."""

    @staticmethod
    def forward(factor: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return _multiply(factor, values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        factor, *values = ctx.saved_tensors
        dots = torch.cat([_dot(grad, value) for grad, value in zip(grads, values, strict=True)])
        return dots, *_multiply(factor, grads)


def _sizes(values: Sequence[Tensor]) -> list[int]:
    return [math.prod(value.shape[:-1]) for value in values]


def _multiply(factor: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
    factors = factor.split(_sizes(values))
    return tuple(one.view(value.shape[:-1])[..., None] * value for one, value in zip(factors, values, strict=True))


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Σ over the components, flat."""
    product = (left * right).reshape(-1, left.shape[-1])
    if product.shape[1] == 1:
        return product[:, 0]
    # on a CPU the product with a vector of ones takes a third of the time of a sum of so few numbers
    return torch.mv(product, product.new_ones(product.shape[1])) if product.device.type == "cpu" else product.sum(1)
