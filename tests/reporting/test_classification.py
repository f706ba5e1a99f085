"""Table 2 from run records with invented numbers."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from se3t.config import SCHEMAS, rotation_angle, setting_names
from se3t.errors import UserError
from se3t.experiments.scanobjectnn import parse_rotation
from se3t.reporting.published import load_published, printed_names
from se3t.reporting.tables.build import tables
from se3t.reporting.tables.formats import to_markdown
from se3t.reporting.tables.layout import ResultTable
from se3t.reporting.tables.terminal import to_rich
from se3t.runs import Fields

from .results import change, lines, ratios

PAPER = [
    *("TFN", "DeepSet", "SE(3)-Transformer", "3DmFV", "Set Transformer", "PointNet", "SpiderCNN", "TFN +z"),
    *("PointNet++", "SE(3)-Transformer +z", "PointCNN", "DGCNN", "PointGLR"),
]


def cloud_result(model: str = "se3_transformer", seed: int = 0, height: bool = False, **changes: Any) -> dict[str, Any]:
    """A finished run on all of ScanObjectNN with invented numbers."""
    measured = {"loss": 0.7, "accuracy": 0.7123, "class_accuracy": 0.65, "equivariance_error": 2.5e-6}
    content: dict[str, Any] = {
        "status": "finished",
        "experiment": "scanobjectnn",
        "model": model,
        "preset": None,
        "seed": seed,
        "budget": {"max_steps": 60_000, "batch_size": 10, "steps_done": 60_000, "seconds": 10.0},
        "parameters": 54_321,
        "data": {
            "kind": "scanobjectnn",
            "preset": None,
            "variant": "main_split_nobg",
            "synthetic": False,
            "up_axis": "y",
            "checksum": "0123456789abcdef",
            "sizes": {"train": 2078, "valid": 231, "test": 581},
            "official": {"train": 2309, "test": 581},
            "baselines": {"majority": [0.13, 0.0667], "nearest_centroid": [0.31, 0.22]},
            "baseline_split": "test",
        },
        "test": {**measured, "changed_class": 0.0},
        "valid": {**measured, "accuracy": 0.5, "changed_class": 0.0},
        "config": {
            "experiment": "scanobjectnn",
            "preset": None,
            "seed": seed,
            "data": {
                "name": "scanobjectnn",
                "root": "data",
                "raw": "ScanObjectNN.zip",
                "variant": "obj",
                "background": False,
                "up_axis": "y",
                "valid_fraction": 0.1,
                "split_seed": 0,
            },
            "task": {
                "name": "classification",
                "num_points": 128,
                "sampling": "farthest",
                "inputs": "edges",
                "height": height,
                "augmentation": "none",
                "test_rotation": "0",
            },
            "model": {"name": model, "channels": 5},
            "trainer": {"max_steps": 60_000, "batch_size": 10},
        },
    }
    return change(content, changes)


def shapes_result(*words: Any, **changes: Any) -> dict[str, Any]:
    """The same on the generated data."""
    content = cloud_result(*words)
    content["data"] |= {"kind": "shapes15", "synthetic": True, "variant": "object only", "official": {}}
    content["data"] |= {"checksum": "fedcba9876543210", "sizes": {"train": 2025, "valid": 225, "test": 600}}
    del content["config"]["data"]["raw"], content["config"]["data"]["variant"]
    content["config"]["data"] |= {"name": "shapes15", "num_train": 2250, "num_test": 600, "data_seed": 0}
    return change(content, changes)


def build(*results: dict[str, Any]) -> ResultTable:
    (table,) = tables(results)
    return table


def test_systems_stand_in_the_papers_order_below_what_needs_no_network():
    table = build(cloud_result("schnet"), cloud_result())
    assert table.title == "Table 2, ScanObjectNN"
    assert list(lines(table)) == ["No network", *PAPER, "SchNet"]
    assert [row[:3] for row in lines(table)["No network"]] == [
        ("majority class", "13.0", "6.7"),
        ("nearest centroid", "31.0", "22.0"),
    ]
    assert lines(table)["PointCNN"] == [("quoted, not run", "85.5", "–", "–", "1,024", "–", "–")]
    assert lines(table)["DeepSet"] == [("published, not run", "71.4", "–", "–", "1,024", "–", "60,000")]


def test_a_measured_line_stands_above_the_published_one_with_its_cost_and_its_invariance():
    table = build(cloud_result())
    assert table.headings == ("accuracy, %", "class mean, %", "Δ inv", "points", "param.", "steps")
    measured, published = lines(table)["SE(3)-Transformer"]
    assert measured == ("measured, 1 seed", "71.2", "65.0", "2.5e-6", "128", "54,321", "60,000")
    assert published == ("published", "72.8 ± 0.7", "–", "–", "128", "–", "60,000")
    assert not set("ˢᵛ†") & set(to_markdown(table))
    assert ratios(table)["SE(3)-Transformer"] == [("0.98", "–", "–", "–", "–", "–")]


def test_heights_make_another_system_of_the_same_model():
    table = lines(build(cloud_result("tfn"), cloud_result("tfn", height=True, test__accuracy=0.8)))
    assert [row[:2] for row in table["TFN"]] == [("measured, 1 seed", "71.2"), ("published", "63.1")]
    assert [row[:2] for row in table["TFN +z"]] == [("measured, 1 seed", "80.0"), ("published", "81.0")]
    assert [row[0] for row in table["SE(3)-Transformer +z"]] == ["published, not run"]


def test_a_system_with_heights_that_the_paper_has_not_stands_at_the_end():
    assert list(lines(build(cloud_result("deepset", height=True))))[-1] == "DeepSet +z"


def test_seeds_are_averaged_with_their_standard_deviation():
    table = build(*(cloud_result(seed=seed, test__accuracy=share) for seed, share in enumerate((0.70, 0.72, 0.74))))
    assert lines(table)["SE(3)-Transformer"][0][:2] == ("measured, 3 seeds", "72.0 ± 2.0")
    assert "±: standard deviation over seeds." in table.notes
    assert not any("over seeds" in note for note in build(cloud_result()).notes)


def test_augmentation_is_named_in_every_line_as_soon_as_there_is_any():
    plain = build(cloud_result())
    assert "Trained without rotation augmentation." in plain.notes
    table = build(cloud_result(), cloud_result(config__task__augmentation="so3"), cloud_result("tfn"))
    assert [row[0] for row in lines(table)["SE(3)-Transformer"]] == [
        "measured, 1 seed, augmentation=none",
        "measured, 1 seed, augmentation=so3",
        "published",
    ]
    assert lines(table)["TFN"][0][0] == "measured, 1 seed, augmentation=none"
    assert any(note.startswith("augmentation: random rotations") for note in table.notes)


def test_settings_that_differ_tell_lines_apart():
    rows = lines(build(cloud_result(), cloud_result(config__task__num_points=64)))["SE(3)-Transformer"]
    assert sorted((row[0], row[4]) for row in rows[:2]) == [
        ("measured, 1 seed, num_points=128", "128"),
        ("measured, 1 seed, num_points=64", "64"),
    ]


def test_synthetic_shapes_are_called_that_in_title_and_notes_and_marked_in_every_number():
    table = build(shapes_result())
    assert table.title == "Table 2, synthetic shapes15: not comparable with the published numbers"
    assert table.notes[0] == "ˢ Synthetic shapes15: not comparable with the published numbers."
    assert table.notes[1].startswith("Synthetic shapes15, object only: 2,025 objects train, 225 validate, 600 test;")
    assert "ScanObjectNN" not in table.title
    assert lines(table)["SE(3)-Transformer"][0][1:3] == ("71.2ˢ", "65.0ˢ")
    assert {row[1] for row in lines(table)["No network"]} == {"13.0ˢ", "31.0ˢ"}
    assert lines(table)["SE(3)-Transformer"][1][1] == "72.8 ± 0.7"  # published: no mark


def test_another_variant_and_a_part_are_not_comparable():
    hardest = build(cloud_result(data__variant="main_split_nobg PB_T50_RS", data__official={}))
    assert hardest.title == (
        "Table 2, ScanObjectNN main_split_nobg PB_T50_RS: not comparable with the published numbers"
    )
    assert hardest.notes[0] == "ˢ ScanObjectNN main_split_nobg PB_T50_RS: not comparable with the published numbers."
    part = build(cloud_result(data__sizes={"train": 100, "valid": 10, "test": 581}))
    assert part.title == "Table 2, ScanObjectNN subset: not comparable with the published numbers"
    assert "of 2,309 and 581 in the files" in part.notes[1]


def test_test_rotations_have_tables_of_their_own_in_ascending_order():
    rotations = ("so3", "180", "30", "0")
    found = tables([cloud_result(config__task__test_rotation=rotation) for rotation in rotations])
    assert [table.title for table in found] == [
        "Table 2, ScanObjectNN",
        "Table 2, ScanObjectNN, test rotation up to 30° about a horizontal axis: not comparable with the published "
        "numbers",
        "Table 2, ScanObjectNN, test rotation up to 180° about a horizontal axis: not comparable with the published "
        "numbers",
        "Table 2, ScanObjectNN, test rotation from all of SO(3): not comparable with the published numbers",
    ]
    assert found[1].notes[0].startswith("ˢ Test rotation up to 30°")
    assert any("without test rotation" in note for note in found[1].notes)


def test_a_rotation_spelled_otherwise_is_the_same():
    turned = [cloud_result(seed=seed, config__task__test_rotation=text) for seed, text in enumerate(("90", "90.0"))]
    assert lines(build(*turned))["SE(3)-Transformer"][0][0] == "measured, 2 seeds"


@pytest.mark.parametrize(
    "text", ["0", "90", "90.0", "9e1", "180", "-0", "so3", "SO3", "So3", " so3", "nan", "inf", "-1"]
)
def test_a_rotation_is_read_as_by_what_turns_the_objects(text: str):
    """Neither takes what the other refuses."""
    fields = Fields({"rotation": text}, "a")
    try:
        expected = rotation_angle(text)
    except UserError:
        with pytest.raises(UserError, match="should be 0 … 180 or so3"):
            parse_rotation(fields, "rotation")
    else:
        assert parse_rotation(fields, "rotation") == expected


def test_a_wrong_vertical_is_other_data_and_not_comparable():
    wrong = {"data__up_axis": "z", "config__data__up_axis": "z"}
    right, other = tables([cloud_result(seed=1, **wrong), cloud_result()])
    assert right.title == "Table 2, ScanObjectNN"
    assert other.title == ("Table 2, ScanObjectNN, z taken for the vertical: not comparable with the published numbers")
    assert other.notes[0] == "ˢ Z taken for the vertical: not comparable with the published numbers."
    assert lines(other)["SE(3)-Transformer"][0][:2] == ("measured, 1 seed", "71.2ˢ")
    assert all("data.up_axis=z" in note for note in other.missing)
    assert not any("vertical:" in note for note in right.notes)
    both = build(shapes_result(**wrong, config__task__test_rotation="30"))
    assert both.title.startswith("Table 2, synthetic shapes15, z taken for the vertical, test rotation up to 30°")


def test_what_a_number_should_not_be_read_without_stands_in_the_notes_when_it_was_measured():
    (note,) = [note for note in build(cloud_result("pointglr")).notes if note.startswith("PointGLR:")]
    assert "labels" in note
    assert "published number" in note
    assert not any(note.startswith("PointGLR:") for note in build(cloud_result()).notes)
    assert not any(note.startswith("PointGLR:") for note in build(cloud_result("pointglr", height=True)).notes)


def test_whose_the_published_spread_is_the_paper_leaves_open():
    (note,) = [note for note in build(cloud_result("tfn")).notes if note.startswith("Published ±")]
    assert "5 runs" in note
    assert "SE(3)-Transformer" in note
    assert "with or without +z" in note


def test_different_data_never_share_a_table():
    other = cloud_result("tfn", data__checksum="99")
    split = cloud_result("dgcnn", config__data__split_seed=1)
    found = tables([cloud_result(), shapes_result(), other, split])
    assert len(found) == 4
    for table in found:
        assert sum(rows[0][0] == "measured, 1 seed" for rows in lines(table).values()) == 1


def test_without_a_measurement_on_test_the_numbers_are_of_validation_and_say_so():
    table = build(cloud_result(test=None, data__baseline_split="valid", data__sizes__test=0, data__official={}))
    assert lines(table)["SE(3)-Transformer"][0][1] == "50.0ᵛ"
    assert {row[1] for row in lines(table)["No network"]} == {"13.0ᵛ", "31.0ᵛ"}
    assert any(note.startswith("ᵛ accuracies on validation") for note in table.notes)


def test_a_smaller_network_is_marked():
    few = {"name": "se3_transformer", "channels": 5, "num_degrees": 3}  # as of preset figure4
    table = build(cloud_result(config__model=few), cloud_result("tfn", config__model={"name": "tfn", "channels": 3}))
    assert lines(table)["SE(3)-Transformer"][0][-2:] == ("54,321 ‡", "60,000")
    assert lines(table)["TFN"][0][-2:] == ("54,321", "60,000")
    assert "‡ smaller network than that of preset paper: num_degrees." in table.notes


def test_a_part_of_another_variant_is_other_data_too():
    part = {"train": 100, "valid": 10, "test": 581}
    table = build(cloud_result(data__variant="main_split_nobg PB_T50_RS", data__sizes=part))
    (row,) = [row for block in table.blocks for row in block.rows if row.kind == "measured"]
    assert row.how == ("full budget", "subset", "other data")


def test_a_reduced_budget_is_marked():
    few = {"budget__max_steps": 500, "budget__steps_done": 500}
    table = build(cloud_result(**few), cloud_result("tfn", budget__batch_size=32))
    assert lines(table)["SE(3)-Transformer"][0][-1] == "500 †"
    assert lines(table)["TFN"][0][-1] == "60,000 x 32"
    assert any(note.startswith("† reduced budget") and "600,000" in note for note in table.notes)


def test_what_was_not_run_says_how_to_fill_it_without_and_with_heights():
    notes = build(*(cloud_result(model) for model in ("tfn", "deepset", "pointnet2", "pointcnn", "dgcnn"))).missing
    assert list(notes) == [
        "Not run: SE(3)-Transformer, 3DmFV, Set Transformer, PointNet, SpiderCNN, PointGLR. To run: se3t train "
        "experiment=scanobjectnn -m model=se3_transformer,modified_fisher,set_transformer,pointnet,spidercnn,pointglr",
        "Not run: TFN +z, SE(3)-Transformer +z. To run: se3t train experiment=scanobjectnn -m "
        "model=tfn,se3_transformer task.height=true",
        "All that is not run: se3t table 2 --run --preset paper",
    ]
    everything = [cloud_result(str(entry.model), 0, entry.height) for entry in load_published("table2").models.values()]
    assert not build(*everything).missing


def test_a_suggested_run_has_the_data_the_rotation_and_the_augmentation_of_the_table():
    changes = {"config__data__num_train": 300, "config__task__test_rotation": "90", "config__task__augmentation": "so3"}
    notes = build(shapes_result("tfn", 0, True, **changes)).missing
    command = next(note for note in notes if "task.height=true" in note).partition(" To run: ")[2]
    assert command == (
        "se3t train experiment=scanobjectnn model=se3_transformer task.height=true data=shapes15 data.num_train=300 "
        "task.test_rotation=90 task.augmentation=so3"
    )
    given = {word.partition("=")[0] for word in command.split() if "." in word.partition("=")[0]}
    assert given <= set(setting_names())


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("config__task__height", "yes", r"'config\.task\.height' should be true or false, got 'yes'"),
        ("config__task__test_rotation", "200", r"'config\.task\.test_rotation' should be 0 … 180 or so3, got '200'"),
        ("config__task__test_rotation", "nan", r"'config\.task\.test_rotation' should be 0 … 180 or so3, got 'nan'"),
        ("test__accuracy", float("nan"), r"'test\.accuracy' is nan, expected a finite number"),
        ("data__baselines", {}, r"'data\.baselines\.majority\.0' is missing"),
    ],
)
def test_a_record_that_cannot_be_right_is_refused_by_field(field: str, value: Any, expected: str):
    with pytest.raises(UserError, match="result 0: field " + expected):
        tables([cloud_result(**{field: value})])


@pytest.mark.parametrize("make", [cloud_result, shapes_result])
def test_terminal_table_holds_every_number_in_80_columns(make: Any):
    runs = [make(model, seed, budget__steps_done=500) for model in ("tfn", "spidercnn") for seed in (0, 1)]
    table = build(*runs)
    buffer = io.StringIO()
    Console(file=buffer, width=80).print(to_rich(table))
    printed = buffer.getvalue()
    assert max(map(len, printed.splitlines())) <= 80
    assert all(label in printed for label in PAPER)
    assert "54,321" in printed
    assert printed.count("500 of 60,000") == 2
    assert printed.count("†") == 3


def test_models_of_table_2_are_part_of_this_package_and_a_plus_z_names_no_model():
    entries = load_published("table2").models.values()
    assert [entry.label for entry in entries] == PAPER
    assert all(entry.model in SCHEMAS["model"] for entry in entries)
    assert printed_names()["tfn"] == "TFN"
    assert {entry.model for entry in entries if entry.height} == {"tfn", "se3_transformer"}
    assert [entry.label for entry in entries if not entry.is_quoted] == [
        "TFN",
        "DeepSet",
        "SE(3)-Transformer",
        "Set Transformer",
        "TFN +z",
        "SE(3)-Transformer +z",
    ]


def test_numbers_of_table_2_agree_with_the_facts_of_the_paper(shared_dir: Path):
    """Accuracies and points as the project's fact sheet prints them, read by machine."""
    facts = (shared_dir / "docs" / "PAPER.md").read_text(encoding="utf-8")
    section = facts[facts.index("## 3. Table 2") : facts.index("## 4.")].replace("*", "")
    (line,) = [line for line in section.splitlines() if line.startswith("TFN ")]
    entries = list(load_published("table2").models.values())
    found = re.findall(r"(\d\d\.\d) \((\d+)\)", line)
    assert found == [(f"{entry.metrics['accuracy'].value:.1f}", str(entry.num_points)) for entry in entries]
