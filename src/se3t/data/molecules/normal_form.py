"""One Lewis structure for a molecule, whichever resonance form a file has. Imports neither torch nor rdkit.

The forms of a skeleton differ by electron pairs that move along paths of alternating bonds. The normal form

1. has no + next to − at P, S, Cl or heavier atoms of their groups: S=O, not S⁺–O⁻ (sulfoxides, sulfones, phosphine
   oxides, ylides, SO2);
2. has the fewest charges, then negative ones at O before S before N before others, positive ones at N first, and no
   N⁺≡N: CS2 is S=C=S, azides and diazo compounds are X=N⁺=N⁻, nitro groups (O=)N⁺O⁻;
3. among equal ones has its double bonds where bonds are short: of the oxygens of a nitro group or a carboxylate the
   closer one, of the two forms of cyclooctatetraene the one that fits; at equal lengths the one with the first atoms.

So it depends neither on the form that was drawn nor, unless lengths are equal, on the order of the atoms. Moves are
made one by one, the best first: for molecules with several charges, forms that only two moves at once connect may
remain different.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

_EXPANDABLE = frozenset((15, 16, 17, 33, 34, 35, 51, 52, 53))
_ANION = {9: 0.9, 8: 1.0, 16: 1.15, 34: 1.15, 7: 1.2}
_CATION = {7: 1.0, 15: 1.0, 16: 1.1, 8: 1.3, 6: 2.0}
_OTHER = 1.5
_DIAZONIUM = 0.5
_CROWDED = 0.01  # per neighbour of an anion: of two nitrogens the terminal one is charged
_EQUAL_COST = 1e-6
_EQUAL_LENGTH = 2e-3  # angstrom; files have four decimals
_LONGEST_PATH = 10  # bonds
_MOST_MOVES = 100

Path = tuple[int, ...]


def normalise(lewis: Lewis, rings: Sequence[Path]) -> bool:
    """Bring a structure into its normal form; returns whether it changed.

    Args:
        lewis: changed in place.
        rings: its rings that are not aromatic, atoms in order.
    """
    cycles = list(_alternating_cycles(lewis, rings))
    if not cycles and not any(lewis.charges):
        return False
    before = (lewis.orders.copy(), lewis.charges.copy())
    lewis.expand()
    lewis.move_pairs()
    for cycle in cycles:
        lewis.turn(cycle)
    return before != (lewis.orders, lewis.charges)


@dataclass
class Lewis:
    """A structure with all its atoms.

    Attributes:
        numbers: atomic numbers.
        charges: formal charges of the atoms.
        orders: of bonds, 1 to 3, by their two atoms, smaller first.
        positions: ``[atom, 3]``, angstrom.
    """

    numbers: list[int]
    charges: list[int]
    orders: dict[tuple[int, int], int]
    positions: np.ndarray

    def __post_init__(self) -> None:
        """Find neighbours."""
        self.neighbours: list[list[int]] = [[] for _ in self.numbers]
        for first, second in self.orders:
            self.neighbours[first].append(second)
            self.neighbours[second].append(first)

    def order(self, first: int, second: int) -> int:
        """Of a bond."""
        return self.orders[min(first, second), max(first, second)]

    def length(self, first: int, second: int) -> float:
        """Of a bond, in angstrom."""
        return math.dist(self.positions[first], self.positions[second])

    def expand(self) -> None:
        """Rule 1."""
        for centre, number in enumerate(self.numbers):
            if number not in _EXPANDABLE:
                continue
            while self.charges[centre] > 0:
                negative = [atom for atom in self.neighbours[centre] if self.charges[atom] < 0]
                negative = [atom for atom in negative if self.order(centre, atom) < 3]
                if not negative:
                    break
                closest = min(negative, key=lambda atom: (self.order(centre, atom), self.length(centre, atom), atom))
                self._add((centre, closest), 1)
                self.charges[centre] -= 1
                self.charges[closest] += 1

    def move_pairs(self) -> None:
        """Rules 2 and 3."""
        for _ in range(_MOST_MOVES):
            moves = [(self._gain(path), path) for path in self._paths()]
            better = [move for move in moves if move[0] < (-_EQUAL_COST, 0.0, 0)] + [
                move for move in moves if abs(move[0][0]) <= _EQUAL_COST and move[0][1:] < (0.0, 0)
            ]
            if not better:
                return
            self._move(min(better)[1])

    def turn(self, cycle: Path) -> None:
        """Rule 3 for a ring of alternating bonds."""
        ring = (*cycle, cycle[0])
        if {self.order(a, b) for a, b in zip(ring[::2], ring[1::2], strict=False)} == {2}:
            ring = (*cycle[1:], *cycle[:2])  # so that the first bond is single
        alternates = [self.order(a, b) for a, b in pairwise(ring)]
        if alternates == [1, 2] * (len(cycle) // 2) and self._fit(ring) < (0.0, 0):
            self._alternate(ring)

    # A path begins at the donor of a pair and ends at its acceptor: its first bond gains an order.

    def _paths(self) -> Iterator[Path]:
        positive = any(charge > 0 for charge in self.charges)
        for start, charge in enumerate(self.charges):
            if charge < 0:
                yield from self._extended((start,))
            elif positive and charge == 0 and self.numbers[start] in (7, 8, 16):
                for path in self._extended((start,)):
                    if self.charges[path[-1]] > 0:
                        yield path

    def _extended(self, path: Path) -> Iterator[Path]:
        last, gains = path[-1], len(path) % 2 == 1
        for atom in self.neighbours[last]:
            order = self.order(last, atom)
            if atom in path or self.numbers[atom] == 1 or (order > 2 if gains else order < 2):
                continue
            longer = (*path, atom)
            if not gains and self.charges[atom] >= 0:
                yield longer
            if len(longer) <= _LONGEST_PATH:
                yield from self._extended(longer)

    def _gain(self, path: Path) -> tuple[float, float, int]:
        """Change of a move: cost of charges, strain, and which atoms have the high orders; negative is better."""
        before = self._cost()
        self._move(path)
        after = self._cost()
        self._move(path[::-1])
        return (after - before, *self._fit(path))

    def _fit(self, path: Path) -> tuple[float, int]:
        change = {}
        sign = 1
        for first, second in pairwise(path):
            change[min(first, second), max(first, second)] = sign
            sign = -sign
        strain = sum(by * self.length(*pair) for pair, by in change.items())
        return (strain if abs(strain) > _EQUAL_LENGTH else 0.0), -change[min(change)]

    def _cost(self) -> float:
        return math.fsum(self._cost_of(atom, charge) for atom, charge in enumerate(self.charges) if charge)

    def _cost_of(self, atom: int, charge: int) -> float:
        number, neighbours = self.numbers[atom], self.neighbours[atom]
        if charge < 0:
            return charge**2 * _ANION.get(number, _OTHER) + _CROWDED * len(neighbours)
        ends = [other for other in neighbours if self.numbers[other] == 7 and self.order(atom, other) == 3]
        diazonium = _DIAZONIUM if number == 7 and ends and len(self.neighbours[ends[0]]) == 1 else 0.0
        return charge**2 * _CATION.get(number, _OTHER) + diazonium

    def _move(self, path: Path) -> None:
        self._alternate(path)
        self.charges[path[0]] += 1
        self.charges[path[-1]] -= 1

    def _alternate(self, path: Path) -> None:
        for place, pair in enumerate(pairwise(path)):
            self._add(pair, -1 if place % 2 else 1)

    def _add(self, pair: tuple[int, int], by: int) -> None:
        self.orders[min(pair), max(pair)] += by


def _alternating_cycles(lewis: Lewis, rings: Sequence[Path]) -> Iterator[Path]:
    """Rings, and outlines of two fused rings, whose bonds alternate between single and double."""
    edges = [{(min(pair), max(pair)) for pair in pairwise((*ring, ring[0]))} for ring in rings]
    fused = [one ^ other for one, other in combinations(edges, 2) if one & other]
    for bonds in [*edges, *fused]:
        doubles = sum(lewis.orders[pair] == 2 for pair in bonds)
        if 2 * doubles == len(bonds) and (path := _around(bonds)):
            yield path


def _around(bonds: set[tuple[int, int]]) -> Path:
    """Atoms of a ring in order; () if the bonds are no ring."""
    ends: dict[int, list[int]] = {}
    for first, second in sorted(bonds):
        ends.setdefault(first, []).append(second)
        ends.setdefault(second, []).append(first)
    path = [min(ends)]
    while len(path) < len(ends):
        onward = [atom for atom in ends[path[-1]] if atom not in path]
        if not onward:
            return ()
        path.append(onward[0])
    return tuple(path) if all(len(others) == 2 for others in ends.values()) else ()
