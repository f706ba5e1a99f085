"""Models of the released codes, made from plain values as a file of converted weights holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from se3t.compat.layers import ReleasedBlock, ReleasedConv, ReleasedSettings
from se3t.errors import UserError, did_you_mean
from se3t.fiber import Fiber
from se3t.geometry import edge_fiber
from se3t.models.se3_transformer import SE3Transformer
from se3t.models.tfn import TFN
from se3t.nn import NormNonlinearity, Readout

_FIBERS = ("fiber_in", "fiber_hidden", "fiber_out", "fiber_last", "fiber_edge")
_MODEL = (*_FIBERS, "relative_position", "norm", "norm_options", "pooling", "head")
_BLOCK = ("num_heads", "channels_div", "fiber_value", "self_interaction", "skip", "fuse_key_value")


class _Released(nn.Module):
    """The forward pass of the model that a subclass names besides, with other layers.

    Args:
        fiber_in, fiber_hidden, fiber_out, fiber_edge, relative_position: as of :class:`SE3Transformer`.
        layer_specs: for each layer whether it is an attention block, and its options: those of :class:`ReleasedBlock`
            or :class:`ReleasedConv` and of :class:`ReleasedSettings`.
        fiber_last: types and channels of the last layer, where they are not those of the output.
        norm: kind of the norm nonlinearity. norm_options: its further arguments.
        pooling, head: see :class:`se3t.nn.Readout`.
    """

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_hidden: Fiber,
        fiber_out: Fiber,
        layer_specs: Sequence[tuple[bool, dict[str, Any]]],
        *,
        fiber_last: Fiber | None = None,
        fiber_edge: Fiber | None = None,
        relative_position: str = "none",
        norm: str = "bias",
        norm_options: Mapping[str, Any] | None = None,
        pooling: str | None = None,
        head: bool = False,
    ) -> None:
        nn.Module.__init__(self)
        self.fiber_in, self.fiber_hidden, self.fiber_out = fiber_in, fiber_hidden, fiber_out
        self.relative_position, self.fiber_edge = relative_position, edge_fiber(fiber_edge, relative_position)
        fibers = [fiber_in, *[fiber_hidden] * (len(layer_specs) - 1), fiber_last or fiber_out]
        self.layers = nn.ModuleList()  # drawn last, as in the other models
        self.norms = nn.ModuleList(NormNonlinearity(fiber, norm, **norm_options or {}) for fiber in fibers[1:-1])
        self.readout = Readout(fibers[-1], fiber_out, pooling=pooling, head=head)
        self.layers.extend(
            _layer(is_attention, *pair, {**options, "fiber_edge": self.fiber_edge})
            for pair, (is_attention, options) in zip(pairwise(fibers), layer_specs, strict=True)
        )


class ReleasedSE3Transformer(_Released, SE3Transformer):
    """An SE(3)-Transformer with layers of the released codes."""


class ReleasedTFN(_Released, TFN):
    """A Tensor Field Network with layers of the released codes."""


_CLASSES: dict[str, type[_Released]] = {"se3_transformer": ReleasedSE3Transformer, "tfn": ReleasedTFN}


def model_from_arguments(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The model that a file of converted weights describes.

    Args:
        name: ``se3_transformer`` or ``tfn``.
        arguments: of the model (see :class:`_Released`); ``num_layers``; ``last``, ``attention`` or ``convolution``;
            options of all layers, and in ``layer_options`` those of single ones. Fibers are words as ``"16x0+16x1"``.

    Raises:
        UserError: for an unknown name.
        ValueError, TypeError: for arguments that the model cannot have.
    """
    if name not in _CLASSES:
        raise UserError(f"model: no model is called {name!r} in a released code; {did_you_mean(name, _CLASSES)}")
    rest = _with_fibers(arguments)
    model_options = {key: rest.pop(key) for key in _MODEL if key in rest}
    return _CLASSES[name](**model_options, layer_specs=list(_layer_specs(name, **rest)))


def _layer_specs(
    name: str,
    *,
    num_layers: int = 4,
    last: str = "attention",
    layer_options: Sequence[Mapping[str, Any]] = (),
    **common: Any,
) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Whether a layer is an attention block, and its options: the common ones, overridden by its own."""
    if last not in ("attention", "convolution"):
        raise ValueError(f"last={last!r}: expected attention or convolution")
    if layer_options and len(layer_options) != num_layers:
        raise ValueError(
            f"layer_options: expected one mapping for each of {num_layers} layers, got {len(layer_options)}"
        )
    for number, options in enumerate(layer_options or [{}] * num_layers, 1):
        is_attention = name != "tfn" and not (number == num_layers and last == "convolution")
        kept = {key: value for key, value in common.items() if is_attention or name == "tfn" or key not in _BLOCK}
        yield is_attention, {**kept, **options}


def _layer(is_attention: bool, fiber_in: Fiber, fiber_out: Fiber, options: dict[str, Any]) -> nn.Module:
    if is_attention:
        block = {name: options.pop(name) for name in _BLOCK if name in options}
        return ReleasedBlock(fiber_in, fiber_out, ReleasedSettings(**options), **block)
    reduce, bias = options.pop("reduce", "sum"), options.pop("self_interaction_bias", False)
    return ReleasedConv(fiber_in, fiber_out, ReleasedSettings(**options), reduce=reduce, bias=bias)


def _with_fibers(arguments: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(arguments)
    for name, value in arguments.items():
        if name.startswith("fiber_") and isinstance(value, str):
            out[name] = Fiber(value)
        elif name == "layer_options":
            out[name] = [_with_fibers(options) for options in value]
    return out
