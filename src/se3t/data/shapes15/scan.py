"""The synthetic scans of shapes15 by simulated depth cameras. NumPy only.

A scan is made in six steps: points evenly on all surfaces; one to three cameras (more where those see too little), each
of which keeps the points that face it and are not hidden (a depth image); noise along the line of sight; removal of an
occluded part; a random heading and a small tilt; a choice of 2,048 points. The density of points does not depend on the
class: they are spread by area, and their number is constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from se3t.data.shapes15.shapes import Shape
from se3t.data.shapes15.solids import Dice, Mesh, box, join

NUM_POINTS = 2048
_NUM_SAMPLES = 20000  # on all surfaces, visible or not
_PIXELS = 48  # of a depth image, along its longer side
_GRAZING = 0.08  # cosine below which a surface is not seen
_MAX_TILT = 3.0  # degrees
_ENOUGH = 3200  # visible points: 2,048 are left when 35 % are hidden
_MAX_VIEWS = 8


@dataclass(frozen=True)
class Scan:
    """Points of one object.

    Attributes:
        points: ``[2048, 3]`` in m, y upwards, before they are centred and scaled.
        on_object: ``[2048]`` whether a point is on the object (True) or its surroundings.
        num_seen: number of different points among them.
    """

    points: np.ndarray
    on_object: np.ndarray
    num_seen: int


def scan(shape: Shape, random: np.random.Generator, background: bool = False) -> Scan:
    """Scan a shape from random sides.

    Args:
        shape: the object in its room.
        random: generator of all choices.
        background: add floor, wall and neighbouring objects.

    Returns:
        The points, turned by a random heading and a tilt of at most 3°.
    """
    dice = Dice(random)
    mesh = join([shape.mesh, surroundings(shape, dice)]) if background else shape.mesh
    points, normals, triangles = sample_surface(mesh, random, _NUM_SAMPLES)
    on_object = triangles < len(shape.mesh)
    seen, points = _observe(points, normals, shape, dice, random)
    points, on_object = points[seen], on_object[seen]
    kept = ~hidden(points, dice) if dice.chance(0.6) else np.ones(len(points), dtype=bool)
    points, on_object = points[kept], on_object[kept]
    chosen = _choose(len(points), random)
    turned = points[chosen] @ pose(dice).T
    return Scan(turned, on_object[chosen], min(len(points), NUM_POINTS))


def sample_surface(mesh: Mesh, random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points spread evenly over all triangles, by area.

    Returns:
        Points ``[count, 3]``, outward unit normals ``[count, 3]`` and the number of the triangle ``[count]``.
    """
    first, second = mesh[:, 1] - mesh[:, 0], mesh[:, 2] - mesh[:, 0]
    normals = np.cross(first, second)
    lengths = np.linalg.norm(normals, axis=1)
    ends = np.cumsum(lengths)
    # One point in every count-th part of the area: stratified sampling.
    places = (np.arange(count) + random.random(count)) * (ends[-1] / count)
    chosen = np.minimum(np.searchsorted(ends, places, side="right"), len(mesh) - 1)
    u, v = random.random((2, count, 1))
    u, v = np.where(u + v > 1.0, 1.0 - u, u), np.where(u + v > 1.0, 1.0 - v, v)
    points = mesh[chosen, 0] + u * first[chosen] + v * second[chosen]
    return points, normals[chosen] / np.maximum(lengths[chosen], 1e-12)[:, None], chosen


