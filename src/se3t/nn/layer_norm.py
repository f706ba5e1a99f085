"""LayerNorm whose second derivatives take a third of the passes over memory that PyTorch's take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from se3t.nn.kernels.second_order import gradients_of, must_be_composed, second_gradients_of
from se3t.so3.wrapped import has_memory, is_transforming


class LayerNorm(nn.LayerNorm):
    """``torch.nn.LayerNorm`` over the last dimension: same parameters, values and gradients."""

    def forward(self, value: Tensor) -> Tensor:
        """``[..., channel]`` → the same shape."""
        is_plain = value.dtype == self.weight.dtype and not torch.is_autocast_enabled(value.device.type)
        if not is_plain or not torch.is_grad_enabled() or torch.compiler.is_compiling() or is_transforming():
            return super().forward(value)
        result: Tensor = _LayerNorm.apply(self.eps, value, self.weight, self.bias)
        return result


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, epsilon: float, value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        result, mean, inverse = torch.native_layer_norm(value, value.shape[-1:], weight, bias, epsilon)
        ctx.epsilon = epsilon
        ctx.save_for_backward(value, weight, bias, mean, inverse)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, mean, inverse = ctx.saved_tensors
        if has_memory(grad):
            return (None, *_Gradients.apply(ctx.epsilon, (mean, inverse), grad, *tensors))
        return (None, *gradients_of(_composed(ctx.epsilon), tensors, [grad]))  # a batch of gradients


class _Gradients(torch.autograd.Function):
    """Gradients of value, weight and bias, and their gradient.

    With n = (x − mean)/std, the gradient of x is P(w G) for the projection P(c) = (c − mean(c) − n mean(c n))/std,
    which is its own transpose. For a cotangent c of it and t = P(c), c · P(w G) = t · (w G) has the gradients w t by G,
    Σ G t by w, and −(mean(c n) P(w G) + mean(w G n) t + n mean(w G t))/std by x.
    """

    @staticmethod
    def forward(
        ctx: Any, epsilon: float, statistics: tuple[Tensor, Tensor], grad: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        value, weight, bias = tensors
        ctx.epsilon = epsilon
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, *tensors, *statistics)
        return torch.ops.aten.native_layer_norm_backward(
            grad, value, value.shape[-1:], *statistics, weight, bias, [True, True, True]
        )

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        *saved, mean, inverse = ctx.saved_tensors
        given = [value for value in cotangents if value is not None]
        if must_be_composed(given) or cotangents[0] is None or len(given) > 1:
            return (None, None, *second_gradients_of(_composed(ctx.epsilon), saved, 1, cotangents))
        grad, value, weight, _ = saved
        normal, scaled, cotangent = (value - mean).mul_(inverse), grad * weight, cotangents[0].contiguous()
        tangent, projected = (
            torch.ops.aten.native_layer_norm_backward(
                part, value, value.shape[-1:], mean, inverse, None, None, [True, False, False]
            )[0]
            for part in (cotangent, scaled)
        )
        by_value = projected.mul_(_mean_product(cotangent, normal))
        by_value.addcmul_(tangent, _mean_product(scaled, normal)).addcmul_(normal, _mean_product(scaled, tangent))
        by_weight = torch.mul(grad, tangent, out=scaled).flatten(0, -2).sum(0)
        return None, None, tangent.mul_(weight), by_value.mul_(inverse).neg_(), by_weight, None


def _composed(epsilon: float) -> Any:
    def function(tensors: Sequence[Tensor]) -> list[Tensor]:
        value, weight, bias = tensors
        return [functional.layer_norm(value, value.shape[-1:], weight, bias, epsilon)]

    return function


def _mean_product(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a, b).div_(a.shape[-1]).unsqueeze(-1)
