"""Pictures from invented numbers: what stands in them, not how it is painted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from se3t.errors import UserError
from se3t.reporting.figures.confusion import draw_confusion, load_confusion
from se3t.reporting.figures.figure4 import draw_figure4, load_rotations
from se3t.reporting.figures.rotation_runs import find_runs
from se3t.reporting.figures.style import save

from .layout import notes_of, require_legible
from .results import result
from .test_classification import cloud_result, shapes_result

CLASSES = ["bag", "bin", "box"]


def point(model: str = "tfn", rotation: str = "0", accuracy: float = 0.6, **changes: Any) -> dict[str, Any]:
    """One measurement, invented."""
    own = {"model": model, "rotation": rotation, "accuracy": accuracy, "class_accuracy": accuracy}
    rest = {"height": False, "augmentation": "none", "seed": 0, "num_points": 128, "size": 600, "settings": "5e77"}
    content = {**own, **rest, **changes}
    return {"run": f"runs/{content['model']}/{content['seed']}-{content['augmentation']}", **content}


@pytest.fixture
def rotations_file(tmp_path: Path) -> Any:
    def write(*points: dict[str, Any], synthetic: bool = True, up_axis: str = "y") -> Path:
        data = {"kind": "shapes15", "variant": "object only", "synthetic": synthetic, "checksum": "ab"}
        data["up_axis"] = up_axis
        if not synthetic:
            data |= {"kind": "scanobjectnn", "variant": "main_split_nobg"}
        path = tmp_path / "figure4.json"
        path.write_text(json.dumps({"data": data, "points": points}), encoding="utf-8")
        return path

    return write


def drawn(axis: Any) -> dict[str, list[tuple[float, float]]]:
    """The lines with a name, and their points."""
    lines = [line for line in axis.get_lines() if not line.get_label().startswith("_")]
    return {line.get_label(): [(float(x), float(y)) for x, y in line.get_xydata()] for line in lines}


def test_panels_part_runs_without_and_with_augmentation(rotations_file: Any):
    points = [point(rotation=angle) for angle in ("0", "90")] + [point(augmentation="so3", accuracy=0.5)]
    figure = draw_figure4(load_rotations(rotations_file(*points)))
    without, with_augmentation = figure.axes
    assert drawn(without)["TFN"] == [(0, 60), (90, 60)]
    assert drawn(with_augmentation)["TFN"] == [(0, 50)]
    assert without.get_title("left") == "(a) without rotation augmentation"
    assert with_augmentation.get_title("left") == "(b) with rotation augmentation (SO(3))"


def test_lines_stand_in_the_papers_order_and_chance_comes_last(rotations_file: Any):
    systems = [("dgcnn", False), ("deepset", False), ("set_transformer", False), ("tfn", True), ("tfn", False)]
    systems += [("se3_transformer", False), ("se3_transformer", True)]
    found = load_rotations(rotations_file(*(point(model, height=height) for model, height in systems)))
    (legend,) = draw_figure4(found).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "SE(3)-Transformer +z",
        "SE(3)-Transformer",
        "TFN",
        "TFN +z",
        "Set Transformer",
        "DeepSet",
        "DGCNN",
        "chance",
    ]


def test_a_line_is_the_mean_over_seeds_with_a_band_of_one_standard_deviation(rotations_file: Any):
    points = [
        point(rotation=angle, seed=seed, accuracy=share)
        for angle in ("0", "180", "so3")
        for seed, share in enumerate((0.5, 0.6, 0.7))
    ]
    figure = draw_figure4(load_rotations(rotations_file(*points)))
    axis = figure.axes[0]
    assert drawn(axis)["TFN"] == [(0, pytest.approx(60)), (180, pytest.approx(60))]
    band, bar = axis.collections
    assert band.get_paths()[0].get_extents().extents == pytest.approx([0, 50, 180, 70])
    assert bar.get_segments()[0][:, 1] == pytest.approx([50, 70])
    assert "mean of 3 seeds ± standard deviation" in notes_of(figure)
    one = draw_figure4(load_rotations(rotations_file(point())))
    assert len(one.axes[0].collections) == 0
    assert "one seed" in notes_of(one)


def test_rotations_from_all_of_so3_stand_apart_as_the_last_tick(rotations_file: Any):
    with_so3, below = draw_figure4(load_rotations(rotations_file(point(), point(rotation="so3", accuracy=0.4)))).axes
    assert [label.get_text() for label in below.get_xticklabels()] == [
        "0",
        "30",
        "60",
        "90",
        "120",
        "150",
        "180",
        "SO(3)",
    ]
    assert drawn(with_so3)["TFN"] == [(0, 60)]
    places = [tuple(xy) for line in with_so3.get_lines() for xy in line.get_xydata()]
    assert (with_so3.get_xticks()[-1], pytest.approx(40)) in places
    below = draw_figure4(load_rotations(rotations_file(point()))).axes[1]
    assert [label.get_text() for label in below.get_xticklabels()][-1] == "180"


def test_every_line_has_a_marker_of_its_own_and_heights_are_dashed(rotations_file: Any):
    systems = [("tfn", False), ("tfn", True), ("deepset", False), ("pointnet", False)]
    axis = draw_figure4(
        load_rotations(rotations_file(*(point(model, height=height) for model, height in systems)))
    ).axes[0]
    lines = {line.get_label(): line for line in axis.get_lines() if not line.get_label().startswith("_")}
    chance = lines.pop("chance")
    assert len({line.get_marker() for line in lines.values()}) == len(systems)
    assert {name for name, line in lines.items() if line.get_linestyle() == "--"} == {"TFN +z"}
    assert lines["TFN"].get_color() == lines["TFN +z"].get_color()
    assert len({line.get_color() for line in lines.values()}) == 3
    assert chance.get_ydata()[0] == pytest.approx(100 / 15)


def test_synthetic_data_are_called_that_and_only_they(rotations_file: Any):
    figure = draw_figure4(load_rotations(rotations_file(point())))
    assert figure.get_suptitle() == "Figure 4: accuracy of rotated objects"
    assert notes_of(figure).startswith("synthetic shapes15, object only, 600 test objects")
    notes = notes_of(draw_figure4(load_rotations(rotations_file(point(), synthetic=False))))
    assert notes.startswith("ScanObjectNN main_split_nobg, ")


def test_a_wrong_vertical_stands_in_the_title(rotations_file: Any):
    notes = notes_of(draw_figure4(load_rotations(rotations_file(point(), up_axis="z"))))
    assert notes.startswith("synthetic shapes15, object only, z taken for the vertical, ")


def test_an_empty_panel_says_how_to_fill_it(rotations_file: Any):
    figure = draw_figure4(load_rotations(rotations_file(point())))
    (text,) = [text.get_text() for text in figure.axes[1].texts]
    command = "se3t train experiment=scanobjectnn preset=figure4 data=shapes15 task.augmentation=so3"
    assert " ".join(text.split()) == f"no run with rotation augmentation yet: {command}"
    figure = draw_figure4(load_rotations(rotations_file(point(augmentation="so3"), synthetic=False)))
    (text,) = [text.get_text() for text in figure.axes[0].texts]
    assert text.endswith("se3t train experiment=scanobjectnn preset=figure4")
    assert not figure.axes[1].texts


def test_what_differs_between_lines_of_one_system_is_named(rotations_file: Any):
    points = [point(num_points=count, max_steps=steps) for count, steps in ((128, 500), (1024, 500))]
    points += [point("deepset", num_points=1024, max_steps=500)]
    found = load_rotations(rotations_file(*points))
    assert sorted(map(found.label, found.lines)) == ["DeepSet", "TFN, 1,024 points", "TFN, 128 points"]
    assert "reduced budget: 500 of the paper's 60,000 training steps" in notes_of(draw_figure4(found))
    several = [point(max_steps=500), point("deepset", max_steps=60_000)]
    assert "reduced budget: 500 … 60,000 of" in notes_of(draw_figure4(load_rotations(rotations_file(*several))))
    full = load_rotations(rotations_file(point(max_steps=60_000)))
    assert "; 60,000 training steps; " in notes_of(draw_figure4(full))
    ended = load_rotations(rotations_file(point(max_steps=60_000, steps_done=700)))  # by its time, for example
    assert "reduced budget: 700 of the paper's 60,000 training steps" in notes_of(draw_figure4(ended))
    found = load_rotations(rotations_file(*(point(augmentation=kind) for kind in ("vertical", "so3", "none"))))
    assert sorted(map(found.label, found.lines)) == ["TFN", "TFN, SO(3)", "TFN, vertical"]


def test_letters_are_legible_in_a_column_and_nothing_is_cut_off(rotations_file: Any):
    kinds = ("none", "so3", "vertical")
    models = ("se3_transformer", "set_transformer", "modified_fisher")
    points = [point(model, angle, augmentation=kind) for model in models for kind in kinds for angle in ("0", "so3")]
    for chosen in (points[:2], points):
        figure = draw_figure4(load_rotations(rotations_file(*chosen)))
        assert figure.get_figwidth() <= 3.5
        require_legible(figure)


def test_pictures_are_written_whole_as_png_and_pdf_and_the_same_each_time(rotations_file: Any, tmp_path: Path):
    found = load_rotations(rotations_file(point()))
    paths = save(draw_figure4(found), tmp_path / "new" / "fig.v2")
    assert [path.name for path in paths] == ["fig.v2.png", "fig.v2.pdf"]
    assert [path.read_bytes()[:4] for path in paths] == [b"\x89PNG", b"%PDF"]
    assert len(list((tmp_path / "new").iterdir())) == 2
    again = save(draw_figure4(found), tmp_path / "again")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]


def test_two_runs_that_would_share_a_point_are_refused(rotations_file: Any):
    path = rotations_file(point(), point(run="runs/other"))
    with pytest.raises(UserError, match=r"figure4\.json: runs/tfn/0-none and runs/other are both seed 0 of TFN"):
        load_rotations(path)


def test_points_of_two_settings_do_not_make_one_line(rotations_file: Any):
    other = {"run": "runs/other", "settings": "07e6"}
    with pytest.raises(
        UserError, match=r"figure4\.json: runs/tfn/0-none and runs/other would be one line, TFN, .*--out"
    ):
        load_rotations(rotations_file(point(), point(seed=1, **other)))
    for apart in ({"augmentation": "so3"}, {"num_points": 64}, {"height": True}, {"preset": "b"}, {"max_steps": 5}):
        assert len(load_rotations(rotations_file(point(), point(seed=1, **other, **apart))).lines) == 2
    without = point()
    del without["settings"]
    with pytest.raises(UserError, match=r"field 'points\.1\.settings' is missing"):
        load_rotations(rotations_file(point(), without))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", r"is not valid JSON .* expected what se3t figure 4 wrote"),
        ("[]", r"expected a JSON object, got list"),
        ('{"points": []}', r"field 'points' should be a list that is not empty"),
        ('{"points": [{}]}', r"field 'points\.0\.run' is missing"),
    ],
)
def test_a_file_of_something_else_is_refused_by_field(tmp_path: Path, content: str, expected: str):
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=rf"other\.json: {expected}"):
        load_rotations(path)
    with pytest.raises(UserError, match=r"gone\.json: cannot be read"):
        load_rotations(tmp_path / "gone.json")


def test_an_accuracy_that_is_no_number_and_a_rotation_that_is_none_are_refused(rotations_file: Any):
    with pytest.raises(UserError, match=r"'points\.0\.accuracy' is nan"):
        load_rotations(rotations_file(point(accuracy=math.nan)))
    with pytest.raises(UserError, match=r"'points\.1\.rotation' should be 0 … 180 or so3, got 'far'"):
        load_rotations(rotations_file(point(), point(rotation="far")))


# --- confusion matrix -------------------------------------------------------------------------------------------------


def write_run(folder: Path, content: dict[str, Any], **details: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    found = {"split": "test", "classes": CLASSES, "label": [0, 0, 0, 1], "predicted": [0, 0, 1, 1], **details}
    (folder / "details.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def test_rows_are_true_classes_and_columns_predicted_ones(tmp_path: Path):
    confusion = load_confusion(write_run(tmp_path / "run", cloud_result(height=True)))
    assert confusion.counts == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    figure = draw_confusion(confusion)
    axis = figure.axes[0]
    shares = axis.images[0].get_array().tolist()
    assert shares == [[pytest.approx(2 / 3), pytest.approx(1 / 3), 0], [0, 1, 0], [0, 0, 0]]
    written = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axis.texts}
    assert written == {(0, 0): "2", (0, 1): "1", (1, 1): "1"}
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("true class", "predicted class")
    for ticks in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [label.get_text() for label in ticks] == CLASSES


def test_the_title_says_accuracy_system_data_and_whether_they_are_synthetic(tmp_path: Path):
    def title(name: str, content: dict[str, Any]) -> str:
        figure = draw_confusion(load_confusion(write_run(tmp_path / name, content)))
        return f"{figure.get_suptitle()}; {notes_of(figure)}"

    real = title("real", cloud_result(height=True))
    assert real.startswith("SE(3)-Transformer +z: predicted and true class; accuracy 75.0 % of 4 objects; ")
    assert "; ScanObjectNN main_split_nobg, checksum " in real
    assert real.endswith("; test split, seed 0, 60,000 steps")
    assert "; synthetic shapes15, object only" in title("synthetic", shapes_result())
    assert "test rotation up to 90°" in title("turned", cloud_result(config__task__test_rotation="90"))


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"label": [0, 3], "predicted": [0, 0]}, r"field 'label' should be numbers of classes below 3, got 3"),
        ({"predicted": [0, 0, 1, 0.5]}, r"field 'predicted' should be numbers of classes below 3, got 0\.5"),
        ({"predicted": [0]}, r"4 entries of 'label', but 1 of 'predicted'"),
        ({"label": []}, r"field 'label' should be a list that is not empty"),
    ],
)
def test_damaged_predictions_are_refused(tmp_path: Path, details: dict[str, Any], expected: str):
    folder = write_run(tmp_path / "run", cloud_result(), **details)
    with pytest.raises(UserError, match=rf"details\.json: {expected}"):
        load_confusion(folder)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_runs_are_found_below_a_folder_and_those_of_other_experiments_passed_over(tmp_path: Path):
    a = write_run(tmp_path / "a" / "0", cloud_result())
    b = write_run(tmp_path / "b" / "0", cloud_result("tfn"))
    other = write_run(tmp_path / "c" / "0", result())
    write_run(tmp_path / "d" / "0", cloud_result("dgcnn", status="failed"))
    assert find_runs([tmp_path]) == [a, b]
    assert find_runs([b, a]) == [b, a]
    with pytest.raises(UserError, match="is a run of experiment nbody, expected one of scanobjectnn"):
        find_runs([other])
    with pytest.raises(UserError, match=r"result\.json: the run is not finished"):
        find_runs([tmp_path / "d" / "0"])
    with pytest.raises(UserError, match=r"no result\.json of experiment scanobjectnn in it"):
        find_runs([tmp_path / "c"])


def test_runs_on_different_data_do_not_share_a_figure_and_one_of_them_can_be_chosen(tmp_path: Path):
    a = write_run(tmp_path / "a", cloud_result())
    b = write_run(tmp_path / "b", shapes_result())
    with pytest.raises(
        UserError, match=r"b: is on synthetic shapes15.* but .*a on ScanObjectNN main_split_nobg"
    ) as told:
        find_runs([tmp_path])
    assert "--on scanobjectnn or --on shapes15 keeps those of one" in str(told.value)
    assert find_runs([tmp_path], on="scanobjectnn") == [a]
    assert find_runs([tmp_path], on="shapes15") == [b]
    with pytest.raises(UserError, match=r"a: no finished run on shapes15; make one: se3t train .* data=shapes15"):
        find_runs([a], on="shapes15")
    other = write_run(tmp_path / "c", shapes_result(seed=1, data__checksum="99"))
    with pytest.raises(UserError, match="a figure shows runs on the same data, give those of one"):
        find_runs([b, other])


def test_runs_with_another_vertical_do_not_share_a_figure(tmp_path: Path):
    write_run(tmp_path / "a", cloud_result())
    write_run(tmp_path / "b", cloud_result("tfn", data__up_axis="z"))
    with pytest.raises(UserError, match=r"b: is on .* vertical z, but .*a on .* vertical y"):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("config__task__jitter", 0.01, r"task\.jitter \(null and 0\.01\)"),
        ("config__model__channels", 8, r"model\.channels \(5 and 8\)"),
        ("config__task__sampling", "random", r"task\.sampling \(farthest and random\)"),
        ("config__trainer__batch_size", 32, r"trainer\.batch_size \(10 and 32\)"),
        ("config__data__valid_fraction", 0.2, r"data\.valid_fraction \(0\.1 and 0\.2\)"),
    ],
)
def test_runs_that_differ_in_more_than_their_seeds_do_not_become_one_line(
    tmp_path: Path, setting: str, value: Any, named: str
):
    runs = [write_run(tmp_path / "a", cloud_result()), write_run(tmp_path / "b", cloud_result(seed=1))]
    for seed in (1, 2):  # whether the seed is taken or not
        other = write_run(tmp_path / f"other-{seed}", cloud_result(seed=seed, **{setting: value}))
        with pytest.raises(UserError, match=rf"a and .*other-{seed} would be one line of the figure, .* in {named};"):
            find_runs([*runs, other])


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "tfn"},
        {"height": True},
        {"config__task__augmentation": "so3"},
        {"config__task__num_points": 64},
        {"preset": "quick", "config__preset": "quick"},
        {"budget__max_steps": 500, "config__trainer__max_steps": 500},
    ],
)
def test_lines_of_their_own_may_differ_in_anything(tmp_path: Path, changes: dict[str, Any]):
    runs = [write_run(tmp_path / "a", cloud_result())]
    runs.append(write_run(tmp_path / "b", cloud_result(**changes, config__model__channels=8)))
    assert find_runs([tmp_path]) == runs


def test_what_changes_no_measurement_tells_no_seeds_apart(tmp_path: Path):
    changes = {"config__data__root": "/elsewhere", "config__trainer__devices": 2, "config__runs": "other"}
    runs = [write_run(tmp_path / "a", cloud_result()), write_run(tmp_path / "b", cloud_result(seed=1, **changes))]
    assert find_runs([tmp_path]) == runs


def test_runs_that_differ_by_their_test_rotation_count_once(tmp_path: Path):
    turned = {"config__task__test_rotation": "90"}
    a = write_run(tmp_path / "a", cloud_result())
    write_run(tmp_path / "b", cloud_result(**turned))
    c = write_run(tmp_path / "c", cloud_result(seed=1, **turned))
    assert find_runs([tmp_path]) == [a, c]


def test_two_trainings_of_one_seed_are_refused_before_they_are_measured(tmp_path: Path):
    a = write_run(tmp_path / "a", cloud_result())
    copy = write_run(tmp_path / "b", cloud_result())
    several = {"config__trainer__devices": 2, "config__task__test_rotation": "90"}  # another training
    for other in (copy, write_run(tmp_path / "c", cloud_result(**several))):
        with pytest.raises(UserError, match=r"a and .* are both seed 0 of SE\(3\)-Transformer .* leave one out"):
            find_runs([a, other])
