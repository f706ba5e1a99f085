"""Operators on the features of each node alone: how they are registered, called and differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from se3t.compiling import Operator, computed, register
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

    def compute(tensors: Sequence[Tensor], signature: str) -> list[Tensor]:
        shape = parse(signature)
        out = shape.results(tensors)
        if unavailable(tensors[0].device, tensors[0].dtype):  # a program that runs where nothing can be compiled
            return [value.copy_(other) for value, other in zip(out, shape.composed(tensors), strict=True)]
        _run(name, shape, tensors, out, [], [])
        return out

    def compute_backward(grads: Sequence[Tensor], tensors: Sequence[Tensor], signature: str) -> list[Tensor]:
        shape = parse(signature)
        result = shapes_backward(grads, tensors, signature)
        _run(name, shape, tensors, [], grads, result)
        return result

    def shapes(tensors: Sequence[Tensor], signature: str) -> list[Tensor]:
        return parse(signature).results(tensors)

    def shapes_backward(grads: Sequence[Tensor], tensors: Sequence[Tensor], signature: str) -> list[Tensor]:
        count = parse(signature).num_features
        features = [component_major(t.shape[0], t.shape[1], t.shape[2], t) for t in tensors[:count]]
        return [*features, *[parameter.new_empty(parameter.shape) for parameter in tensors[count:]]]

    class Results(torch.autograd.Function):
        """The operator with its gradient, which is an operator again."""

        @staticmethod
        def forward(ctx: Any, keyset: Any, signature: str, *tensors: Tensor) -> tuple[Tensor, ...]:
            ctx.signature = signature
            ctx.save_for_backward(*tensors)
            return tuple(computed(operator, keyset, tensors, signature))

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            tensors = ctx.saved_tensors
            if all(map(has_memory, grads)):
                return (None, None, *backward(grads, tensors, ctx.signature))
            return (None, None, *gradients_of(parse(ctx.signature).composed, tensors, grads))  # a batch of gradients

    class Gradients(torch.autograd.Function):
        """The gradients with their gradient, in terms of torch's operations: differentiable any number of times."""

        @staticmethod
        def forward(ctx: Any, keyset: Any, num_grads: int, signature: str, *tensors: Tensor) -> tuple[Tensor, ...]:
            ctx.num_grads, ctx.signature = num_grads, signature
            ctx.save_for_backward(*tensors)
            ctx.set_materialize_grads(False)
            return tuple(computed(backward, keyset, tensors[:num_grads], tensors[num_grads:], signature))

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
            shape, saved, count = parse(ctx.signature), ctx.saved_tensors, ctx.num_grads
            if all(value is None or has_memory(value) for value in cotangents):
                result = shape.second(saved[:count], saved[count:], cotangents)
                if result is not None:
                    return (None, None, None, *result)
            return (None, None, None, *second_gradients_of(shape.composed, saved, count, cotangents))

    def record(keyset: Any, tensors: Sequence[Tensor], signature: str) -> list[Tensor]:
        return list(Results.apply(keyset, signature, *tensors))

    def record_backward(
        keyset: Any, grads: Sequence[Tensor], tensors: Sequence[Tensor], signature: str
    ) -> list[Tensor]:
        return list(Gradients.apply(keyset, len(grads), signature, *grads, *tensors))

    arguments = "Tensor[] tensors, str signature) -> Tensor[]"
    operator = register(f"{name}({arguments}", compute, shapes, record)
    backward = register(
        f"{name}_backward(Tensor[] grads, {arguments}", compute_backward, shapes_backward, record_backward
    )
    return operator, backward


def _run(name: str, shape: Shape, tensors: Sequence[Tensor], *others: Sequence[Tensor]) -> None:
    count = shape.num_features
    tensors = [*tensors[:count], *[parameter.contiguous() for parameter in tensors[count:]]]
    call = structure(shape.members(tensors, *others))
    if getattr(compiled(tensors[0].dtype), name)(call, int(bool(others[1]))):
        raise MemoryError(f"the compiled operator {name} found no memory")
