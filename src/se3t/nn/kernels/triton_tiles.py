"""Products with radial weights that exist in registers only, as Triton kernels.

The radial weights of one order are W[e, d, w] = Σ_r h[e, r] A[d, r, w] + b[d, w]: hidden features of an edge times the
last layer. Three kernels need them, and each makes a tile of edges and columns when it needs it, and forgets it:

- :func:`contract`: Σ_d x[e, d] W[e, d, w], the message; with the roles of d and w exchanged, the gradient of x;
- :func:`hidden_gradients`: Σ_{d, w} x[e, d] g[e, w] A[d, r, w];
- :func:`layer_gradients`: Σ_e h[e, r] x[e, d] g[e, w].

Several rows x (the components ±m of both edges of a reciprocal pair) share the weights of an edge. The products with
the hidden features run on the matrix units, in the dtype of the tensors given; everything else, and every sum, is in
float32 (float64 for float64). Edges are the last, contiguous dimension of x and g.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from se3t.nn.kernels.tilings import Case, Tiling, tiling_of
from se3t.nn.kernels.triton_plan import Blocks, Plan, plan

DEPTHS = 4
"""Columns d that one program of :func:`layer_gradients` serves, so that it reads g once for all of them."""
_PROGRAMS = 512  # enough to fill a GPU: a sum over edges is split until there are as many
_SPLIT = 256  # edges of a part of a sum over edges are a multiple of this, which every tile divides
on_launch: Callable[[Case, Callable[[Tiling], Tensor]], Tensor] | None = None
"""Given every launch, to be done with tile sizes of its choice, once or several times: for ``se3t bench tiles``."""


@triton.jit
@no_type_check  # of annotations at run time: the names of types below speak to Triton
def _rounded(value, dtype: tl.constexpr, WIDEN: tl.constexpr):
    """In ``dtype``; with WIDEN back in float32, for an interpreter that cannot multiply in 16 bits."""
    value = value.to(dtype)
    return value.to(tl.float32) if WIDEN else value


@triton.jit
@no_type_check
def _outer(left, step, inside, g0, g1, g2, g3, ROWS: tl.constexpr, SUM: tl.constexpr):
    """Gradient of the weights of one column d, [edge, column]: the sum over rows of x g."""
    out = tl.load(left, mask=inside, other=0.0).to(SUM)[:, None] * g0
    if ROWS > 1:
        out += tl.load(left + step, mask=inside, other=0.0).to(SUM)[:, None] * g1
    if ROWS > 2:
        out += tl.load(left + 2 * step, mask=inside, other=0.0).to(SUM)[:, None] * g2
        out += tl.load(left + 3 * step, mask=inside, other=0.0).to(SUM)[:, None] * g3
    return out


@triton.jit
@no_type_check
def _contract(
    left,
    hidden,
    layer,
    out,
    tiles,
    items,
    num_items,
    edges,
    units,
    left_row,
    out_row,
    layer_depth,
    layer_unit,
    layer_width,
    ROWS: tl.constexpr,
    EDGES: tl.constexpr,
    WIDTH: tl.constexpr,
    UNITS: tl.constexpr,
    PRECISION: tl.constexpr,
    SUM: tl.constexpr,
    WIDEN: tl.constexpr,
):
    edge = tl.program_id(0).to(tl.int64) * EDGES + tl.arange(0, EDGES)
    tile = tl.program_id(1)
    column = tl.load(tiles + 2 * tile) + tl.arange(0, WIDTH)
    unit = tl.arange(0, UNITS)
    edge_in, unit_in, column_in = edge < edges, unit < units, column < tl.load(tiles + 2 * tile + 1)
    sum0 = tl.zeros((EDGES, WIDTH), SUM)
    if ROWS > 1:
        sum1 = tl.zeros((EDGES, WIDTH), SUM)
    if ROWS > 2:
        sum2 = tl.zeros((EDGES, WIDTH), SUM)
        sum3 = tl.zeros((EDGES, WIDTH), SUM)
    for number in range(num_items):
        item = items + 3 * (tile * num_items + number)
        row = tl.load(item + 2) * edges + edge
        h = tl.load(hidden + row[:, None] * units + unit[None, :], mask=edge_in[:, None] & unit_in[None, :], other=0.0)
        h = _rounded(h, hidden.dtype.element_ty, WIDEN)
        for depth in range(tl.load(item), tl.load(item + 1)):
            at = layer + depth * layer_depth + column * layer_width
            a = tl.load(at[None, :] + unit[:, None] * layer_unit, mask=unit_in[:, None] & column_in[None, :], other=0.0)
            bias = tl.load(at + units * layer_unit, mask=column_in, other=0.0).to(SUM)
            weight = (
                tl.dot(h, _rounded(a, hidden.dtype.element_ty, WIDEN), input_precision=PRECISION, out_dtype=SUM)
                + bias[None, :]
            )
            x = left + depth * edges + edge
            sum0 += tl.load(x, mask=edge_in, other=0.0).to(SUM)[:, None] * weight
            if ROWS > 1:
                sum1 += tl.load(x + left_row, mask=edge_in, other=0.0).to(SUM)[:, None] * weight
            if ROWS > 2:
                sum2 += tl.load(x + 2 * left_row, mask=edge_in, other=0.0).to(SUM)[:, None] * weight
                sum3 += tl.load(x + 3 * left_row, mask=edge_in, other=0.0).to(SUM)[:, None] * weight
    to = out + column[None, :] * edges + edge[:, None]
    inside = edge_in[:, None] & column_in[None, :]
    tl.store(to, sum0, mask=inside)
    if ROWS > 1:
        tl.store(to + out_row, sum1, mask=inside)
    if ROWS > 2:
        tl.store(to + 2 * out_row, sum2, mask=inside)
        tl.store(to + 3 * out_row, sum3, mask=inside)


@triton.jit
@no_type_check
def _hidden_gradients(
    left,
    right,
    layer,
    out,
    tiles,
    slots,
    ranges,
    edges,
    units,
    left_row,
    right_row,
    layer_depth,
    layer_unit,
    layer_width,
    ROWS: tl.constexpr,
    EDGES: tl.constexpr,
    WIDTH: tl.constexpr,
    UNITS: tl.constexpr,
    PRECISION: tl.constexpr,
    SUM: tl.constexpr,
    WIDEN: tl.constexpr,
):
    edge = tl.program_id(0).to(tl.int64) * EDGES + tl.arange(0, EDGES)
    slot = tl.program_id(1)
    tile = tl.load(slots + 3 * slot)
    column = tl.load(tiles + 2 * tile) + tl.arange(0, WIDTH)
    unit = tl.arange(0, UNITS)
    edge_in, unit_in, column_in = edge < edges, unit < units, column < tl.load(tiles + 2 * tile + 1)
    inside = edge_in[:, None] & column_in[None, :]
    g = right + column[None, :] * edges + edge[:, None]
    g0 = tl.load(g, mask=inside, other=0.0).to(SUM)
    g1, g2, g3 = g0, g0, g0
    if ROWS > 1:
        g1 = tl.load(g + right_row, mask=inside, other=0.0).to(SUM)
    if ROWS > 2:
        g2 = tl.load(g + 2 * right_row, mask=inside, other=0.0).to(SUM)
        g3 = tl.load(g + 3 * right_row, mask=inside, other=0.0).to(SUM)
    total = tl.zeros((EDGES, UNITS), SUM)
    for number in range(tl.load(slots + 3 * slot + 1), tl.load(slots + 3 * slot + 2)):
        for depth in range(tl.load(ranges + 2 * number), tl.load(ranges + 2 * number + 1)):
            weight = _outer(left + depth * edges + edge, left_row, edge_in, g0, g1, g2, g3, ROWS, SUM)
            at = layer + depth * layer_depth + column * layer_width
            a = tl.load(at[:, None] + unit[None, :] * layer_unit, mask=column_in[:, None] & unit_in[None, :], other=0.0)
            weight = _rounded(weight, layer.dtype.element_ty, WIDEN)
            total += tl.dot(
                weight, _rounded(a, layer.dtype.element_ty, WIDEN), input_precision=PRECISION, out_dtype=SUM
            )
    row = slot.to(tl.int64) * edges + edge
    tl.store(out + row[:, None] * units + unit[None, :], total, mask=edge_in[:, None] & unit_in[None, :])


@triton.jit
@no_type_check
def _layer_gradients(
    left,
    right,
    hidden,
    out,
    tiles,
    blocks,
    edges,
    units,
    width,
    edges_of_a_split,
    left_row,
    right_row,
    out_split,
    ROWS: tl.constexpr,
    EDGES: tl.constexpr,
    WIDTH: tl.constexpr,
    UNITS: tl.constexpr,
    PRECISION: tl.constexpr,
    SUM: tl.constexpr,
    WIDEN: tl.constexpr,
):
    tile, split = tl.program_id(1), tl.program_id(2).to(tl.int64)
    block = blocks + 3 * (tile * tl.num_programs(0) + tl.program_id(0))
    depth, stop, trunk = tl.load(block), tl.load(block + 1), tl.load(block + 2)
    column = tl.load(tiles + 2 * tile) + tl.arange(0, WIDTH)
    unit = tl.arange(0, UNITS)
    last = tl.load(tiles + 2 * tile + 1)
    unit_in, column_in = unit < units, column < last
    # Where the block is short, the columns d that it lacks have no edges to read and no columns w to write.
    edges1, last1 = tl.where(depth + 1 < stop, edges, 0), tl.where(depth + 1 < stop, last, 0)
    edges2, last2 = tl.where(depth + 2 < stop, edges, 0), tl.where(depth + 2 < stop, last, 0)
    edges3, last3 = tl.where(depth + 3 < stop, edges, 0), tl.where(depth + 3 < stop, last, 0)
    sum0 = tl.zeros((UNITS, WIDTH), SUM)
    sum1, sum2, sum3 = sum0, sum0, sum0
    first = split * edges_of_a_split
    for start in range(first, tl.minimum(first + edges_of_a_split, edges), EDGES):
        edge = start + tl.arange(0, EDGES)
        edge_in = edge < edges
        row = trunk * edges + edge
        h = tl.load(hidden + row[None, :] * units + unit[:, None], mask=unit_in[:, None] & edge_in[None, :], other=0.0)
        h = _rounded(h, hidden.dtype.element_ty, WIDEN)
        inside = edge_in[:, None] & column_in[None, :]
        g = right + column[None, :] * edges + edge[:, None]
        g0 = tl.load(g, mask=inside, other=0.0).to(SUM)
        g1, g2, g3 = g0, g0, g0
        if ROWS > 1:
            g1 = tl.load(g + right_row, mask=inside, other=0.0).to(SUM)
        if ROWS > 2:
            g2 = tl.load(g + 2 * right_row, mask=inside, other=0.0).to(SUM)
            g3 = tl.load(g + 3 * right_row, mask=inside, other=0.0).to(SUM)
        x = left + depth * edges + edge
        weight = _outer(x, left_row, edge_in, g0, g1, g2, g3, ROWS, SUM)
        sum0 += tl.dot(h, _rounded(weight, hidden.dtype.element_ty, WIDEN), input_precision=PRECISION, out_dtype=SUM)
        weight = _outer(x + edges, left_row, edge < edges1, g0, g1, g2, g3, ROWS, SUM)
        sum1 += tl.dot(h, _rounded(weight, hidden.dtype.element_ty, WIDEN), input_precision=PRECISION, out_dtype=SUM)
        weight = _outer(x + 2 * edges, left_row, edge < edges2, g0, g1, g2, g3, ROWS, SUM)
        sum2 += tl.dot(h, _rounded(weight, hidden.dtype.element_ty, WIDEN), input_precision=PRECISION, out_dtype=SUM)
        weight = _outer(x + 3 * edges, left_row, edge < edges3, g0, g1, g2, g3, ROWS, SUM)
        sum3 += tl.dot(h, _rounded(weight, hidden.dtype.element_ty, WIDEN), input_precision=PRECISION, out_dtype=SUM)
    inside = unit_in[:, None] & column_in[None, :]
    step = units * width  # from one column d to the next
    to = out + split * out_split + depth * step + column[None, :] + unit[:, None] * width
    tl.store(to, sum0, mask=inside)
    tl.store(to + step, sum1, mask=unit_in[:, None] & (column < last1)[None, :])
    tl.store(to + 2 * step, sum2, mask=unit_in[:, None] & (column < last2)[None, :])
    tl.store(to + 3 * step, sum3, mask=unit_in[:, None] & (column < last3)[None, :])


INTERPRETED = not isinstance(_contract, triton.JITFunction)
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
    own, tiling = _planned(blocks, case, tiling, left.device)
    out = left.new_empty(rows, own.width, edges, dtype=_sum_dtype(hidden))
    if edges:
        _contract[(triton.cdiv(edges, tiling.edges), len(own.tiles))](
            left,
            hidden,
            layer,
            out,
            own.tiles,
            own.items,
            own.items.shape[1],
            edges,
            hidden.shape[2],
            left.stride(0),
            out.stride(0),
            *layer.stride(),
            **_constants(own, tiling, rows, hidden.shape[2], hidden.dtype, precision),
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
    own, tiling = _planned(blocks, case, tiling, left.device)
    slots = left.new_empty(len(own.slots), edges, units, dtype=_sum_dtype(layer))
    if edges:
        _hidden_gradients[(triton.cdiv(edges, tiling.edges), len(own.slots))](
            left,
            right,
            layer,
            slots,
            own.tiles,
            own.slots,
            own.ranges,
            edges,
            units,
            left.stride(0),
            right.stride(0),
            *layer.stride(),
            **_constants(own, tiling, rows, units, layer.dtype, precision),
        )
    return own.by_trunk(slots, num_trunks)


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
    own, tiling = _planned(blocks, case, tiling, left.device)
    programs = own.blocks.shape[0] * own.blocks.shape[1]
    parts = triton.cdiv(edges, _SPLIT)
    parts_of_a_split = max(1, triton.cdiv(parts, max(1, _PROGRAMS // programs)))
    num_splits = triton.cdiv(parts, parts_of_a_split)
    out = left.new_empty(num_splits, depth, units, own.width, dtype=_sum_dtype(hidden))
    if edges:
        _layer_gradients[(own.blocks.shape[1], own.blocks.shape[0], num_splits)](
            left,
            right,
            hidden,
            out,
            own.tiles,
            own.blocks,
            edges,
            units,
            own.width,
            parts_of_a_split * _SPLIT,
            left.stride(0),
            right.stride(0),
            out.stride(0),
            **_constants(own, tiling, rows, units, hidden.dtype, precision),
        )
    total = out.new_empty(depth, units + 1, own.width)
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


def _constants(own: Plan, tiling: Tiling, rows: int, units: int, dtype: torch.dtype, precision: str) -> dict[str, Any]:
    return {
        "ROWS": rows,
        "EDGES": tiling.edges,
        "WIDTH": own.tile,
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
