"""Another device without having one: tensors that say they lie elsewhere, with values computed on the CPU.

As on a GPU, an operation on tensors of two devices is an error, and what the host has to wait for is listed. The
device's name is ``meta``, which every build of torch knows; but its tensors have values, so that all code runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("meta")
FIRST = torch.device("meta", 0)
"""Where its tensors say they are: as on a GPU, the first of its kind."""
READS = {
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "equal",
    "nonzero",
    "nonzero_static",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "masked_select",
    "bincount",
    "repeat_interleave",
}
"""Operations for whose results, or their shapes, the host waits; and so does a boolean mask as an index."""
COPIES = {"_to_copy", "copy_"}


class ValueReads(TorchDispatchMode):
    """Lists the operations that make the host read values of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.note(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def note(self, func: Any, args: Any, kwargs: Any) -> None:
        """Append what this operation reads."""
        name = func.overloadpacket.__name__
        # With a number of repeats, or the size of the result given, nothing is read.
        if name in READS and not (name == "repeat_interleave" and kwargs.get("output_size") is not None):
            self.found.append(name)
        if name.startswith("index") and name != "index_select":
            masks = [index for index in args[1] or [] if index is not None] if isinstance(args[1], list | tuple) else []
            self.found += [f"{name} by a mask" for index in masks if index.dtype in (torch.bool, torch.uint8)]


@contextmanager
def reads() -> Iterator[list[str]]:
    """What is read within, on any device."""
    with ValueReads() as mode:
        yield mode.found


class DeviceMixing(RuntimeError):
    """An operation got tensors of two devices."""


class Elsewhere(Tensor):
    """A tensor on :data:`FIRST`, with its values in ``inner``."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        made = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=FIRST, **layout)
        made.inner = inner
        return made

    def untyped_storage(self) -> torch.UntypedStorage:
        """It has memory of its own."""
        return self.inner.untyped_storage()

    def tolist(self) -> Any:
        """As lists, by way of the CPU."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: outside of the other device's mode")


class OtherDevice(ValueReads):
    """Makes :data:`DEVICE` a device; lists what the host reads there, and copies between it and the host.

    Raises:
        DeviceMixing: by an operation on tensors of the device and of the CPU. A GPU takes a number on the CPU beside
            its tensors (so does this), and indices on the CPU, which it copies first (this does not).
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        wanted = kwargs.get("device")
        is_wanted = wanted is not None and wanted.type == DEVICE.type
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        there = [isinstance(value, Elsewhere) for value in tensors]
        name = func.overloadpacket.__name__
        if not any(there) and not is_wanted:
            return func(*args, **kwargs)
        is_there = is_wanted if wanted is not None else any(there)
        if name in COPIES:
            self._note_copy(name, tensors, is_there, kwargs)
            is_there = is_there if name == "_to_copy" else there[0]
        else:
            self.note(func, args, kwargs)
            self._check(func, tensors)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        inner_args, inner_kwargs = tree_map_only(Elsewhere, lambda value: value.inner, (args, kwargs))
        out = func(*inner_args, **inner_kwargs)
        if torch.Tag.inplace_view in func.tags:  # such as squeeze_: changes what the outer tensor says of itself, too
            with no_dispatch():
                func(*args, **kwargs)
        own = {id(value.inner): value for value in tensors if isinstance(value, Elsewhere)}
        if not is_there:
            return out
        # What was written in place comes back as the same tensor.
        return tree_map_only(Tensor, lambda value: own[id(value)] if id(value) in own else Elsewhere(value), out)

    def _note_copy(self, name: str, tensors: list[Tensor], to_device: bool, kwargs: Any) -> None:
        if name == "copy_":
            to_device = isinstance(tensors[0], Elsewhere)
        if isinstance(tensors[-1], Elsewhere) == to_device:
            return
        if not to_device:
            self.found.append("to the host")
        elif not kwargs.get("non_blocking"):  # else the values are taken over at once, and the host goes on
            self.found.append("to the device")

    def _check(self, func: Any, tensors: list[Tensor]) -> None:
        numbers = torch.Tag.pointwise in func.tags
        here = [value for value in tensors if not isinstance(value, Elsewhere) and (value.dim() > 0 or not numbers)]
        if here:
            shapes = ", ".join(str(list(value.shape)) for value in here)
            raise DeviceMixing(f"{func}: tensors on the CPU ({shapes}) beside tensors on the device")


def here(value: Any) -> Any:
    """The same with all tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: here(part) for key, part in value.items()}
    return [here(part) for part in value] if isinstance(value, list | tuple) else value


@contextmanager
def other_device() -> Iterator[list[str]]:
    """Within it :data:`DEVICE` computes; yields what the host reads there, and what is copied between it and the host.

    Autocast knows no such device: there it has that of the CPU.
    """
    with OtherDevice() as mode, ExitStack() as stack:
        for name in ("is_autocast_enabled", "get_autocast_dtype"):
            stack.enter_context(patch.object(torch, name, _known(getattr(torch, name))))
        stack.enter_context(patch.object(torch.autocast, "__init__", _known(torch.autocast.__init__)))
        for name in ("tensor", "as_tensor"):
            stack.enter_context(patch.object(torch, name, _made_here(getattr(torch, name))))
        yield mode.found


def _known(function: Any) -> Any:
    """The function, of a device that it knows."""
    return lambda *words, **named: function(*("cpu" if word == DEVICE.type else word for word in words), **named)


def _made_here(function: Any) -> Any:
    """torch makes tensors of its ``meta`` without values; others are made on the CPU, then copied."""

    def make(data: Any, *, device: Any = None, **named: Any) -> Tensor:
        made: Tensor = function(data, **named)
        return made if device is None else made.to(device)

    return make
