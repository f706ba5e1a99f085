"""Which precisions layers compute in. Sums are taken in float32 at least, whatever the precision of their terms."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from se3t.errors import UserError
from se3t.geometry import require_digits
from se3t.graph import Graph, require_graph

Forward = TypeVar("Forward", bound=Callable[..., Any])
_SUPPORTED = (torch.float32, torch.float64)


def at_least_float32(value: Tensor) -> Tensor:
    """``value`` in float32 where it has fewer bits, else as it is: terms of a sum over edges or features."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def full_range(forward: Forward) -> Forward:
    """Of ``forward(features, …)`` of a layer: parameters are float32 or float64, and float16 never overflows.

    Float16 ends at 65504, which sums of products and squares of features exceed: under its autocast the layer computes
    in float32. bfloat16 has the range of float32, and is left to autocast.

    Raises:
        UserError: by the layer, when its parameters have another precision.
    """

    @wraps(forward)
    def checked(self: nn.Module, *arguments: Any, **named: Any) -> Any:
        require_supported(self)
        device = _device_of(arguments)
        if not _is_float16(device):
            return forward(self, *arguments, **named)
        with torch.autocast(device, enabled=False):
            return forward(self, *map(_wide, arguments), **named)

    return cast(Forward, checked)


def require_supported(module: nn.Module, graph: Graph | None = None) -> None:
    """Refuse parameters, and positions, in half precision, and what is no graph, before anything is computed.

    Raises:
        UserError: naming the way that works, and the layer where it is one.
    """
    if graph is not None:
        require_graph(graph)
        require_digits(graph.positions)
    parameter = _first_parameter(module)
    if parameter is not None and parameter.dtype not in _SUPPORTED:
        name = str(parameter.dtype).removeprefix("torch.")
        raise UserError(
            f"{type(module).__name__}: its parameters are {name}, expected float32 or float64; keep the model in "
            f"float32 and compute under torch.autocast({parameter.device.type!r}, torch.{name})"
        )


def _first_parameter(module: nn.Module) -> Tensor | None:
    """``next(module.parameters(), None)``, which collects names and is slower."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        found = None if child is None else _first_parameter(child)
        if found is not None:
            return found
    return None


def _is_float16(device: str) -> bool:
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return False
    return torch.get_autocast_dtype(device) == torch.float16


def _device_of(arguments: tuple[Any, ...]) -> str:
    for argument in arguments:
        for value in argument.values() if isinstance(argument, dict) else ():
            return str(value.device.type)
    return "cpu"


def _wide(argument: Any) -> Any:
    if isinstance(argument, dict):
        return {degree: at_least_float32(value) for degree, value in argument.items()}
    return argument
