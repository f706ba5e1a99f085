from __future__ import annotations

import numpy as np
import pytest

from se3t.data.shapes15 import scan as scanning
from se3t.data.shapes15.scan import NUM_POINTS, Scan, hidden, pose, sample_surface, scan, surroundings, visible
from se3t.data.shapes15.shapes import KINDS, Shape, draw_shape
from se3t.data.shapes15.solids import Dice, box, cushion, join

BALL = Shape(cushion(1.0, 1.0, 1.0, roundness=2.0, squareness=2.0), against_wall=False, support=0.0)
CAMERA = np.array([0.0, 0.5, 3.0])


def test_a_camera_sees_the_near_side_of_a_ball() -> None:
    points, normals, _ = sample_surface(BALL.mesh, np.random.default_rng(0), 20_000)
    seen = visible(points, normals, CAMERA)
    facing = np.einsum("pi,pi->p", normals, CAMERA - points) / np.linalg.norm(CAMERA - points, axis=1)
    assert not seen[facing < 0].any()
    assert seen[facing > 0.2].mean() > 0.99


def test_what_is_in_front_hides_what_is_behind() -> None:
    front, back = box(1.0, 1.0, 0.1, z=1.0), box(0.8, 0.8, 0.1, y=0.1, z=-1.0)
    points, normals, triangles = sample_surface(join([front, back]), np.random.default_rng(0), 20_000)
    seen, of_back = visible(points, normals, CAMERA), triangles >= len(front)
    assert seen[~of_back & (normals[:, 2] > 0.9)].mean() > 0.99
    assert seen[of_back].mean() < 0.001
    alone = visible(points[of_back], normals[of_back], CAMERA)
    assert alone[normals[of_back][:, 2] > 0.9].mean() > 0.99  # it was hidden, and not turned away


def test_the_inside_of_a_solid_is_never_seen() -> None:
    points, normals, triangles = sample_surface(
        join([box(1, 1, 1), box(0.6, 0.6, 0.6, y=0.2)]), np.random.default_rng(0), 20_000
    )
    assert not visible(points, normals, CAMERA)[triangles >= 12].any()


def test_a_scan_is_a_partial_view() -> None:
    """Of 100 directions around a ball some have no point near them; of points all over it every one has."""
    directions = unit(np.random.default_rng(1).standard_normal((100, 3)))
    everywhere, _, _ = sample_surface(BALL.mesh, np.random.default_rng(0), NUM_POINTS)
    centre = np.array([0.0, 0.5, 0.0])
    assert covered(directions, everywhere - centre) == 1.0
    shares = []
    for i in range(10):
        seen = scan(BALL, np.random.default_rng([4, i])).points
        # A scan is turned about the vertical through the origin, and tilted: its sphere is found by least squares.
        shares.append(covered(directions, seen - centre_of_sphere(seen)))
    assert max(shares) < 0.95
    assert min(shares) < 0.6


def test_nobody_looks_from_behind_at_what_stands_against_a_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[np.ndarray] = []

    def record(points: np.ndarray, normals: np.ndarray, camera: np.ndarray) -> np.ndarray:
        places.append(camera)
        return visible(points, normals, camera)

    monkeypatch.setattr(scanning, "visible", record)
    behind, views = {}, set()
    for wall in (True, False):
        places.clear()
        for i in range(30):
            before = len(places)
            scan(Shape(box(1.0, 1.0, 0.4), wall, 0.0), np.random.default_rng([5, i]))
            views.add(len(places) - before)
        cameras = np.stack(places)
        behind[wall] = float(np.mean(cameras[:, 2] < 0))
        assert np.all((cameras[:, 1] >= 1.0) & (cameras[:, 1] <= 1.9))  # at the height of somebody's eyes
    assert behind[True] == 0.0
    assert 0.25 < behind[False] < 0.75
    assert views == {1, 2, 3}


def test_points_have_noise_of_millimetres() -> None:
    distances = []
    for i in range(6):
        points = scan(BALL, np.random.default_rng([6, i])).points
        distances.append(np.std(np.linalg.norm(points - centre_of_sphere(points), axis=1)))
    facets = 0.004  # the ball has 12 × 24 faces
    assert facets / 10 < min(distances)
    assert 0.001 < np.mean(distances) < 0.02
    still, _, _ = sample_surface(BALL.mesh, np.random.default_rng(0), NUM_POINTS)
    assert np.std(np.linalg.norm(still - (0.0, 0.5, 0.0), axis=1)) < np.mean(distances)