def visible(points: np.ndarray, normals: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Points visible to a camera: those that face it and are nearest in their pixel of a depth image.

    Args:
        points: ``[point, 3]``, dense enough that every surface covers its pixels.
        normals: ``[point, 3]``, outward.
        camera: ``[3]``, its position.

    Returns:
        ``[point]``, True where seen.
    """
    rays = points - camera
    distances = np.linalg.norm(rays, axis=1)
    facing = -np.einsum("pi,pi->p", rays, normals) / distances
    ahead = points.mean(axis=0) - camera
    ahead /= np.linalg.norm(ahead)
    right = np.array([-ahead[2], 0.0, ahead[0]]) / np.hypot(ahead[0], ahead[2])
    depths = rays @ ahead
    image = np.stack([rays @ right, rays @ np.cross(right, ahead)], axis=1) / depths[:, None]
    low = image.min(axis=0)
    size = float((image.max(axis=0) - low).max()) / _PIXELS
    pixels = ((image - low) / size).astype(np.int64) + 1  # a margin of one pixel all around
    width = _PIXELS + 3
    index = pixels[:, 0] * width + pixels[:, 1]
    nearest = _nearest(index, depths, facing > _GRAZING, width)
    # On a slanted surface depth changes within the pixels compared.
    slope = np.sqrt(np.maximum(1.0 - facing**2, 0.0)) / np.maximum(facing, 0.15)
    slack = depths * size * (1.0 + 2.0 * slope)
    return (facing > _GRAZING) & (depths <= nearest[index] + slack)


def hidden(points: np.ndarray, dice: Dice) -> np.ndarray:
    """Points occluded by something else: those beyond a plane, or in a box around one of them.

    Args:
        points: ``[point, 3]``.
        dice: source of the choices.

    Returns:
        ``[point]``, True for at most 35 % of the points.
    """
    share = dice.between(0.05, 0.35)
    if dice.chance(0.5):
        angle, rise = dice.between(0.0, 2.0 * np.pi), dice.between(-0.7, 0.7)
        places = points @ np.array([np.cos(angle), rise, np.sin(angle)])
    else:
        centre = points[int(dice.between(0, len(points)))]
        sizes = np.array([dice.between(0.3, 1.0) for _ in range(3)])
        places = -np.abs((points - centre) / sizes).max(axis=1)
    return places > np.sort(places)[int((1.0 - share) * (len(places) - 1))]


def surroundings(shape: Shape, dice: Dice) -> Mesh:
    """The support of the object, a wall behind it where it has one, and up to two neighbouring objects.

    All are cut at a box around the object, as in scans of rooms.
    """
    low, high = shape.mesh.min(axis=(0, 1)), shape.mesh.max(axis=(0, 1))
    margin = dice.between(0.08, 0.25) * float((high - low).max())
    low, high = low - (margin, 0.0, margin), high + margin
    size, middle = high - low, (low + high) / 2
    parts = [box(size[0], 0.02, size[2], middle[0], shape.support - 0.02, middle[2])]
    if shape.against_wall:
        behind = float(low[2]) + margin * dice.between(0.5, 1.0)
        parts.append(box(size[0], size[1], 0.02, middle[0], shape.support, behind - 0.01))
    for _ in range(dice.pick(0, 1, 2)):
        wide, tall, deep = (
            margin * dice.between(0.7, 1.2),
            size[1] * dice.between(0.1, 0.6),
            size[2] * dice.between(0.2, 0.8),
        )
        x = middle[0] + dice.pick(-1, 1) * (size[0] - wide) / 2
        z = middle[2] + dice.between(-0.5, 0.5) * (size[2] - deep)
        parts.append(box(wide, tall, deep, x, shape.support, z))
    return join(parts)


def _observe(
    points: np.ndarray, normals: np.ndarray, shape: Shape, dice: Dice, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points that at least one camera sees, and all points with the noise of the first camera that sees them.

    Further cameras are added while too few points are seen, as of a screen from its side.
    """
    seen, noisy = np.zeros(len(points), dtype=bool), points.copy()
    first = dice.between(-75, 75) if shape.against_wall else dice.between(-180, 180)
    precision = dice.between(0.001, 0.004)  # of the distance
    views = dice.pick(1, 1, 1, 2, 2, 3)
    for view in range(_MAX_VIEWS):
        if view >= views and np.count_nonzero(seen) >= _ENOUGH:
            break
        heading = first + (dice.pick(-1, 1) * dice.between(25, 110) if view else 0.0)
        heading = max(-80.0, min(80.0, heading)) if shape.against_wall else heading
        camera = _camera(shape.mesh, np.deg2rad(heading), dice)
        new = visible(points, normals, camera) & ~seen
        rays = points[new] - camera
        aside = 0.25 * np.linalg.norm(rays, axis=1, keepdims=True) * random.standard_normal(rays.shape)
        noisy[new] += precision * (rays * random.standard_normal((len(rays), 1)) + aside)
        seen |= new
    return seen, noisy


def _camera(mesh: Mesh, heading: float, dice: Dice) -> np.ndarray:
    """A position at eye height, 0.6 to 2.2 m from the object."""
    low, high = mesh.min(axis=(0, 1)), mesh.max(axis=(0, 1))
    middle = (low + high) / 2
    away = float(np.linalg.norm((high - low)[[0, 2]])) / 2 + dice.between(0.6, 2.2)
    return np.array([middle[0] + away * np.sin(heading), dice.between(1.0, 1.9), middle[2] + away * np.cos(heading)])


def _nearest(index: np.ndarray, depths: np.ndarray, counted: np.ndarray, width: int) -> np.ndarray:
    """Smallest depth in every pixel and its neighbours."""
    image = np.full(width * width, np.inf)
    np.minimum.at(image, index[counted], depths[counted])
    square = np.pad(image.reshape(width, width), 1, constant_values=np.inf)
    rows = np.minimum(np.minimum(square[:-2], square[1:-1]), square[2:])
    return np.minimum(np.minimum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:]).ravel()


def _choose(count: int, random: np.random.Generator) -> np.ndarray:
    """2,048 of ``count`` points, each at most once where there are enough."""
    order = np.argsort(random.random(count), kind="stable")
    return order[np.arange(NUM_POINTS) % count]


def pose(dice: Dice) -> np.ndarray:
    """A random heading, then a tilt of at most 3° about a random horizontal axis."""
    heading, tilt, about = (
        dice.between(0, 2 * np.pi),
        np.deg2rad(dice.between(0, _MAX_TILT)),
        dice.between(0, 2 * np.pi),
    )
    spin, lean, back = _about_y(heading), np.eye(3), _about_y(about)
    lean[1:, 1:] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    return back @ lean @ back.T @ spin


def _about_y(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
