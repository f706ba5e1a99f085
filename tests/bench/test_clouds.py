"""``python -m benchmarks clouds``, and the store of scans in ``se3t bench data``."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import clouds
from se3t.bench import data
from se3t.bench.child import Peak, peak_memory_elsewhere
from se3t.bench.equality import Difference, DisagreementError
from se3t.bench.options import Options
from se3t.bench.report import Report
from se3t.bench.workloads import WORKLOADS
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.graph import Graph
from se3t.tasks.classification import CloudBatch

pytestmark = pytest.mark.e2e  # comparisons with other codes

QUICK = Options(quick=True, threads=1, repetitions=1)
NAMES = ["se3_transformer+z", "tfn"]


def test_boxes_are_centred_in_the_unit_ball_and_follow_their_seed() -> None:
    made, again, other = (clouds.boxes(3, seed).points for seed in (1, 1, 2))
    assert made.shape == (3, 2048, 3)
    assert np.array_equal(made, again)
    assert not np.array_equal(made, other)
    np.testing.assert_allclose(made.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(made, axis=2).max(1), 1, atol=1e-6)


def test_points_of_a_box_lie_on_its_six_faces() -> None:
    points = clouds.boxes(1, 0).points[0]
    on_face = np.isclose(points, points.max(0), atol=1e-6) | np.isclose(points, points.min(0), atol=1e-6)
    assert on_face.any(axis=1).all()
    assert on_face.sum(axis=0).min() > 500


@pytest.mark.parametrize("name", clouds.CONTENDERS)
def test_every_model_computes_what_the_reference_kernel_computes(name: str) -> None:
    found = clouds.difference_of(name, seed=3).check(name)
    assert max(found.value, found.gradient) <= 1e-12


def test_a_model_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "difference_of", lambda *_: Difference(1e-3, 0.0, 0.0, 0.0))
    monkeypatch.setattr(Options, "time", lambda *_, **__: pytest.fail("it was timed"))
    with pytest.raises(DisagreementError, match="tfn: its output in float64 differs"):
        clouds.run(QUICK, ["tfn"])


def test_models_are_those_of_the_experiment_with_and_without_height() -> None:
    steps = {name: clouds.rebuild(name, 4, 1, 0, "cpu") for name in clouds.CONTENDERS}
    assert {name: step.task.fiber_in for name, step in steps.items()} == {
        "se3_transformer": Fiber("1x0"),
        "se3_transformer+z": Fiber("2x0"),
        "tfn": Fiber("1x0"),
        "tfn+z": Fiber("2x0"),
    }
    for name, channels in (("se3_transformer", 5), ("tfn", 3)):
        model = steps[name].model
        assert len(model.layers) == 4
        assert model.fiber_hidden == Fiber.uniform(4, channels)
        assert model.layers[-1].fiber_out == Fiber("64x0")


def test_a_step_draws_other_points_of_other_objects_every_time_and_leaves_gradients() -> None:
    step = clouds.rebuild("tfn", 4, 2, 0, "cpu")
    seen: list[tuple[CloudBatch, Graph]] = []
    graph = step.task.graph

    def look(batch: CloudBatch) -> Graph:
        seen.append((batch, graph(batch)))
        return seen[-1][1]

    step.task.graph = look  # type: ignore[method-assign]
    for _ in range(5):
        parts = step.run(time.perf_counter)
        assert len(parts) == 4
        assert min(parts) > 0
    assert [batch.labels.tolist() for batch, _ in seen] == [[2, 3], [4, 5], [6, 7], [0, 1], [2, 3]]
    assert {graph.edge_index.shape for _, graph in seen} == {(2, 2 * 128 * 4)}
    assert not torch.equal(seen[0][0].points, seen[4][0].points)
    assert all(value.grad is not None for value in step.model.parameters())


@pytest.fixture(scope="module")
def report() -> Report:
    return clouds.run(QUICK, NAMES, [3, 5], num_graphs=1)


def test_report_has_a_row_for_every_number_of_neighbours_and_model(report: Report) -> None:
    assert [(row["case"], row["name"]) for row in report.rows] == [
        (case, name) for case in ("k = 3", "k = 5") for name in NAMES
    ]
    for first, second in (report.rows[:2], report.rows[2:]):
        assert first["ratio"] == 1
        assert second["ratio"] == pytest.approx(second["step"] / first["step"])
    assert [row["num_edges"] for row in report.rows] == [384, 384, 640, 640]


def test_share_of_data_is_that_of_sampling_and_neighbours(report: Report) -> None:
    for row in report.rows:
        parts = [row[key] for key in ("sample", "join", "forward", "backward")]
        assert row["share_of_data"] == pytest.approx(sum(parts[:2]) / sum(parts))
        assert 0 < row["share_of_data"] < 1
    most = max(row["share_of_data"] for row in report.rows)
    assert any(f"at most {100 * most:.2g} %" in note for note in report.notes)


def test_report_says_that_clouds_are_synthetic_and_what_was_checked(report: Report) -> None:
    assert "synthetic" in report.title
    assert any("clouds are synthetic" in note for note in report.notes)
    assert any("equals the reference kernel" in note for note in report.notes)
    assert all(row["difference"] <= 1e-12 for row in report.rows)
    assert report.settings["neighbors"] == [3, 5]


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether models compute the same is another test's matter."""
    monkeypatch.setattr(clouds, "difference_of", lambda *_: Difference(0.0, 0.0, 0.0, 0.0))


