"""The kernel in the frame of the edge for a GPU: the radial weights exist in registers only (Triton).

What :mod:`se3t.nn.kernels.edge_frame` computes, with products and gradients of :mod:`se3t.nn.kernels.triton_tiles`.
Second derivatives are left to torch's operations.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis
from se3t.nn.kernels import Sources, edge_frame
from se3t.nn.kernels.chunked import Inputs, fold, fused_messages, unfold
from se3t.nn.kernels.orders import Layout, assemble, disassemble
from se3t.nn.kernels.triton_plan import Blocks
from se3t.nn.radial import RadialNetwork

log = logging.getLogger(__name__)


def messages(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
    """The same sum as the reference kernel, arguments and result alike; ``memory`` has no effect.

    The products with the radial weights are taken in the dtype of autocast where it is enabled; otherwise float32
    follows ``torch.get_float32_matmul_precision()``: TF32 unless that is "highest". Sums are in float32 at least, and
    so are the messages. Where the kernel cannot run, ``edge_frame`` does, and the log says so once.
    """
    device, dtype = basis.geometry.length.device, basis.geometry.length.dtype
    reason = unavailable(device, dtype)
    if reason is not None:
        _say_once(reason)
        return edge_frame.messages(sources, radial, basis, memory)
    given = edge_frame.ingredients(sources, radial, basis)
    # Under autocast, 16 bits are for the products of the kernel only; not for rotations, nor for what is kept.
    features = {degree: value.to(dtype) for degree, value in given.features.items()}
    hidden = [trunk.to(dtype) for trunk in given.hidden]
    precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    low = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    arguments = (given.layout, features, given.frames, hidden, given.layers)
    out = fused_messages(partial(_composed, low, given.layout), *arguments, engine=partial(_Tiles, low, precision))
    return edge_frame.mend(out, features, hidden, radial, basis)


def unavailable(device: torch.device | str, dtype: torch.dtype = torch.float32) -> str | None:
    """Why the kernel cannot run for positions on a device and of a dtype, in words; None where it can."""
    device = torch.device(device)
    if dtype not in (torch.float32, torch.float64):
        return f"positions are in {dtype}: it takes float32 or float64, and fewer bits under autocast"
    if find_spec("triton") is None:
        return "the package triton is not installed (pip install triton; there is none for macOS and Windows)"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return _interpreter_fault(_tiles().triton.__version__, version("numpy"))
    if device.type != "cuda":
        return f"it needs a CUDA device, the tensors are on {device.type}"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or later (Ampere)"
    return None


def _interpreter_fault(triton: str, numpy: str) -> str | None:
    """Loops over tensors need a conversion that NumPy has given up, and Triton since 3.7 does without."""
    ours, theirs = (tuple(map(int, text.split(".")[:2])) for text in (triton, numpy))
    if ours < (3, 7) and theirs >= (2, 5):
        return f"the interpreter of Triton {triton} does not work with NumPy {numpy}; it takes Triton 3.7 or NumPy 2.4"
    return None


@cache
def _say_once(reason: str) -> None:
    log.warning("kernel triton: %s; kernel edge_frame is used instead", reason)


def _tiles() -> ModuleType:
    from se3t.nn.kernels import triton_tiles  # only where Triton is installed

    return triton_tiles


def _composed(dtype: torch.dtype | None, layout: Layout, features: Features, *others: Any) -> Features:
    """All edges at once in terms of torch's operations, under the autocast of the forward pass."""
    some = features[layout.fiber_in.degrees[0]]
    with torch.autocast(some.device.type, dtype=dtype, enabled=dtype is not None):
        out = edge_frame.composed_messages(layout, features, *others)
    return {degree: value.to(some.dtype) for degree, value in out.items()}


class _Tiles:
    """Products with radial weights that are made where they are needed, and their gradients; without autograd."""

    def __init__(self, dtype: torch.dtype | None, precision: str, layout: Layout, inputs: Inputs) -> None:
        self.dtype, self.precision, self.layout = dtype, precision, layout
        self.hidden = self._cast(torch.stack(inputs.hidden)).contiguous()  # [trunk, unique, r]
        folded = {pair: fold(layout, inputs, pair) for pair in layout.pairs}
        self.layers = [self._cast(layer) for layer in assemble(folded, layout)]  # per order [r + 1, (l w), (a|b k u)]

    def _cast(self, value: Tensor) -> Tensor:
        return value if self.dtype is None or value.dtype == torch.float64 else value.to(self.dtype)

    def _edges_last(self, values: Sequence[Tensor]) -> list[Tensor]:
        return [self._cast(value).permute(1, 2, 0).contiguous() for value in values]

    def _blocks(self, order: int) -> Blocks:
        layout = self.layout
        rows = [l for l in layout.fiber_out if l >= order]
        columns = [k for k in layout.fiber_in if k >= order] * (1 if order == 0 else 2)
        widths, depths = tuple(layout.fiber_out[l] for l in rows), tuple(layout.fiber_in[k] for k in columns)
        return Blocks(depths, widths, tuple(tuple(layout.trunk_of[l, k] for l in rows) for k in columns))

    def products(self, lefts: Sequence[Tensor]) -> list[Tensor]:
        """See :meth:`se3t.nn.kernels.chunked.Chunks.products`."""
        out = []
        for order, left in enumerate(self._edges_last(lefts)):
            layer = self.layers[order].permute(2, 0, 1).contiguous()
            out.append(_tiles().contract(self._blocks(order), left, self.hidden, layer, self.precision))
        return [value.permute(2, 0, 1) for value in out]

    def gradients(self, lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> list[Tensor]:
        """See :meth:`se3t.nn.kernels.chunked.Chunks.gradients`."""
        tiles, hidden, precision = _tiles(), self.hidden, self.precision
        out, hidden_grads, self.layer_grads = [], [], []
        for order, (left, right) in enumerate(zip(self._edges_last(lefts), self._edges_last(rights), strict=True)):
            blocks = self._blocks(order)
            layer = self.layers[order].permute(2, 0, 1).contiguous()  # [(a|b k u), r + 1, (l w)]
            back = self.layers[order].permute(1, 0, 2)  # [(l w), r + 1, (a|b k u)]
            out.append(tiles.contract(blocks.transposed, right, hidden, back, precision))
            hidden_grads.append(tiles.hidden_gradients(blocks, left, right, layer, len(hidden), precision))
            grad = tiles.layer_gradients(blocks, left, right, hidden, precision)
            self.layer_grads.append(grad.permute(1, 2, 0))
        self.hidden_grads = torch.stack(hidden_grads).sum(0) if len(hidden_grads) > 1 else hidden_grads[0]
        return [value.permute(2, 0, 1) for value in out]

    def hidden_gradients(self) -> Iterator[Tensor]:
        """Of every trunk."""
        yield from self.hidden_grads

    def layer_gradients(self) -> Iterator[Tensor]:
        """Weight and bias of every pair."""
        yield from unfold(self.layout, disassemble(self.layer_grads, self.layout))
