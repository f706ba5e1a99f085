"""What torch.compile and torch.export need: operators, constants of a traced program, values made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, wraps
from typing import Any, Generic, TypeAlias, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes

Operator: TypeAlias = Any
Value = TypeVar("Value")
Function = TypeVar("Function", bound=Callable[..., Any])
_TRACING = (torch._C._TorchDispatchModeKey.FAKE, torch._C._TorchDispatchModeKey.PROXY)
_library = torch.library.Library("se3t", "FRAGMENT")
_on_cpu: dict[Operator, Callable[..., Any]] = {}


def constant(function: Function) -> Function:
    """Cache the results of ``function``, which are no tensors; in a traced program a result is a constant.

    ``torch.compiler.assume_constant_result`` sets the same mark, but imports the compiler, which takes seconds.
    """
    call = _cached(function)
    call._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def _cached(function: Callable[..., Value]) -> Callable[..., Value]:
    """As made outside of any tracing and of inference mode: results are kept for later calls."""

    @cache
    def make(*arguments: Any) -> Value:
        is_traced = any(torch._C._get_dispatch_mode(mode) is not None for mode in _TRACING)
        with _disable_current_modes() if is_traced else nullcontext(), torch.inference_mode(False):
            return function(*arguments)

    @wraps(function)
    def call(*arguments: Any) -> Value:
        return make(*arguments)

    call.cache_clear = make.cache_clear  # type: ignore[attr-defined]
    return call


_tables: dict[str, Callable[..., Tensor]] = {}


def table(shape: Callable[..., tuple[int, ...]]) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Cache the constant tensors of a function of whole numbers, dtype and device; an operator for ``torch.compile``.

    Args:
        shape: of the tensor, from the same whole numbers.
    """

    def decorate(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        # Never dropped: captured training steps read it where it lies. Programs are saved without views.
        cached = _cached(lambda *arguments: function(*arguments).contiguous())
        name = f"{function.__module__}.{function.__name__}"
        _tables[name] = cached

        @wraps(function)
        def call(*arguments: Any) -> Tensor:
            if not torch.compiler.is_dynamo_compiling():  # programs of torch.export keep the tensor
                return cached(*arguments)
            *numbers, dtype, device = arguments
            result: Tensor = torch.ops.se3t.table(name, numbers, shape(*numbers), dtype, device)
            return result

        return call

    return decorate


_library.define("table(str name, int[] numbers, SymInt[] shape, ScalarType dtype, Device device) -> Tensor")
_library.impl(
    "table",
    lambda name, numbers, shape, dtype, device: _tables[name](*numbers, dtype, device).clone(),
    "CompositeExplicitAutograd",
)
torch.library.register_fake(
    "se3t::table",
    lambda name, numbers, shape, dtype, device: torch.empty(shape, dtype=dtype, device=device),
    lib=_library,
)


def apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """``function.apply`` with less overhead, or ``function.forward``, which must consist of differentiable operations.

    The latter under ``torch.func`` and in forward mode, as these functions have no rules for ``vmap`` and ``jvp``, and
    where nothing requires a gradient: in a traced program torch 2.13 then hands a context to every
    ``forward(*tensors)``, also beside ``setup_context``. The overhead, 50 µs, is binding the arguments to the signature
    of ``forward``, for torch.func.
    """
    is_compiling = torch.compiler.is_compiling()
    is_dual = not is_compiling and forward_ad._current_level >= 0
    if is_dual or torch._C._are_functorch_transforms_active():
        return function.forward(*arguments)
    wants_gradient = any(isinstance(argument, Tensor) and argument.requires_grad for argument in arguments)
    if not (torch.is_grad_enabled() and wants_gradient):
        return function.forward(*arguments)
    if is_compiling:
        return function.apply(*arguments)
    return super(torch.autograd.Function, function).apply(*arguments)  # type: ignore[misc]


def entries(module: nn.Module, names: Sequence[str]) -> list[Tensor]:
    """Parameters of a module or a ``ParameterDict``, faster than attribute access."""
    parameters = module._parameters
    try:
        return [parameters[name] for name in names]  # type: ignore[misc]
    except KeyError:  # parametrised, or held as a view of something larger
        return [getattr(module, name) for name in names]


def without_autocast(device: str) -> AbstractContextManager[object]:
    """No casts within; no context where there would be none anyway: programs of torch.export cannot keep one."""
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def export(model: nn.Module, example: Any, *others: Any) -> torch.export.ExportedProgram:
    """A program of ``torch.export`` for arguments of other sizes, one and zero included.

    Args:
        model: of one argument, such as a :class:`se3t.graph.Graph`.
        example: such an argument.
        others: more of them; a size of the program is free where they differ, and fixed where none does.
    """
    from torch.export import AdditionalInputs, Dim  # imports the compiler, which takes seconds
    from torch.fx.experimental import _config
    from torch.utils._pytree import tree_map

    sizes = AdditionalInputs()
    for other in others:
        sizes.add((other,))

    def fixed(shape: Any) -> Any:
        return tuple(Dim.STATIC if size is None else size for size in shape) if isinstance(shape, tuple) else shape

    shapes = tree_map(fixed, sizes.dynamic_shapes(model, (example,)), is_leaf=lambda value: isinstance(value, tuple))
    # torch takes zero and one for other cases than any other size
    with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return torch.export.export(model, (example,), dynamic_shapes=shapes)


class lazy(Generic[Value]):
    """``functools.cached_property`` without the lock that it takes up to Python 3.11 and that cannot be traced."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[Value]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...
    def __get__(self, instance: object | None, owner: type) -> lazy[Value] | Value:
        if instance is None:
            return self
        value = self.compute(instance)
        instance.__dict__[self.name] = value
        return value


def register(
    schema: str,
    compute: Callable[..., Sequence[Tensor]],
    shapes: Callable[..., Sequence[Tensor]],
    differentiable: Callable[..., Sequence[Tensor]],
    device: str = "CPU",
) -> Operator:
    """Define ``torch.ops.se3t.<name>``.

    The Autograd key gets a function of our own: ``torch.library.register_autograd`` does the same, but flattens and
    checks its arguments in Python at every call, which costs more than the compiled code of a small layer.

    Args:
        schema: name, arguments and results in the notation of ``torch.library``.
        compute: the results.
        shapes: results of the same shapes, dtypes and strides, without numbers, for tracing.
        differentiable: keyset, arguments → results with their gradients; the results are those of :func:`computed`.
        device: dispatch key of ``compute``; ``CompositeExplicitAutograd`` stands for every device.

    Returns:
        The operator.
    """
    name = schema[: schema.index("(")]
    _library.define(schema)
    operator = getattr(torch.ops.se3t, name).default

    def record(keyset: Any, *arguments: Any) -> Sequence[Tensor]:
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*arguments):
            return differentiable(keyset, *arguments)
        return computed(operator, keyset, *arguments)

    if device == "CPU":
        _on_cpu[operator] = compute
    _library.impl(name, compute, device)
    _library.impl(name, record, "Autograd", with_keyset=True)
    torch.library.register_fake(f"se3t::{name}", shapes, lib=_library)
    torch.library.register_vmap(f"se3t::{name}", _no_vmap(name), lib=_library)
    return operator


def computed(operator: Operator, keyset: Any, *arguments: Any) -> list[Tensor]:
    """Results of an operator whose gradient is not recorded.

    Args:
        operator: result of :func:`register`.
        keyset: as ``differentiable`` got it.
        arguments: of the operator.
    """
    if operator in _on_cpu and _comes_next_on_cpu(keyset.raw_repr()):
        return _on_cpu[operator](*arguments)  # as the dispatcher would, which costs more
    return operator.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)


@cache
def _comes_next_on_cpu(raw_keyset: int) -> bool:
    """Whether the dispatcher goes from the Autograd key to the CPU key."""
    rest = torch._C.DispatchKeySet.from_raw_repr(raw_keyset) & torch._C._after_autograd_keyset
    return bool(rest.highestPriorityTypeId() == torch._C.DispatchKey.CPU)


def copied(values: Sequence[Tensor], to: Sequence[Tensor]) -> list[Tensor]:
    """The values in the memory layout of other tensors: compiled programs read results as ``shapes`` lays them out."""
    return [place.copy_(value) for place, value in zip(to, values, strict=True)]


def without_none(grads: Sequence[Tensor | None]) -> list[Tensor]:
    """Operators return tensors: one without numbers where there is no gradient."""
    return [torch.empty(0) if grad is None else grad for grad in grads]


def _no_vmap(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise NotImplementedError(
            f"torch.ops.se3t.{name} has no vmap rule; layers choose torch's own operations under torch.func.vmap"
        )

    return refuse
