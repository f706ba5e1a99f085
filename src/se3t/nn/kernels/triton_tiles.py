"""Products with radial weights that exist in registers only, as Triton kernels.

The radial weights of one order are W[e, d, w] = Σ_r h[e, r] A[d, r, w] + b[d, w]: hidden features of an edge times the
last layer. Three kernels need them, and each makes a tile of edges and columns when it needs it, and forgets it
(:mod:`se3t.nn.kernels.triton_programs`):

- :func:`contract`: Σ_d x[e, d] W[e, d, w], the message; with the roles of d and w exchanged, the gradient of x;
- :func:`hidden_gradients`: Σ_{d, w} x[e, d] g[e, w] A[d, r, w];
- :func:`layer_gradients`: Σ_e h[e, r] x[e, d] g[e, w].

Several rows x (the components ±m of both edges of a reciprocal pair) share the weights of an edge. The products with
the hidden features run on the matrix units, in the dtype of the tensors given; everything else, and every sum, is in
float32 (float64 for float64). Edges are the last, contiguous dimension of x and g.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from se3t.nn.kernels import triton_programs
from se3t.nn.kernels.tilings import Case, Tiling, tiling_of
from se3t.nn.kernels.triton_plan import Blocks, Plan, plan

DEPTHS = 4
"""Columns d that one program of :func:`layer_gradients` serves, so that it reads g once for all of them."""
_PROGRAMS = 512  # enough to fill a GPU: a sum over edges is split until there are as many
_SPLIT = 256  # edges of a part of a sum over edges are a multiple of this, which every tile divides
on_launch: Callable[[Case, Callable[[Tiling], Tensor]], Tensor] | None = None
"""Takes every launch and repeats it with tile sizes of its choice: for ``python -m benchmarks tiles``."""


INTERPRETED = not isinstance(triton_programs.contract, triton.JITFunction)
"""Whether Triton interprets the kernels (TRITON_INTERPRET=1) instead of compiling them; on any device, and slowly."""


def contract(
    blocks: Blocks, left: Tensor, hidden: Tensor, layer: Tensor, precision: str, tiling: Tiling | None = None
) -> Tensor:
    """Σ_d x[e, d] W[e, d, w] for every row x.

    Args:
        blocks: of the layer.
        left: x, ``[row, d, edge]``, 1, 2 or 4 rows, contiguous.
        hidden: h, ``[trunk, edge, r]``, contiguous.
        layer: A, ``[d, r + 1, w]`` in the dtype of ``hidden``; the last row is the bias.
        precision: of float32 products: ``ieee`` or ``tf32``.
        tiling: None: the one for this case, see :func:`se3t.nn.kernels.tilings.tiling_of`.

    Returns:
        ``[row, w, edge]``, float32 or better.
    """
    rows, _, edges = left.shape
    case = _case("contract", blocks, rows, hidden.shape[2], hidden.dtype, precision)
    if on_launch is not None and tiling is None:
        return on_launch(case, partial(contract, blocks, left, hidden, layer, precision))
    tables, tiling = _planned(blocks, case, tiling, left.device)
    out = left.new_empty(rows, tables.width, edges, dtype=_sum_dtype(hidden))
    if edges:
        triton_programs.contract[(triton.cdiv(edges, tiling.edges), len(tables.tiles))](
            left,
            hidden,
            layer,
            out,
            tables.tiles,
            tables.items,
            tables.items.shape[1],
            edges,
            hidden.shape[2],
            left.stride(0),
            out.stride(0),
            *layer.stride(),
            **_constants(tables, tiling, rows, hidden.shape[2], hidden.dtype, precision),
        )
    return out


def hidden_gradients(
    blocks: Blocks,
    left: Tensor,
    right: Tensor,
    layer: Tensor,
    num_trunks: int,
    precision: str,
    tiling: Tiling | None = None,
) -> Tensor:
    """Σ_{d, w} x[e, d] g[e, w] A[d, r, w], summed over the rows.

    Args:
        blocks: of the layer.
        left: x, ``[row, d, edge]``, contiguous.
        right: g, ``[row, w, edge]``, contiguous.
        layer: A, ``[d, r + 1, w]``.
        num_trunks: number of trunks.
        precision: see :func:`contract`.
        tiling: see :func:`contract`.

    Returns:
        ``[trunk, edge, r]``, float32 or better.
    """
    rows, _, edges = left.shape
    units = layer.shape[1] - 1
    case = _case("hidden_gradients", blocks, rows, units, layer.dtype, precision)
    if on_launch is not None and tiling is None:
        return on_launch(case, partial(hidden_gradients, blocks, left, right, layer, num_trunks, precision))
    tables, tiling = _planned(blocks, case, tiling, left.device)
    slots = left.new_empty(len(tables.slots), edges, units, dtype=_sum_dtype(layer))
    if edges:
        triton_programs.hidden_gradients[(triton.cdiv(edges, tiling.edges), len(tables.slots))](
            left,
            right,
            layer,
            slots,
            tables.tiles,
            tables.slots,
            tables.ranges,
            edges,
            units,
            left.stride(0),
            right.stride(0),
            *layer.stride(),
            **_constants(tables, tiling, rows, units, layer.dtype, precision),
        )
    return tables.by_trunk(slots, num_trunks)


def layer_gradients(
    blocks: Blocks, left: Tensor, right: Tensor, hidden: Tensor, precision: str, tiling: Tiling | None = None
) -> Tensor:
    """Σ_e h[e, r] x[e, d] g[e, w], summed over the rows; for the bias h = 1.

    Args:
        blocks: of the layer.
        left: x, ``[row, d, edge]``, contiguous.
        right: g, ``[row, w, edge]``, contiguous.
        hidden: h, ``[trunk, edge, r]``, contiguous.
        precision: see :func:`contract`.
        tiling: see :func:`contract`.

    Returns:
        ``[d, r + 1, w]``, float32 or better. The sum over edges has a fixed order.
    """
    rows, depth, edges = left.shape
    units = hidden.shape[2]
    case = _case("layer_gradients", blocks, rows, units, hidden.dtype, precision)
    if on_launch is not None and tiling is None:
        return on_launch(case, partial(layer_gradients, blocks, left, right, hidden, precision))
    tables, tiling = _planned(blocks, case, tiling, left.device)
    programs = tables.blocks.shape[0] * tables.blocks.shape[1]
    parts = triton.cdiv(edges, _SPLIT)
    parts_of_a_split = max(1, triton.cdiv(parts, max(1, _PROGRAMS // programs)))
    num_splits = triton.cdiv(parts, parts_of_a_split)
    out = left.new_empty(num_splits, depth, units, tables.width, dtype=_sum_dtype(hidden))
    if edges:
        triton_programs.layer_gradients[(tables.blocks.shape[1], tables.blocks.shape[0], num_splits)](
            left,
            right,
            hidden,
            out,
            tables.tiles,
            tables.blocks,
            edges,
            units,
            tables.width,
            parts_of_a_split * _SPLIT,
            left.stride(0),
            right.stride(0),
            out.stride(0),
            **_constants(tables, tiling, rows, units, hidden.dtype, precision),
        )
    total = out.new_empty(depth, units + 1, tables.width)
    torch.sum(out, dim=0, out=total[:, :-1])
    torch.sum(torch.bmm(left, right.mT).to(total.dtype), dim=0, out=total[:, -1])
    return total


def _sum_dtype(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)


@cache
def _case(kernel: str, blocks: Blocks, rows: int, units: int, dtype: torch.dtype, precision: str) -> Case:
    word = precision if precision == "tf32" and dtype == torch.float32 else str(dtype).removeprefix("torch.")
    return Case(kernel, word, rows, _padded(units), blocks.columns)


@cache
def _planned(blocks: Blocks, case: Case, tiling: Tiling | None, device: torch.device) -> tuple[Plan, Tiling]:
    tiling = tiling or tiling_of(case, device)
    return plan(blocks, tiling.columns, DEPTHS, device), tiling


def _constants(
    tables: Plan, tiling: Tiling, rows: int, units: int, dtype: torch.dtype, precision: str
) -> dict[str, Any]:
    return {
        "ROWS": rows,
        "EDGES": tiling.edges,
        "WIDTH": tables.tile,
        "UNITS": _padded(units),
        "PRECISION": precision,
        "SUM": tl.float64 if dtype == torch.float64 else tl.float32,
        "WIDEN": INTERPRETED and dtype.itemsize == 2,
        "num_warps": tiling.warps,
        "num_stages": tiling.stages,
        "enable_fp_fusion": True,
    }


def _padded(units: int) -> int:
    return max(16, triton.next_power_of_2(units))
