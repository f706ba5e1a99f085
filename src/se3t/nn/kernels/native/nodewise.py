"""Operators on the features of each node alone: how they are registered, called and differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from se3t.compiling import Operator, computed, copied, register
from se3t.nn.kernels.native.compiler import compiled, unavailable
from se3t.nn.kernels.native.structures import Member, component_major, structure
from se3t.nn.kernels.second_order import gradients_of, second_gradients_of
from se3t.so3.wrapped import has_memory, is_transforming


@runtime_checkable
class Shape(Protocol):
    """What a layer fixes, parsed from the text that its operator takes. Tensors: features first, then parameters."""

    @property
    def num_features(self) -> int:
        """Tensors that are features."""

    def results(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Uninitialised results."""

    def members(
        self, tensors: Sequence[Tensor], out: Sequence[Tensor], grads: Sequence[Tensor], grads_in: Sequence[Tensor]
    ) -> list[Member]:
        """Of the C structure; ``grads`` of the results, ``grads_in`` of the tensors, both empty in the forward pass.

        Raises:
            ValueError: when a tensor is not of the size that the others ask for.
        """

    def composed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The results in terms of torch's operations, differentiable any number of times."""

    def second(
        self, grads: Sequence[Tensor], tensors: Sequence[Tensor], cotangents: Sequence[Tensor | None]
    ) -> list[Tensor | None] | None:
        """Gradients of Σ cotangent · gradient, by ``grads`` and by ``tensors``; None: by :meth:`composed`."""


def is_usable(features: Iterable[Tensor], parameters: Iterable[Tensor]) -> bool:
    """Whether the compiled code is to be taken: features ``[node, channel, component]`` of one dtype on a CPU.

    Under autocast, and in ``torch.func``, torch's own operations are.
    """
    if is_transforming() or torch.is_autocast_enabled("cpu"):
        return False
    tensors = list(features)
    if not tensors or tensors[0].device.type != "cpu" or any(tensor.dim() != 3 for tensor in tensors):
        return False
    dtype = tensors[0].dtype
    is_same = all(tensor.dtype == dtype for tensor in (*tensors, *parameters))
    return is_same and unavailable(tensors[0].device, dtype) is None


def num_threads(num_rows: int, operations: int) -> int:
    """No more than there is work for.

    Args:
        num_rows: nodes.
        operations: for each of them.
    """
    return max(1, min(torch.get_num_threads(), num_rows * operations >> 18))


def require_shape(tensor: Tensor, expected: tuple[int, ...]) -> None:
    """The compiled code sees addresses only.

    Raises:
        ValueError: when a tensor has another shape.
    """
    if tensor.shape != expected:
        raise ValueError(f"expected a tensor {list(expected)}, got {list(tensor.shape)}")


def operators(name: str, parse: Callable[[str], Shape]) -> tuple[Operator, Operator]:
    """Define ``torch.ops.se3t.<name>``, which is the C function of that name, and ``<name>_backward``.

    Args:
        name: of both.
        parse: text → what it stands for.

    Returns:
        The operator and the one that makes its gradients.
    """
    pair = _Pair(name, parse)
    arguments = "Tensor[] tensors, str signature) -> Tensor[]"
    pair.operator = register(f"{name}({arguments}", pair.compute, pair.shapes, pair.record)
    pair.backward = register(
        f"{name}_backward(Tensor[] grads, {arguments}",
        pair.compute_backward,
        pair.shapes_backward,
        pair.record_backward,
    )
    return pair.operator, pair.backward


class _Pair:
    """What an operator and the operator of its gradients do."""

    operator: Operator
    backward: Operator

    def __init__(self, name: str, parse: Callable[[str], Shape]) -> None:
        self.name, self.parse = name, parse

    def compute(self, tensors: Sequence[Tensor], signature: str) -> list[Tensor]:
        shape = self.parse(signature)
        out = shape.results(tensors)
        if unavailable(tensors[0].device, tensors[0].dtype):  # a program that runs where nothing can be compiled
            return copied(shape.composed(tensors), out)
        _run(self.name, shape, tensors, out, [], [])
        return out

    def compute_backward(self, grads: Sequence[Tensor], tensors: Sequence[Tensor], signature: str) -> list[Tensor]:
        result = self.shapes_backward(grads, tensors, signature)
        _run(self.name, self.parse(signature), tensors, [], grads, result)
        return result

    def shapes(self, tensors: Sequence[Tensor], signature: str) -> list[Tensor]:
        return self.parse(signature).results(tensors)

    def shapes_backward(self, grads: Sequence[Tensor], tensors: Sequence[Tensor], signature: str) -> list[Tensor]:
        count = self.parse(signature).num_features
        features = [component_major(t.shape[0], t.shape[1], t.shape[2], t) for t in tensors[:count]]
        return [*features, *[parameter.new_empty(parameter.shape) for parameter in tensors[count:]]]

    def record(self, keyset: Any, tensors: Sequence[Tensor], signature: str) -> list[Tensor]:
        return list(_Results.apply(self, keyset, signature, *tensors))

    def record_backward(
        self, keyset: Any, grads: Sequence[Tensor], tensors: Sequence[Tensor], signature: str
    ) -> list[Tensor]:
        return list(_Gradients.apply(self, keyset, len(grads), signature, *grads, *tensors))


class _Results(torch.autograd.Function):
    """The operator with its gradient, which is an operator again."""

    @staticmethod
    def forward(ctx: Any, pair: _Pair, keyset: Any, signature: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.pair, ctx.signature = pair, signature
        ctx.save_for_backward(*tensors)
        return tuple(computed(pair.operator, keyset, tensors, signature))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tensors, pair = ctx.saved_tensors, ctx.pair
        if all(map(has_memory, grads)):
            return (None, None, None, *pair.backward(grads, tensors, ctx.signature))
        return (None, None, None, *gradients_of(pair.parse(ctx.signature).composed, tensors, grads))  # a batch


class _Gradients(torch.autograd.Function):
    """The gradients with their gradient: by :meth:`Shape.second`, else in terms of torch's operations."""

    @staticmethod
    def forward(
        ctx: Any, pair: _Pair, keyset: Any, num_grads: int, signature: str, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.num_grads, ctx.shape = num_grads, pair.parse(signature)
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return tuple(computed(pair.backward, keyset, tensors[:num_grads], tensors[num_grads:], signature))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        shape, saved, count = ctx.shape, ctx.saved_tensors, ctx.num_grads
        result = None
        if all(value is None or has_memory(value) for value in cotangents):
            result = shape.second(saved[:count], saved[count:], cotangents)
        if result is None:
            result = second_gradients_of(shape.composed, saved, count, cotangents)
        return (None, None, None, None, *result)


def _run(name: str, shape: Shape, tensors: Sequence[Tensor], *others: Sequence[Tensor]) -> None:
    count = shape.num_features
    tensors = [*tensors[:count], *[parameter.contiguous() for parameter in tensors[count:]]]
    call = structure(shape.members(tensors, *others))
    if getattr(compiled(tensors[0].dtype), name)(call, int(bool(others[1]))):
        raise MemoryError(f"the compiled operator {name} found no memory")
