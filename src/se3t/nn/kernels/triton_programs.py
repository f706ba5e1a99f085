"""The programs of :mod:`se3t.nn.kernels.triton_tiles`, each for one tile of edges and columns."""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check  # of annotations at run time: the names of types below speak to Triton
def _rounded(value, dtype: tl.constexpr, WIDEN: tl.constexpr):
    """In ``dtype``; with WIDEN back in float32, for an interpreter that cannot multiply in 16 bits."""
    value = value.to(dtype)
    return value.to(tl.float32) if WIDEN else value


@triton.jit
@no_type_check
def _product(left, right, dtype: tl.constexpr, PRECISION: tl.constexpr, SUM: tl.constexpr, WIDEN: tl.constexpr):
    """Of tiles: left · right, where right is rounded as left is."""
    return tl.dot(left, _rounded(right, dtype, WIDEN), input_precision=PRECISION, out_dtype=SUM)


@triton.jit
@no_type_check
def _rows(at, step, inside, ROWS: tl.constexpr, SUM: tl.constexpr):
    """The tiles of all rows, one step apart; where there are fewer than four, the first fills the places."""
    g0 = tl.load(at, mask=inside, other=0.0).to(SUM)
    g1, g2, g3 = g0, g0, g0
    if ROWS > 1:
        g1 = tl.load(at + step, mask=inside, other=0.0).to(SUM)
    if ROWS > 2:
        g2 = tl.load(at + 2 * step, mask=inside, other=0.0).to(SUM)
        g3 = tl.load(at + 3 * step, mask=inside, other=0.0).to(SUM)
    return g0, g1, g2, g3


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
def contract(
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
    """One tile of :func:`se3t.nn.kernels.triton_tiles.contract`."""
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
            weight = _product(h, a, hidden.dtype.element_ty, PRECISION, SUM, WIDEN) + bias[None, :]
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
def hidden_gradients(
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
    """One tile of :func:`se3t.nn.kernels.triton_tiles.hidden_gradients`."""
    edge = tl.program_id(0).to(tl.int64) * EDGES + tl.arange(0, EDGES)
    slot = tl.program_id(1)
    tile = tl.load(slots + 3 * slot)
    column = tl.load(tiles + 2 * tile) + tl.arange(0, WIDTH)
    unit = tl.arange(0, UNITS)
    edge_in, unit_in, column_in = edge < edges, unit < units, column < tl.load(tiles + 2 * tile + 1)
    inside = edge_in[:, None] & column_in[None, :]
    g = right + column[None, :] * edges + edge[:, None]
    g0, g1, g2, g3 = _rows(g, right_row, inside, ROWS, SUM)
    total = tl.zeros((EDGES, UNITS), SUM)
    for number in range(tl.load(slots + 3 * slot + 1), tl.load(slots + 3 * slot + 2)):
        for depth in range(tl.load(ranges + 2 * number), tl.load(ranges + 2 * number + 1)):
            weight = _outer(left + depth * edges + edge, left_row, edge_in, g0, g1, g2, g3, ROWS, SUM)
            at = layer + depth * layer_depth + column * layer_width
            a = tl.load(at[:, None] + unit[None, :] * layer_unit, mask=column_in[:, None] & unit_in[None, :], other=0.0)
            weight = _rounded(weight, layer.dtype.element_ty, WIDEN)
            total += _product(weight, a, layer.dtype.element_ty, PRECISION, SUM, WIDEN)
    row = slot.to(tl.int64) * edges + edge
    tl.store(out + row[:, None] * units + unit[None, :], total, mask=edge_in[:, None] & unit_in[None, :])


@triton.jit
@no_type_check
def layer_gradients(
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
    """One tile of :func:`se3t.nn.kernels.triton_tiles.layer_gradients`."""
    tile, split = tl.program_id(1), tl.program_id(2).to(tl.int64)
    block = blocks + 3 * (tile * tl.num_programs(0) + tl.program_id(0))
    depth, stop, trunk = tl.load(block), tl.load(block + 1), tl.load(block + 2)
    column = tl.load(tiles + 2 * tile) + tl.arange(0, WIDTH)
    unit, last = tl.arange(0, UNITS), tl.load(tiles + 2 * tile + 1)
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
        g0, g1, g2, g3 = _rows(g, right_row, inside, ROWS, SUM)
        x = left + depth * edges + edge
        weight = _outer(x, left_row, edge_in, g0, g1, g2, g3, ROWS, SUM)
        sum0 += _product(h, weight, hidden.dtype.element_ty, PRECISION, SUM, WIDEN)
        weight = _outer(x + edges, left_row, edge < edges1, g0, g1, g2, g3, ROWS, SUM)
        sum1 += _product(h, weight, hidden.dtype.element_ty, PRECISION, SUM, WIDEN)
        weight = _outer(x + 2 * edges, left_row, edge < edges2, g0, g1, g2, g3, ROWS, SUM)
        sum2 += _product(h, weight, hidden.dtype.element_ty, PRECISION, SUM, WIDEN)
        weight = _outer(x + 3 * edges, left_row, edge < edges3, g0, g1, g2, g3, ROWS, SUM)
        sum3 += _product(h, weight, hidden.dtype.element_ty, PRECISION, SUM, WIDEN)
    step = units * width  # from one column d to the next
    to = out + split * out_split + depth * step + column[None, :] + unit[:, None] * width
    tl.store(to, sum0, mask=unit_in[:, None] & column_in[None, :])
    tl.store(to + step, sum1, mask=unit_in[:, None] & (column < last1)[None, :])
    tl.store(to + 2 * step, sum2, mask=unit_in[:, None] & (column < last2)[None, :])
    tl.store(to + 3 * step, sum3, mask=unit_in[:, None] & (column < last3)[None, :])
