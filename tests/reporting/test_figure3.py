"""Figure 3 from invented predictions: what stands in it, and which runs it is of."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from se3t.errors import UserError
from se3t.reporting.figures.figure3 import animate_figure3, draw_figure3, load_trajectories
from se3t.reporting.figures.style import WIDTH
from se3t.reporting.figures.trajectory_runs import find_trajectory_runs, labels
from se3t.reporting.figures.trajectory_runs import finished_run as record_of

from .layout import notes_of, require_legible
from .results import result
from .test_classification import cloud_result

ANGLES = [0, 90, 180, 270]
POSITIONS = [[1.0, 0.0, 0.5], [-1.0, 0.5, -0.5]]
TARGET = [[1.2, 0.1, 0.5], [-1.1, 0.4, -0.6]]
Write = Callable[..., Path]


def turned(point: list[float], angle: int) -> list[float]:
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y, z = point
    return [cosine * x - sine * y, sine * x + cosine * y, z]


def model(label: str, off: float = 0.0, **changes: Any) -> dict[str, Any]:
    """A model that is right but for ``off`` in x at every angle but 0."""
    predictions = [[turned(point, angle) for point in TARGET] for angle in ANGLES]
    for points in predictions[1:]:
        points[0][0] += off
    numbers = {"mse_x": 0.01, "equivariance_error_x": 2e-7, "steps_done": 300, "batch_size": 128}
    return {"run": f"runs/{label}", "label": label, **numbers, "predictions": predictions, **changes}


def content(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    shared = {
        "kind": "figure3",
        "data": {"preset": "calibrated_random", "horizon": 0.78, "checksum": "ab", "overridden": {}},
        "sample": 7,
        "sample_rule": "median error in x of B",
        "num_samples": 1000,
        "axis": [0, 0, 2],
        "angles": ANGLES,
        "charges": [1.0, -1.0],
        "positions": POSITIONS,
        "velocities": POSITIONS,
        "target": TARGET,
    }
    return {**shared, "models": list(models or (model("A", 0.3), model("B"))), **changes}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(*models: dict[str, Any], **changes: Any) -> Path:
        path = tmp_path / "figure3.json"
        path.write_text(json.dumps(content(*models, **changes)), encoding="utf-8")
        return path

    return to_file


def points(axis: Any, marker: str) -> list[tuple[float, float]]:
    lines = [line for line in axis.get_lines() if line.get_marker() == marker]
    return [(float(x), float(y)) for line in lines for x, y in line.get_xydata()]


def test_trajectories_stand_above_rotations_and_models_side_by_side(write: Write) -> None:
    found = load_trajectories(write())
    figure = draw_figure3(found)
    first, second, below_first, below_second = figure.axes
    assert [axis.get_title().split("\n")[0] for axis in (first, second)] == ["A", "B"]
    assert below_first.get_title() == "input rotated in steps of 90°\nat most 0.3 from perfect"
    assert "at most 0 from" in below_second.get_title() or "e-" in below_second.get_title()
    for axis in (first, second):
        assert points(axis, "o") == [pytest.approx(point[:2]) for point in POSITIONS]
        assert points(axis, "x") == [pytest.approx(point[:2]) for point in TARGET]
        assert points(axis, "D") == [pytest.approx(point[:2]) for point in TARGET]


def test_predictions_of_all_angles_stand_beside_dashed_circles(write: Write) -> None:
    found = load_trajectories(write())
    for axis, prediction in zip(draw_figure3(found).axes[2:], found.models, strict=True):
        circles = [line for line in axis.get_lines() if line.get_linestyle() == "--"]
        for circle, point in zip(circles, TARGET, strict=True):
            radii = {round(math.hypot(x, y), 9) for x, y in circle.get_xydata()}
            assert radii == {round(math.hypot(*point[:2]), 9)}
        dots = points(axis, ".")
        expected = [positions[place][:2] for place in range(2) for positions in prediction.positions]
        assert dots == [pytest.approx(point) for point in expected]


def test_the_deviation_is_that_of_the_worst_prediction_in_three_dimensions(write: Write) -> None:
    found = load_trajectories(write(model("A", 0.3), model("B")))
    assert [found.deviation(each) for each in found.models] == [pytest.approx(0.3), pytest.approx(0, abs=1e-12)]
    tilted = model("A")
    tilted["predictions"][2][1][2] += 0.4  # along the axis, which the picture does not show
    (prediction,) = load_trajectories(write(tilted)).models
    assert found.deviation(prediction) == pytest.approx(0.4)


@pytest.mark.parametrize("axis", [[0, 0, 1], [1, 0, 0], [1, -2, 0.5]])
def test_pictures_are_seen_along_the_axis(write: Write, axis: list[float]) -> None:
    found = load_trajectories(write(axis=axis))
    assert math.hypot(*found.axis) == pytest.approx(1)
    assert found.flat(found.axis) == pytest.approx((0, 0))
    point = POSITIONS[1]
    along = sum(a * b for a, b in zip(point, found.axis, strict=True))
    assert math.hypot(*found.flat(point), along) == pytest.approx(math.hypot(*point))
    if axis == [0, 0, 1]:
        assert found.flat(point) == pytest.approx(point[:2])
        assert found.flat(point, 90.0) == pytest.approx(turned(point, 90)[:2])


def test_title_says_data_sample_and_why_and_a_reduced_budget(write: Write) -> None:
    figure = draw_figure3(load_trajectories(write()))
    assert figure.get_suptitle() == "Figure 3: predictions for a rotated input"
    assert notes_of(figure).split("; ")[:-1] == [
        "simulated N-body data, preset calibrated_random, checksum ab",
        "test trajectory 7 of 1,000: median error in x of B",
        "reduced budget: 300 of the paper's 100,000 training steps",
    ]
    full = [model("A", steps_done=100_000), model("Linear", steps_done=0)]
    small = {"preset": "calibrated_random", "horizon": 0.78, "checksum": "ab", "overridden": {"num_test": 16}}
    notes = notes_of(draw_figure3(load_trajectories(write(*full, data=small))))
    assert "reduced" not in notes
    assert "preset calibrated_random (num_test=16)" in notes


def test_axes_have_names_and_the_legend_says_what_lines_mean(write: Write) -> None:
    figure = draw_figure3(load_trajectories(write()))
    assert {(axis.get_xlabel(), axis.get_ylabel()) for axis in figure.axes} == {("x", "y")}
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named[3:] == ["input to truth", "truth to prediction", "perfectly equivariant", "predictions, input rotated"]


def test_budgets_that_differ_stand_at_their_models(write: Write) -> None:
    figure = draw_figure3(load_trajectories(write(model("A", steps_done=2000), model("B"), model("C", steps_done=0))))
    titles = {axis.get_title().partition("\n")[0]: axis.get_title() for axis in figure.axes}
    assert titles["A"].endswith("0.0100, 2,000 steps")
    assert titles["B"].endswith("0.0100, 300 steps")
    assert titles["C"].endswith("0.0100")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_letters_are_legible_in_a_column_and_nothing_is_cut_off(write: Write, count: int) -> None:
    figure = draw_figure3(load_trajectories(write(*(model(f"SE(3)-Transformer, {n}") for n in range(count)))))
    assert figure.get_figwidth() == WIDTH
    assert len(figure.axes) == 2 * count
    require_legible(figure)


def test_the_animation_has_a_frame_for_each_angle_and_is_written_whole(write: Write, tmp_path: Path) -> None:
    from PIL import Image

    found = load_trajectories(write())
    path = animate_figure3(found, tmp_path / "new" / "figure3.gif")
    assert [child.name for child in path.parent.iterdir()] == ["figure3.gif"]
    with Image.open(path) as picture:
        assert (picture.format, picture.n_frames, picture.info["loop"]) == ("GIF", len(ANGLES), 0)
        frames = []
        for number in range(picture.n_frames):
            picture.seek(number)
            frames.append(picture.convert("RGB").tobytes())
    assert len(set(frames)) == len(ANGLES)
    assert frames[0][:3] == b"\xff\xff\xff"
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "figure4"}, r"field 'kind' is 'figure4', expected 'figure3'"),
        ({"models": []}, r"field 'models' should be a list that is not empty"),
        ({"models": [model("A", predictions=[[]])]}, r"'models\.0\.predictions' should be a list of 4, got 1"),
        ({"models": [model("A", mse_x="small")]}, r"'models\.0\.mse_x' should be a number"),
        ({"positions": [[0, 0], [0, 0]]}, r"'positions\.0' should be a list of 3, got 2"),
        ({"target": [TARGET[0], [0, 0, math.nan]]}, r"'target\.1\.2' is nan"),
        ({"charges": []}, r"'charges' should be a list that is not empty"),
        ({"axis": [0, 0, 0]}, r"expected an 'axis' that is not zero"),
        ({"angles": [10, 20, 30, 40]}, r"'angles' that begin with 0"),
        ({"data": {}}, r"'data\.preset' is missing"),
    ],
)
def test_damaged_files_are_refused_by_field(write: Write, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=rf"figure3\.json: .*{named}"):
        load_trajectories(write(**changes))


# --- runs -------------------------------------------------------------------------------------------------------------


def put(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def budget(steps: int) -> dict[str, int]:
    return {"budget__max_steps": steps, "budget__steps_done": steps}


def test_of_many_runs_the_two_with_the_largest_budget_on_the_same_data_are_shown(tmp_path: Path) -> None:
    put(tmp_path / "a", result("set_transformer"))
    se3, other = (put(tmp_path / name, result(name, **budget(5000))) for name in ("se3_transformer", "set_transformer"))
    put(tmp_path / "b", result(seed=1, **budget(5000)))  # the smaller seed is shown
    put(tmp_path / "c", result(**budget(9000), config__model__ablation="attention"))
    put(tmp_path / "d", result("tfn", **budget(9000)))
    put(tmp_path / "e", result(**budget(9000), data__checksum="ff"))  # no Set Transformer on these
    put(tmp_path / "f", cloud_result())
    put(tmp_path / "g", result(**budget(9000), status="failed"))
    assert find_trajectory_runs([tmp_path]) == [other, se3]
    for name in ("h", "i"):  # of equal budgets those on the data of Table 1
        put(tmp_path / name, result({"h": "se3_transformer"}.get(name, "set_transformer"), **budget(5000)))
    text = {"data__preset": "a", "data__checksum": "0", **budget(5000)}
    put(tmp_path / "j", result(**text))
    put(tmp_path / "k", result("set_transformer", **text))
    assert find_trajectory_runs([tmp_path]) == [tmp_path / "i", tmp_path / "h"]


def test_what_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no finished run of set_transformer or se3_transformer .* se3t train"):
        find_trajectory_runs([tmp_path])
    put(tmp_path / "a", result())
    with pytest.raises(UserError, match=r"no finished run of set_transformer in it; .* model=set_transformer"):
        find_trajectory_runs([tmp_path])
    put(tmp_path / "b", result("set_transformer", data__checksum="ff"))
    with pytest.raises(UserError, match="are on different data"):
        find_trajectory_runs([tmp_path])


def test_given_runs_are_shown_as_they_are_on_the_same_data(tmp_path: Path) -> None:
    runs = [put(tmp_path / name, result("tfn", seed)) for seed, name in enumerate("ab")]
    assert find_trajectory_runs(runs[::-1]) == runs[::-1]
    other = put(tmp_path / "c", result(data__checksum="ff"))
    with pytest.raises(UserError, match=r"c: is on preset calibrated_random, horizon 0.78, checksum ff, but .*a on"):
        find_trajectory_runs([*runs, other])
    with pytest.raises(UserError, match="is a run of experiment scanobjectnn, expected one of nbody"):
        find_trajectory_runs([put(tmp_path / "d", cloud_result())])
    with pytest.raises(UserError, match="the run is not finished"):
        find_trajectory_runs([put(tmp_path / "e", result(status="failed"))])
    many = [put(tmp_path / f"{seed}", result(seed=seed)) for seed in range(7)]
    with pytest.raises(UserError, match="7 runs do not fit into one figure"):
        find_trajectory_runs(many)


def test_labels_tell_runs_apart(tmp_path: Path) -> None:
    contents = [
        result(),
        result(config__model__ablation="attention"),
        result("tfn"),
        result("tfn", 1),
        result("deepset"),
        result("deepset", **budget(9)),
        result("linear"),
        result("linear"),
    ]
    runs = [record_of(put(tmp_path / f"run{number}", content)) for number, content in enumerate(contents)]
    assert labels(runs) == [
        "SE(3)-Transformer",
        "SE(3)-Transformer, attention removed",
        "TFN, seed 0",
        "TFN, seed 1",
        "DeepSet, seed 0, 2,000 steps",
        "DeepSet, seed 0, 9 steps",
        "Linear, seed 0, 2,000 steps, run6",
        "Linear, seed 0, 2,000 steps, run7",
    ]