@pytest.mark.usefixtures("unchecked")
def test_peak_memory_is_measured_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object]] = []

    def measure_peak(self: Options, maker: str, arguments: dict[str, object], rounds: int = 3) -> Peak:
        asked.append((maker, arguments["name"]))
        return peak_memory_elsewhere(maker, arguments, device="cpu", threads=1, rounds=1)

    monkeypatch.setattr(Options, "measure_peak", measure_peak)
    (row,) = clouds.run(dataclasses.replace(QUICK, quick=False), ["tfn"], [3], num_graphs=1).rows
    assert asked == [("benchmarks.clouds:rebuild", "tfn")]
    assert row["peak_memory"] > 0


@pytest.mark.usefixtures("unchecked")
def test_peak_memory_that_is_missing_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Options, "measure_peak", lambda *_: Peak(None, "ended by SIGKILL"))
    found = clouds.run(dataclasses.replace(QUICK, quick=False), ["tfn"], [3], num_graphs=1)
    assert "k = 3, tfn: peak memory is missing: its process ended by SIGKILL." in found.notes


@pytest.mark.parametrize(
    ("names", "neighbors", "message"),
    [
        (["tfn-z"], [10], r"contender 'tfn-z' is not known; did you mean 'tfn\+?z?'"),
        (["tfn"], [128], "neighbors=128: a point of 128 has 1 to 127 neighbours"),
    ],
)
def test_what_cannot_be_measured_is_refused(names: list[str], neighbors: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        clouds.run(QUICK, names, neighbors)


def test_workload_of_table_2_has_ten_neighbours_and_types_up_to_3() -> None:
    workload = WORKLOADS["pointcloud_k10"]
    assert workload.num_edges == 12_800
    assert workload.fiber_hidden == Fiber.uniform(4, 5)


def test_scans_are_timed_by_how_their_points_are_drawn(tmp_path: Path) -> None:
    found = data.run(QUICK, ["shapes15"], root=str(tmp_path / "data"))
    assert [row["store"] for row in found.rows[::2]] == ["shapes15, 128 farthest", "shapes15, 1,024 random"]
    assert {row["batch_size"] for row in found.rows} == {10}
    (note,) = [note for note in found.notes if note.startswith("shapes15: ")]
    assert "32 random samples" in note
    assert not list(tmp_path.iterdir())