def test_something_hides_at_most_35_percent() -> None:
    points = np.random.default_rng(0).standard_normal((3000, 3))
    shares = [hidden(points, Dice(np.random.default_rng([7, i]))).mean() for i in range(50)]
    assert 0.04 < min(shares) < 0.15
    assert 0.25 < max(shares) < 0.36


def test_headings_go_all_around_and_tilts_stay_below_3_degrees() -> None:
    poses = np.stack([pose(Dice(np.random.default_rng([8, i]))) for i in range(60)])
    np.testing.assert_allclose(poses @ poses.transpose(0, 2, 1), np.broadcast_to(np.eye(3), poses.shape), atol=1e-12)
    assert np.all(np.linalg.det(poses) > 0)
    tilts = np.degrees(np.arccos(poses[:, 1, 1]))
    assert 2.0 < tilts.max() <= 3.0
    assert tilts.min() < 1.0
    headings = np.arctan2(poses[:, 0, 2], poses[:, 2, 2])
    assert np.histogram(headings, bins=8, range=(-np.pi, np.pi))[0].min() > 0


@pytest.mark.parametrize("name", KINDS)
def test_background_is_not_on_the_object_and_the_object_remains(name: str) -> None:
    for i in range(3):
        random = np.random.default_rng([9, i])
        shape = draw_shape(name, Dice(random))
        seen = scan(shape, random, background=True)
        assert 0.05 < seen.on_object.mean() < 0.95
        assert seen.num_seen == NUM_POINTS
        assert (
            np.ptp(seen.points[:, [0, 2]], axis=0).max()
            > 0.9 * np.ptp(seen.points[seen.on_object][:, [0, 2]], axis=0).max()
        )
        assert scan(shape, random).on_object.all()


def test_surroundings_stay_near_and_below_or_behind_or_beside() -> None:
    shape = Shape(box(1.0, 1.0, 1.0, y=0.5), against_wall=True, support=0.5)
    for i in range(20):
        mesh = surroundings(shape, Dice(np.random.default_rng([10, i])))
        assert mesh[..., 1].min() >= 0.5 - 0.021
        assert np.abs(mesh[..., [0, 2]]).max() <= 0.5 + 0.26
        corners = mesh.reshape(-1, 3)
        inside = (np.abs(corners[:, [0, 2]]) < 0.5 - 0.1).all(axis=1) & (corners[:, 1] > 0.51)
        assert not inside.any()


@pytest.mark.parametrize("name", KINDS)
def test_the_number_and_the_spread_of_points_tell_nothing_of_the_class(name: str) -> None:
    """2,048 different points, the next one of each at about the distance that the area seen gives."""
    for i in range(3):
        random = np.random.default_rng([11, i])
        seen = scan(draw_shape(name, Dice(random)), random)
        assert seen.points.shape == (NUM_POINTS, 3)
        assert seen.num_seen == len(np.unique(seen.points, axis=0)) == NUM_POINTS
        assert 0.3 < variation(seen) < 1.0  # of an even random spread: about 0.52


def test_a_scan_is_a_function_of_its_random_numbers() -> None:
    first, again, other = (scan(BALL, np.random.default_rng(seed)).points for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def covered(directions: np.ndarray, points: np.ndarray) -> float:
    """Share of the directions with a point within 15°."""
    return float(np.mean((directions @ unit(points).T).max(axis=1) > np.cos(np.radians(15))))


def centre_of_sphere(points: np.ndarray) -> np.ndarray:
    system = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
    return np.asarray(np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0][:3])


def variation(seen: Scan) -> float:
    """Standard deviation over mean of the distance to the nearest other point."""
    squares = (seen.points**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * seen.points @ seen.points.T
    np.fill_diagonal(distances, np.inf)
    nearest = np.sqrt(np.maximum(distances.min(axis=1), 0.0))
    return float(nearest.std() / nearest.mean())
