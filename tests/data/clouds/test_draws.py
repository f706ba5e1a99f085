"""What chance decides about an object: a function of a number and of the object, and of nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from se3t.config import rotation_angle
from se3t.data.clouds.draws import SO3, CloudDraws, random_rotations, turn
from se3t.errors import UserError
from se3t.neighbors import farthest_point_sampling

SIZE = 40
UP = {"x": 0, "y": 1, "z": 2}


def clouds(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, SIZE, 3, generator=torch.Generator().manual_seed(7)).to(dtype)


def rows_of(chosen: Tensor, points: Tensor) -> list[list[int]]:
    """Which of its points were chosen from each object, in their order."""
    found = (chosen[:, :, None] == points[:, None]).all(dim=-1)
    assert bool((found.sum(dim=-1) == 1).all())
    return found.long().argmax(dim=-1).tolist()


def angles(rotation: Tensor) -> Tensor:
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))


def axes(rotation: Tensor) -> Tensor:
    """Unit vectors that the rotations leave in place, with the sign of a right-handed turn."""
    crossed = (rotation - rotation.transpose(1, 2)) / 2
    vector = torch.stack((crossed[:, 2, 1], crossed[:, 0, 2], crossed[:, 1, 0]), dim=1)
    return vector / vector.norm(dim=1, keepdim=True)


def assert_rotations(rotation: Tensor) -> None:
    eye = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), eye, rtol=0, atol=1e-13)
    torch.testing.assert_close(torch.linalg.det(rotation), eye[:, 0, 0], rtol=0, atol=1e-13)


# --- points -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["farthest", "random"])
def test_the_points_of_an_object_depend_on_the_draw_and_on_the_object_alone(sampling: str) -> None:
    points, objects = clouds(6), [3, 9, 4, 0, 17, 5]
    together = CloudDraws(11, objects).choose(points, 12, sampling)
    assert together.shape == (6, 12, 3)
    for row, number in enumerate(objects):
        alone = CloudDraws(11, [number]).choose(points[row : row + 1], 12, sampling)
        assert torch.equal(alone[0], together[row])
    order = [4, 0, 2]
    some = CloudDraws(11, [objects[row] for row in order]).choose(points[order], 12, sampling)
    assert torch.equal(some, together[order])
    torch.manual_seed(123)  # nor on the random numbers of others
    assert torch.equal(CloudDraws(11, objects).choose(points, 12, sampling), together)


@pytest.mark.parametrize("sampling", ["farthest", "random"])
def test_another_draw_and_another_object_give_other_points(sampling: str) -> None:
    same = clouds(1).expand(30, -1, -1)
    chosen = {draw: rows_of(CloudDraws(draw, range(30)).choose(same, 12, sampling), same) for draw in (0, 1, 2**33 + 5)}
    for rows in chosen.values():
        assert len({tuple(row) for row in rows}) > 15
        assert len({row[0] for row in rows}) > 12  # starts from anywhere
    for one, other in ((0, 1), (0, 2**33 + 5), (1, 2**33 + 5)):
        assert sum(left == right for left, right in zip(chosen[one], chosen[other], strict=True)) < 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_farthest_points_are_those_of_farthest_point_sampling_from_the_first_one(dtype: torch.dtype) -> None:
    points = clouds(5, dtype)
    chosen = rows_of(CloudDraws(2, range(5)).choose(points, 10, "farthest"), points)
    for row, cloud in zip(chosen, points, strict=True):
        assert row == farthest_point_sampling(cloud, 10, start=torch.tensor(row[:1])).tolist()


def test_random_points_are_drawn_without_repetition_and_evenly() -> None:
    points = clouds(1).expand(400, -1, -1)
    rows = torch.tensor(rows_of(CloudDraws(3, range(400)).choose(points, 10, "random"), points))
    assert all(len(set(row)) == 10 for row in rows.tolist())
    counts = torch.bincount(rows.flatten(), minlength=SIZE)  # 4000 places of 40 points: 100 each, deviation 8.7
    assert 60 < int(counts.min()) <= int(counts.max()) < 140


@pytest.mark.parametrize("sampling", ["farthest", "random"])
def test_all_points_may_be_asked_for_and_no_more(sampling: str) -> None:
    points = clouds(3)
    rows = rows_of(CloudDraws(0, range(3)).choose(points, SIZE, sampling), points)
    assert all(sorted(row) == list(range(SIZE)) for row in rows)
    with pytest.raises(UserError, match=r"^task\.num_points=41: the objects have 40 points; ask for 40 or fewer$"):
        CloudDraws(0, range(3)).choose(points, SIZE + 1, sampling)


# --- rotations and noise ----------------------------------------------------------------------------------------------


def test_haar_rotations_turn_every_direction_anywhere() -> None:
    rotation = CloudDraws(5, range(2000)).haar()
    assert_rotations(rotation)
    # E R = 0, and R² of every entry is 1/3 on average.
    assert float(rotation.mean(dim=0).abs().max()) < 0.06
    torch.testing.assert_close(rotation.square().mean(dim=0), torch.full((3, 3), 1 / 3).double(), rtol=0, atol=0.03)
    assert float((angles(rotation) > 90).double().mean()) == pytest.approx(0.5 + 1 / math.pi, abs=0.04)


@pytest.mark.parametrize("up", UP)
def test_vertical_rotations_keep_heights_and_turn_by_any_angle(up: str) -> None:
    axis = UP[up]
    rotation = CloudDraws(5, range(1000)).vertical(axis)
    assert_rotations(rotation)
    assert torch.equal(rotation[:, axis, axis], torch.ones(1000, dtype=torch.float64))
    turned = turn(clouds(1000), rotation)
    assert float((turned - clouds(1000))[..., axis].abs().max()) < 1e-6
    heading = torch.atan2(rotation[:, (axis + 2) % 3, (axis + 1) % 3], rotation[:, (axis + 1) % 3, (axis + 1) % 3])
    assert torch.histc(heading, 4, -math.pi, math.pi).min() > 190
    assert float(heading.cos().mean().abs()) < 0.08


def test_random_rotations_are_those_of_the_kind_asked_for() -> None:
    for kind, expected in ((SO3, CloudDraws(1, range(4)).haar()), ("vertical", CloudDraws(1, range(4)).vertical(2))):
        assert torch.equal(random_rotations(CloudDraws(1, range(4)), kind, 2), expected)


@pytest.mark.parametrize("up", UP)
@pytest.mark.parametrize("largest", [1.0, 90.0, 180.0])
def test_tilts_are_about_a_horizontal_axis_by_no_more_than_asked(up: str, largest: float) -> None:
    rotation = CloudDraws(5, range(500)).tilt(UP[up], largest)
    assert_rotations(rotation)
    turned_by = angles(rotation)
    assert float(turned_by.max()) <= largest + 1e-6
    assert float(turned_by.mean()) == pytest.approx(largest / 2, rel=0.1)  # uniform from 0
    certain = (turned_by > largest / 100) & (turned_by < 179)
    assert float(axes(rotation)[certain, UP[up]].abs().max()) < 1e-9


def test_tilts_of_all_sizes_share_their_axes_and_their_share_of_the_largest_angle() -> None:
    small, large = (CloudDraws(5, range(200)).tilt(1, largest) for largest in (20.0, 170.0))
    torch.testing.assert_close(angles(small) / 20, angles(large) / 170, rtol=0, atol=1e-6)
    certain = angles(small) > 0.1
    torch.testing.assert_close(axes(small)[certain], axes(large)[certain], rtol=0, atol=1e-9)
    heading = torch.atan2(axes(small)[:, 2], axes(small)[:, 0])
    assert torch.histc(heading, 4, -math.pi, math.pi).min() > 30  # axes point anywhere in the plane


def test_a_tilt_of_nothing_leaves_points_as_they_are() -> None:
    rotation = CloudDraws(5, range(50)).tilt(1, 0.0)
    torch.testing.assert_close(rotation, torch.eye(3, dtype=torch.float64).expand(50, 3, 3), rtol=0, atol=1e-15)


def test_noise_is_normal() -> None:
    noise = CloudDraws(5, range(20)).noise(500)
    assert noise.shape == (20, 500, 3)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert torch.equal(CloudDraws(5, [7]).noise(500)[0], noise[7])


def test_points_are_turned_from_the_left_and_rounded_once() -> None:
    points, rotation = clouds(4), CloudDraws(0, range(4)).haar()
    exact = torch.stack([(rotation[row] @ points[row].double().T).T for row in range(4)])
    turned = turn(points, rotation)
    assert turned.dtype == torch.float32
    torch.testing.assert_close(turned.double(), exact, rtol=2**-24, atol=1e-30)
    assert torch.equal(turn(points.double(), rotation).float(), turned)


# --- what a user writes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "angle"), [("0", 0.0), ("90", 90.0), ("22.5", 22.5), ("180", 180.0), ("so3", math.inf)]
)
def test_a_rotation_is_an_angle_or_so3(text: str, angle: float) -> None:
    assert rotation_angle(text) == angle


@pytest.mark.parametrize("text", ["200", "-1", "180.5", "sideways", "nan", "inf", "", "so2", "SO3", "90°"])
def test_anything_else_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UserError) as caught:
        rotation_angle(text)
    assert str(caught.value).startswith(f"task.test_rotation={text}: expected degrees from 0 to 180")
    assert "so3" in str(caught.value)
    assert "\n" not in str(caught.value)
