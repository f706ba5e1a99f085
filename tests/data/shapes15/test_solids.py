from __future__ import annotations

import numpy as np
import pytest

from se3t.data.shapes15.scan import sample_surface
from se3t.data.shapes15.shapes import KINDS, draw_shape
from se3t.data.shapes15.solids import Dice, Mesh, arc, box, cushion, loft, move, tube, turn

CYLINDER = [(0.0, 0.0, 0.0), (0.0, 1.0, 1.0), (2.0, 1.0, 1.0), (2.0, 0.0, 0.0)]
CLOSED = {
    "box": lambda: box(1.0, 2.0, 3.0, 0.3, 0.1, -0.2),
    "cylinder": lambda: loft(CYLINDER, sides=200),
    "ball": lambda: cushion(2.0, 2.0, 2.0, roundness=2.0, squareness=2.0),
    "pillow": lambda: cushion(0.6, 0.2, 0.4, roundness=1.5, squareness=6.0),
    "turned": lambda: turn(turn(box(1.0, 2.0, 3.0), "x", 40.0), "z", -75.0, (1.0, 2.0, 0.0)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_normals_of_a_closed_solid_point_outwards(name: str) -> None:
    mesh = CLOSED[name]()
    assert volume(mesh) > 0  # by the divergence theorem, negative where they point inwards
    centre = mesh.mean(axis=(0, 1))
    normals = np.cross(mesh[:, 1] - mesh[:, 0], mesh[:, 2] - mesh[:, 0])
    assert np.einsum("ti,ti->t", normals, mesh.mean(axis=1) - centre).min() >= -1e-12  # all of these are convex


def test_volumes_are_those_of_the_solids() -> None:
    assert volume(CLOSED["box"]()) == pytest.approx(6.0)
    assert volume(CLOSED["turned"]()) == pytest.approx(6.0)
    assert volume(CLOSED["cylinder"]()) == pytest.approx(2 * np.pi, rel=1e-3)
    assert volume(CLOSED["ball"]()) == pytest.approx(4 / 3 * np.pi, rel=0.05)


def test_a_skin_that_turns_back_is_the_inside_of_a_vessel() -> None:
    vessel = loft(
        [(0.0, 0.0, 0.0), (0.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 0.9, 0.9), (0.1, 0.9, 0.9), (0.1, 0.0, 0.0)]
    )
    points, normals, _ = sample_surface(vessel, np.random.default_rng(0), 4000)
    radii = np.hypot(points[:, 0], points[:, 2])
    outwards = np.einsum("pi,pi->p", points[:, [0, 2]], normals[:, [0, 2]])
    walls = (points[:, 1] > 0.11) & (points[:, 1] < 0.99)
    assert np.all(outwards[walls & (radii > 0.95)] > 0)
    assert np.all(outwards[walls & (radii < 0.95)] < 0)


def test_a_rod_has_its_radius_and_its_normals_outwards() -> None:
    rod = tube([(0.0, 0.0, 0.0), (0.0, 0.0, 2.0)], 0.1, sides=32)
    points, normals, _ = sample_surface(rod, np.random.default_rng(0), 500)
    np.testing.assert_allclose(np.linalg.norm(points[:, :2], axis=1), 0.1, rtol=0.01)
    assert np.all(np.einsum("pi,pi->p", points[:, :2], normals[:, :2]) > 0)


def test_a_handle_begins_and_ends_at_its_height() -> None:
    path = arc(0.4, 0.3, x=1.0, y=2.0, z=3.0)
    np.testing.assert_allclose(path[[0, -1]], [(1.2, 2.0, 3.0), (0.8, 2.0, 3.0)])
    assert path[:, 1].max() == pytest.approx(2.3)


def test_turning_is_right_handed_about_a_point() -> None:
    turned = turn(np.array([[[1.0, 0.0, 0.0]]]), "y", 90.0, (1.0, 0.0, 1.0))
    np.testing.assert_allclose(turned[0, 0], (0.0, 0.0, 1.0), atol=1e-12)
    np.testing.assert_allclose(turn(move(turned, y=1.0), "x", 90.0)[0, 0], (0.0, -1.0, 1.0), atol=1e-12)


def test_points_are_spread_by_area() -> None:
    small, large = box(1.0, 1.0, 1.0), box(3.0, 3.0, 3.0, x=10.0)
    points, _, triangles = sample_surface(np.concatenate([small, large]), np.random.default_rng(0), 10_000)
    assert np.mean(points[:, 0] < 5.0) == pytest.approx(0.1, abs=0.001)
    assert np.array_equal(points[:, 0] < 5.0, triangles < len(small))


def test_a_choice_is_one_uniform_number() -> None:
    dice, numbers = Dice(np.random.default_rng(3)), np.random.default_rng(3).random(3)
    assert dice.between(2.0, 4.0) == 2.0 + 2.0 * numbers[0]
    assert dice.chance(0.5) == (numbers[1] < 0.5)
    assert dice.pick(*range(10)) == int(10 * numbers[2])


@pytest.mark.parametrize("name", KINDS)
def test_objects_of_a_class_differ_and_stand_on_their_support(name: str) -> None:
    shapes = [draw_shape(name, Dice(np.random.default_rng([1, i]))) for i in range(12)]
    for shape in shapes:
        assert np.isfinite(shape.mesh).all()
        assert shape.mesh[..., 1].min() == pytest.approx(shape.support, abs=1e-9)
        assert 0.1 < extents(shape.mesh).max() < 3.5  # metres: a bag, a large desk
    proportions = np.array([extents(shape.mesh) / extents(shape.mesh).max() for shape in shapes])
    assert len({len(shape.mesh) for shape in shapes}) > 1  # other parts
    assert proportions.std(axis=0).max() > 0.03  # and other proportions


@pytest.mark.parametrize(("name", "upper_half_is_larger"), [("table", True), ("sofa", False)])
def test_up_is_y(name: str, upper_half_is_larger: bool) -> None:
    """A table has its top above and its legs below; a sofa has its seat below and its back above."""
    shares = []
    for i in range(20):
        shape = draw_shape(name, Dice(np.random.default_rng([2, i])))
        points, _, _ = sample_surface(shape.mesh, np.random.default_rng(i), 2000)
        height = points[:, 1] - shape.support
        shares.append(np.mean(height > height.max() / 2))
    assert (np.mean(shares) > 0.5) == upper_half_is_larger


def test_the_seat_of_a_chair_is_above_its_legs_and_below_its_back() -> None:
    heights = []
    for i in range(40):
        mesh = draw_shape("chair", Dice(np.random.default_rng([3, i]))).mesh
        low, high = mesh[..., 1].min(), mesh[..., 1].max()
        normals = np.cross(mesh[:, 1] - mesh[:, 0], mesh[:, 2] - mesh[:, 0])
        level = normals[:, 1] > 0.9 * np.linalg.norm(normals, axis=1) + 1e-12
        place = np.average(mesh[level].mean(axis=1)[:, 1], weights=normals[level, 1])
        heights.append((place - low) / (high - low))
    assert 0.35 < np.mean(heights) < 0.75


def volume(mesh: Mesh) -> float:
    return float(np.einsum("ti,ti->t", mesh[:, 0], np.cross(mesh[:, 1], mesh[:, 2])).sum() / 6)


def extents(mesh: Mesh) -> np.ndarray:
    return np.asarray(np.ptp(mesh.reshape(-1, 3), axis=0))
