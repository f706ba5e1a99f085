"""How the columns of a product with radial weights are divided among the programs of a GPU kernel.

The weights W[d, w] of an edge form a matrix of blocks, one for each pair of degrees; every block belongs to a trunk of
the radial network. A program takes a tile of columns w for which the trunks do not change, and goes through all d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate, pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from se3t.nn.kernels.tilings import COLUMNS

Table: TypeAlias = tuple[tuple[int, ...], ...]
Item: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Blocks:
    """A matrix of blocks.

    Attributes:
        depths: sizes of the blocks along d.
        widths: sizes of the blocks along w.
        trunks: trunk of each block, one row for each block along d.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    trunks: Table

    @property
    def transposed(self) -> Blocks:
        """With the roles of d and w exchanged."""
        return Blocks(self.widths, self.depths, tuple(zip(*self.trunks, strict=True)))

    @cached_property
    def merged(self) -> Blocks:
        """Neighbouring blocks joined that have all their trunks in common."""
        depths, trunks = _merged(self.depths, self.trunks)
        widths, columns = _merged(self.widths, tuple(zip(*trunks, strict=True)))
        return Blocks(depths, widths, tuple(zip(*columns, strict=True)))

    @cached_property
    def columns(self) -> int:
        """Columns of the tiles that have the least padding, the widest of them."""
        widths = self.merged.widths
        return min(COLUMNS, key=lambda size: (sum(-(-width // size) * size for width in widths), -size))


@dataclass(frozen=True)
class Plan:
    """Tables of whole numbers on the device, for one product of one layer.

    Attributes:
        width: columns w. depth: columns d.
        tile: columns w of a tile.
        tiles: ``[tile, 2]`` first column of each tile, and the first one after it.
        items: ``[tile, item, 3]`` first d, the first one after, and the trunk they belong to; together all d.
        blocks: ``[tile, block, 3]`` the same in pieces of a few d.
        slots: ``[slot, 3]`` tile, and the rows of ``ranges`` in which its columns d of one trunk are listed; sorted by
            trunk.
        ranges: ``[range, 2]`` first d and the first one after.
        slot_trunks: trunk of each slot.
    """

    width: int
    depth: int
    tile: int
    tiles: Tensor
    items: Tensor
    blocks: Tensor
    slots: Tensor
    ranges: Tensor
    slot_trunks: tuple[int, ...]

    def by_trunk(self, values: Tensor, num_trunks: int) -> Tensor:
        """Sum what the slots hold, ``[slot, …]``, for every trunk: ``[trunk, …]``, always in the same order."""
        counts = [self.slot_trunks.count(trunk) for trunk in range(num_trunks)]
        if all(count == counts[0] for count in counts):
            return values.unflatten(0, (num_trunks, counts[0])).sum(1) if counts[0] > 1 else values
        return torch.stack([part.sum(0) for part in values.split(counts)])


@cache  # never dropped: captured training steps read it where it lies
def plan(given: Blocks, tile: int, block: int, device: torch.device) -> Plan:
    """Divide a matrix of blocks among tiles.

    Args:
        given: the matrix.
        tile: columns w of a tile.
        block: columns d of one of ``Plan.blocks``.
        device: where the tables are needed.
    """
    depths, widths = given.merged.depths, given.merged.widths
    columns = tuple(zip(*given.merged.trunks, strict=True))
    tiles: list[tuple[int, int]] = []
    items: list[list[Item]] = []
    blocks: list[list[Item]] = []
    slots: list[tuple[int, int]] = []
    for (start, stop), column in zip(pairwise((0, *accumulate(widths))), columns, strict=True):
        bounds = pairwise((0, *accumulate(depths)))
        segments = [(begin, end, trunk) for (begin, end), trunk in zip(bounds, column, strict=True)]
        for first in range(start, stop, tile):
            slots += [(len(tiles), trunk) for trunk in sorted(set(column))]
            tiles.append((first, min(first + tile, stop)))
            items.append(segments)
            blocks.append(_pieces(segments, block))
    slots.sort(key=lambda slot: (slot[1], slot[0]))
    parts = [[item[:2] for item in items[number] if item[2] == trunk] for number, trunk in slots]
    ends = pairwise((0, *accumulate(len(part) for part in parts)))

    def table(values: Sequence[object]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    with torch.inference_mode(False):  # kept for later calls, which may train
        return Plan(
            width=sum(widths),
            depth=sum(depths),
            tile=tile,
            tiles=table(tiles),
            items=table(items),
            blocks=table(blocks),
            slots=table([(number, *end) for (number, _), end in zip(slots, ends, strict=True)]),
            ranges=table([ends for part in parts for ends in part]),
            slot_trunks=tuple(trunk for _, trunk in slots),
        )


def _merged(sizes: tuple[int, ...], rows: Table) -> tuple[tuple[int, ...], Table]:
    """Join neighbouring blocks that have all their trunks in common."""
    out: list[tuple[int, tuple[int, ...]]] = []
    for size, row in zip(sizes, rows, strict=True):
        if out and out[-1][1] == row:
            out[-1] = (out[-1][0] + size, row)
        else:
            out.append((size, row))
    return tuple(size for size, _ in out), tuple(row for _, row in out)


def _pieces(segments: Sequence[Item], size: int) -> list[Item]:
    return [
        (first, min(first + size, stop), trunk) for start, stop, trunk in segments for first in range(start, stop, size)
    ]
