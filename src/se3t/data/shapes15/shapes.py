"""The 15 classes of shapes15, in the label order of ScanObjectNN, and where such objects stand. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from se3t.data.shapes15 import fixtures, furniture
from se3t.data.shapes15.solids import Dice, Mesh, move


@dataclass(frozen=True)
class Kind:
    """A class of objects.

    Attributes:
        draw: makes one object, standing on y = 0, its front towards +z.
        against_wall: share of the objects that stand against a wall, so that their back is not visible.
        support: heights of floor, seat or table, in m, one of which an object stands on.
    """

    draw: Callable[[Dice], Mesh]
    against_wall: float
    support: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class Shape:
    """One object in a room.

    Attributes:
        mesh: its surface, ``[triangle, 3, 3]`` in m, y upwards, the floor of the room at y = 0.
        against_wall: whether a wall is behind it (at −z).
        support: height of what it stands on.
    """

    mesh: Mesh
    against_wall: bool
    support: float


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "bag": Kind(fixtures.bag, 0.3, (0.0, 0.0, 0.45, 0.75)),
        "bin": Kind(fixtures.bin_, 0.4),
        "box": Kind(fixtures.box_, 0.3, (0.0, 0.0, 0.75)),
        "cabinet": Kind(furniture.cabinet, 0.9),
        "chair": Kind(furniture.chair, 0.1),
        "desk": Kind(furniture.desk, 0.7),
        "display": Kind(fixtures.display, 0.6, (0.75, 0.75, 1.0)),
        "door": Kind(fixtures.door, 0.6),
        "shelf": Kind(furniture.shelf, 0.85),
        "table": Kind(furniture.table, 0.2),
        "bed": Kind(furniture.bed, 0.6),
        "pillow": Kind(fixtures.pillow, 0.4, (0.45, 0.55)),
        "sink": Kind(fixtures.sink, 0.9),
        "sofa": Kind(furniture.sofa, 0.6),
        "toilet": Kind(fixtures.toilet, 0.9),
    }
)
"""By name, in label order."""


def draw_shape(name: str, dice: Dice) -> Shape:
    """One random object of a class."""
    kind = KINDS[name]
    support, against_wall = dice.pick(*kind.support), dice.chance(kind.against_wall)
    mesh = kind.draw(dice)
    mesh = move(mesh, y=support - float(mesh[..., 1].min()))
    return Shape(mesh, against_wall, support)
