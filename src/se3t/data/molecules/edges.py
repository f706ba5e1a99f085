"""Edges of molecules: edge lists of all molecules in flat tensors, made when data are loaded.

Indices are local to a molecule; a batch adds the index of its first atom. The lists are sorted by target, then source,
as :class:`~se3t.graph.Graph` requires, and include the order in which every edge is followed by its reverse.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from se3t.data.molecules.molecule import BOND_CLASSES
from se3t.geometry import reciprocal_order

NO_BOND = len(BOND_CLASSES)
"""Class of an edge between atoms that are not bonded; graphs of bonds alone have no such class."""
_CHUNK = 4096  # molecules at a time, where memory grows with the square of their size


@dataclass(frozen=True)
class Bonds:
    """Bonds of many molecules, concatenated.

    Attributes:
        atoms: ``[bond, 2]`` two atoms of the molecule.
        classes: ``[bond]`` index into ``BOND_CLASSES``.
        num_bonds: ``[molecule]``.
        num_atoms: ``[molecule]``.
    """

    atoms: Int[Tensor, "bond 2"]
    classes: Int[Tensor, " bond"]
    num_bonds: Int[Tensor, " molecule"]
    num_atoms: Int[Tensor, " molecule"]


@dataclass(frozen=True)
class EdgeLists:
    """Edges of many molecules: those of molecule m are ``count[m]`` rows from ``start[m]``.

    Attributes:
        source: ``[row]`` int16, atom of the molecule that a message comes from.
        target: ``[row]`` int16, atom it goes to.
        order: ``[row]`` int32, edges of the molecule in the order in which each is followed by its reverse.
        start: ``[molecule]``; several molecules may share rows.
        count: ``[molecule]``.
        classes: ``[edge]`` uint8, bond class or ``NO_BOND``.
        class_start: ``[molecule]`` place of a molecule's first edge in ``classes``.
    """

    source: Int[Tensor, " row"]
    target: Int[Tensor, " row"]
    order: Int[Tensor, " row"]
    start: Int[Tensor, " molecule"]
    count: Int[Tensor, " molecule"]
    classes: Num[Tensor, " edge"]
    class_start: Int[Tensor, " molecule"]

    def to(self, device: torch.device | str) -> EdgeLists:
        """Copy to a device."""
        return EdgeLists(*(getattr(self, item.name).to(device) for item in fields(self)))


def bonded(bonds: Bonds) -> EdgeLists:
    """Both directions of every bond."""
    num_atoms = bonds.num_atoms
    shift = _first(num_atoms).repeat_interleave(bonds.num_bonds)[:, None]
    pairs = (bonds.atoms + shift).T  # [2, bond], global atom numbers
    edge_index, classes = torch.cat([pairs, pairs.flip(0)], dim=1), bonds.classes.repeat(2)
    order = torch.argsort(edge_index[1] * int(num_atoms.sum()) + edge_index[0])
    return _from_edges(edge_index[:, order], classes[order], num_atoms)


def complete(bonds: Bonds) -> EdgeLists:
    """All ordered pairs of atoms of a molecule. Molecules of equal size share their rows; the classes are their own."""
    num_atoms = bonds.num_atoms
    sizes, size_of = num_atoms.unique(return_inverse=True)
    lists = [_all_pairs(int(size)) for size in sizes]
    rows = sizes * (sizes - 1)
    count = rows[size_of]
    class_start = _first(count)
    owner = torch.arange(len(num_atoms)).repeat_interleave(bonds.num_bonds)
    all_classes = torch.full((int(count.sum()),), NO_BOND, dtype=torch.uint8)
    for source, target in (bonds.atoms.T, bonds.atoms.T.flip(0)):
        place = _place(source, target, num_atoms[owner])
        all_classes[class_start[owner] + place] = bonds.classes.to(torch.uint8)
    source, target, order = (torch.cat(parts) for parts in zip(*lists, strict=True))
    return EdgeLists(source, target, order, _first(rows)[size_of], count, all_classes, class_start)


def within_radius(bonds: Bonds, positions: Float[Tensor, "atom 3"], radius: float) -> EdgeLists:
    """Pairs of atoms of a molecule no farther apart than ``radius``, in the unit of the positions."""
    pairs, molecules = complete(bonds), torch.arange(len(bonds.num_atoms))
    first = _first(bonds.num_atoms)
    parts = [_near(pairs, chunk, first, positions, radius) for chunk in molecules.split(_CHUNK)]
    source, target, order, count, classes = (torch.cat(part) for part in zip(*parts, strict=True))
    return EdgeLists(source, target, order, _first(count), count, classes, _first(count))


def _near(pairs: EdgeLists, chosen: Tensor, first: Tensor, positions: Tensor, radius: float) -> tuple[Tensor, ...]:
    """Source, target, order, count and classes of the pairs of some molecules that are near each other."""
    count = pairs.count[chosen]
    owner = torch.repeat_interleave(count)  # [pair]
    row = ranges(owner, pairs.start[chosen] - _first(count))
    source, target, atoms = pairs.source[row], pairs.target[row], first[chosen][owner]
    near = (positions[source + atoms] - positions[target + atoms]).norm(dim=1) <= radius
    kept = torch.bincount(owner[near], minlength=len(chosen))
    order = pairs.order[row] + _first(count)[owner]
    order = order[near[order]]  # a pair and its reverse have the same distance: both stay or neither
    number = near.cumsum(0) - 1 - _first(kept)[owner]
    classes = pairs.classes[ranges(owner, pairs.class_start[chosen] - _first(count))]
    return source[near], target[near], number[order].int(), kept, classes[near]


def _from_edges(edge_index: Tensor, classes: Tensor, num_atoms: Tensor) -> EdgeLists:
    """Edge lists of edges sorted by target, with global atom numbers; every edge has its reverse."""
    first = _first(num_atoms)
    owner = torch.arange(len(num_atoms)).repeat_interleave(num_atoms)[edge_index[1]]  # [edge]
    count = torch.bincount(owner, minlength=len(num_atoms))
    start = _first(count)
    order = reciprocal_order(edge_index, int(num_atoms.sum()))
    assert order is not None  # it is ordered by the smaller atom, so edges of a molecule stay together
    source, target = edge_index - first[owner]
    return EdgeLists(
        source.short(), target.short(), (order - start[owner]).int(), start, count, classes.to(torch.uint8), start
    )


def _all_pairs(size: int) -> tuple[Tensor, Tensor, Tensor]:
    atoms = torch.arange(size)
    target = atoms.repeat_interleave(max(size - 1, 0))
    rank = torch.arange(max(size - 1, 0)).repeat(size)
    source = rank + (rank >= target).long()
    order = reciprocal_order(torch.stack([source, target]), size)
    assert order is not None
    return source.short(), target.short(), order.int()


def ranges(owner: Int[Tensor, " row"], shift: Int[Tensor, " owner"]) -> Int[Tensor, " row"]:
    """Consecutive numbers, shifted by owner."""
    return torch.arange(len(owner), device=owner.device) + shift.index_select(0, owner)


def _place(source: Tensor, target: Tensor, num_atoms: Tensor) -> Tensor:
    """Place of an edge among all ordered pairs of a molecule, sorted by target, then source."""
    return target * (num_atoms - 1) + source - (source > target).long()


def _first(counts: Tensor) -> Tensor:
    """Where the rows of every molecule begin."""
    return counts.cumsum(0) - counts
