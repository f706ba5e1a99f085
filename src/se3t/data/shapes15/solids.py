"""The solids that shapes15 is built from, as triangles. NumPy only.

A mesh is an array ``[triangle, 3 corners, 3 coordinates]`` in metres, y upwards; the corners of a triangle run so that
its normal (b − a) × (c − a) points out of the material. Solids may overlap: scans do not see the inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Mesh = np.ndarray
Real = int | float
Choice = TypeVar("Choice")

_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (0.0, 1.0) for z in (-0.5, 0.5)])
_SIDES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_TRIANGLES = np.array([[(a, b, c), (a, c, d)] for a, b, c, d in _SIDES]).reshape(-1, 3)
_AXES = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}


class Dice:
    """Random choices from one uniform number each, so that they are the same with every release of NumPy."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def between(self, low: Real, high: Real) -> float:
        """A number in [low, high)."""
        return float(low + (high - low) * self._random.random())

    def chance(self, share: Real) -> bool:
        """True with this probability."""
        return bool(self._random.random() < share)

    def pick(self, *choices: Choice) -> Choice:
        """One of the choices, with equal probability."""
        return choices[int(self._random.random() * len(choices))]


def box(width: Real, height: Real, depth: Real, x: Real = 0.0, y: Real = 0.0, z: Real = 0.0) -> Mesh:
    """A box whose lower face has its centre at (x, y, z)."""
    return (_CORNERS * (width, height, depth) + (x, y, z))[_TRIANGLES]


def loft(sections: Sequence[tuple[Real, Real, Real]], squareness: Real | Sequence[Real] = 2.0, sides: int = 24) -> Mesh:
    """A skin over horizontal sections |x / a|^p + |z / b|^p = 1.

    Args:
        sections: height y and half axes a, b of every section, along the skin; seen from outside it runs upwards, so
            a skin that turns over a rim and runs down again is the inside of a vessel. Half axes of 0 close it.
        squareness: exponent p, of all sections or of each: 2 is an ellipse, 8 almost a rectangle.
        sides: corners of a section.
    """
    heights, half_x, half_z = np.asarray(sections, dtype=np.float64).T[:, :, None]
    power = 2.0 / np.broadcast_to(np.asarray(squareness, dtype=np.float64), len(sections))[:, None]
    angles = 2.0 * np.pi * (np.arange(sides) + 0.5) / sides
    cos, sin = np.cos(angles), np.sin(angles)
    x = half_x * np.sign(cos) * np.abs(cos) ** power
    z = half_z * np.sign(sin) * np.abs(sin) ** power
    return _skin(np.stack([x, np.broadcast_to(heights, x.shape), z], axis=-1))


def cushion(
    width: Real,
    height: Real,
    depth: Real,
    x: Real = 0.0,
    y: Real = 0.0,
    z: Real = 0.0,
    *,
    roundness: Real = 3.0,
    squareness: Real = 5.0,
) -> Mesh:
    """A soft body, from a ball (2, 2) to a box with soft edges (large, large); its lowest point is (x, y, z).

    Args:
        width: extent along x.
        height: extent along y.
        depth: extent along z.
        x: place.
        y: place.
        z: place.
        roundness: exponent of its vertical sections; below 2 it has a sharp rim.
        squareness: exponent of its horizontal sections.
    """
    angles = np.linspace(-np.pi / 2, np.pi / 2, 13)
    sin, cos = np.sin(angles), np.maximum(np.cos(angles), 0.0)
    levels = height / 2 * (1.0 + np.sign(sin) * np.abs(sin) ** (2.0 / roundness))
    radii = cos ** (2.0 / roundness)
    radii[[0, -1]] = 0.0
    skin = loft([(level, r * width / 2, r * depth / 2) for level, r in zip(levels, radii, strict=True)], squareness)
    return move(skin, x, y, z)


def tube(points: np.ndarray | Sequence[Sequence[Real]], radius: Real, sides: int = 8) -> Mesh:
    """Straight round rods from point to point, without ends."""
    path = np.asarray(points, dtype=np.float64)
    along = np.diff(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    other = np.where(np.abs(along[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    first = np.cross(along, other)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    angles = 2.0 * np.pi * np.arange(sides) / sides
    ring = radius * (first[:, None] * np.cos(angles)[:, None] - second[:, None] * np.sin(angles)[:, None])
    return np.concatenate([_skin(np.stack([a + r, b + r])) for a, b, r in zip(path[:-1], path[1:], ring, strict=True)])


def arc(width: Real, height: Real, x: Real = 0.0, y: Real = 0.0, z: Real = 0.0) -> np.ndarray:
    """Points ``[9, 3]`` of half an ellipse that stands in the plane z on (x ± width / 2, y): the path of a handle."""
    angles = np.linspace(0.0, np.pi, 9)
    return np.stack([x + width / 2 * np.cos(angles), y + height * np.sin(angles), np.full(9, z)], axis=1)


def case(
    width: Real,
    height: Real,
    depth: Real,
    *,
    wall: Real = 0.02,
    lid: bool = True,
    back: bool = True,
    front: bool = False,
    floor: bool = True,
) -> Mesh:
    """A hollow box of boards, by default open in front (+z)."""
    side = (width - wall) / 2
    parts = [box(wall, height, depth, -side), box(wall, height, depth, side)]
    parts += [box(width, wall, depth)] if floor else []
    parts += [box(width, wall, depth, y=height - wall)] if lid else []
    parts += [box(width, height, wall, z=(wall - depth) / 2)] if back else []
    parts += [box(width, height, wall, z=(depth - wall) / 2)] if front else []
    return join(parts)


def legs(width: Real, height: Real, depth: Real, thick: Real, *, round_: bool = False, splay: Real = 0.0) -> Mesh:
    """Four legs in the corners of a rectangle; ``splay`` moves the feet of round legs outwards."""
    parts = []
    for x in (-width / 2, width / 2):
        for z in (-depth / 2, depth / 2):
            if round_:
                foot = (x + float(np.sign(x)) * splay, 0.0, z + float(np.sign(z)) * splay)
                parts.append(tube([foot, (x, height, z)], thick / 2))
            else:
                parts.append(box(thick, height, thick, x, 0.0, z))
    return join(parts)


def join(parts: Sequence[Mesh]) -> Mesh:
    """All triangles of the parts."""
    return np.concatenate(parts)


def move(mesh: Mesh, x: Real = 0.0, y: Real = 0.0, z: Real = 0.0) -> Mesh:
    """The mesh, shifted."""
    return mesh + np.array([x, y, z])


def turn(mesh: Mesh, axis: str, degrees: Real, about: Sequence[Real] = (0.0, 0.0, 0.0)) -> Mesh:
    """The mesh (or any points), turned about a line through ``about`` along a coordinate axis (right-handed)."""
    i, j = _AXES[axis]
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    shifted = mesh - np.asarray(about)
    turned = shifted.copy()
    turned[..., i] = cos * shifted[..., i] - sin * shifted[..., j]
    turned[..., j] = sin * shifted[..., i] + cos * shifted[..., j]
    return turned + np.asarray(about)


def _skin(rings: np.ndarray) -> Mesh:
    """Triangles between successive closed rings ``[ring, corner, 3]``."""
    low, high = rings[:-1], rings[1:]
    low_next, high_next = np.roll(low, -1, axis=1), np.roll(high, -1, axis=1)
    first = np.stack([low, high, high_next], axis=-2)
    second = np.stack([low, high_next, low_next], axis=-2)
    return np.concatenate([first.reshape(-1, 3, 3), second.reshape(-1, 3, 3)])
