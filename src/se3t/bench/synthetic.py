"""Synthetic positions: molecules whose atoms keep their distance, and points in the unit ball."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_SHORT, _LONG = 1.1, 1.5  # lengths of bonds, in Å
_MOST_BONDS = 4  # of one atom, rings not counted
_NUM_TRIALS = 16  # directions that a new atom chooses from


def ball(num_points: int, generator: torch.Generator) -> Float[Tensor, "point 3"]:
    """Points uniformly in the unit ball, float64."""
    return _directions(num_points, generator) * torch.rand(num_points, 1, generator=generator, dtype=torch.float64) ** (
        1 / 3
    )


def molecules(
    num_graphs: int, num_atoms: int, num_bonds: int, generator: torch.Generator
) -> tuple[Float[Tensor, "node 3"], Int[Tensor, "2 bond"]]:
    """Random trees of atoms, closed to rings by the bonds that are left over.

    Args:
        num_graphs: number of molecules.
        num_atoms: atoms of each.
        num_bonds: bonds of each, at least ``num_atoms`` − 1.
        generator: of the random choices.

    Returns:
        Positions in Å, float64, and the two atoms of each bond, the earlier one first.

    Raises:
        ValueError: when a molecule would fall apart.
    """
    if num_bonds < num_atoms - 1:
        raise ValueError(f"num_bonds={num_bonds}: a molecule of {num_atoms} atoms needs at least {num_atoms - 1} bonds")
    positions, bonds = [], []
    for number in range(num_graphs):
        places, pairs = _molecule(num_atoms, num_bonds, generator)
        positions.append(places)
        bonds.append(pairs + number * num_atoms)
    return torch.cat(positions), torch.cat(bonds, dim=1)


def _molecule(num_atoms: int, num_bonds: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each atom is joined to an earlier one, in the direction that is freest; the nearest other pairs close rings."""
    positions = torch.zeros(num_atoms, 3, dtype=torch.float64)
    bonded = torch.zeros(num_atoms, num_atoms, dtype=torch.bool)
    for atom in range(1, num_atoms):
        free = (bonded[:atom].sum(1) + bonded[:, :atom].sum(0) < _MOST_BONDS).nonzero()[:, 0]
        parent = int(free[torch.randint(len(free), (1,), generator=generator)])
        length = _SHORT + (_LONG - _SHORT) * float(torch.rand(1, generator=generator, dtype=torch.float64))
        trials = positions[parent] + length * _directions(_NUM_TRIALS, generator)
        positions[atom] = trials[torch.cdist(trials, positions[:atom]).amin(1).argmax()]
        bonded[parent, atom] = True
    distance = torch.cdist(positions, positions)
    closed = ~torch.ones_like(bonded).triu(1) | bonded
    rings = distance.masked_fill(closed, torch.inf).flatten().argsort()[: num_bonds - num_atoms + 1]
    bonded.view(-1)[rings] = True
    return positions, bonded.nonzero().T


def _directions(count: int, generator: torch.Generator) -> Tensor:
    vectors = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return vectors / vectors.norm(dim=1, keepdim=True)
