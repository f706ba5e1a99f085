from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from se3t.errors import UserError
from se3t.experiments.nbody import parse_record
from se3t.reporting.tables.build import named_tables, render_tables, tables
from se3t.reporting.tables.formats import to_markdown
from se3t.reporting.tables.layout import ResultTable
from se3t.reporting.tables.layout import lines as printed_lines
from se3t.reporting.tables.terminal import to_rich
from se3t.runs import Fields
from se3t.runs.files import seal

from .results import lines, property_result, ratios, result


def build(*results: dict | Path) -> ResultTable:
    (table,) = [table for table in tables(results) if table.name == "1"]
    return table


SYSTEMS = ["Linear", "DeepSet", "TFN", "Set Transformer", "SE(3)-Transformer"]


def test_rows_stand_in_the_papers_order():
    assert list(lines(build(result()))) == SYSTEMS


def test_measured_stands_above_published():
    measured, published = lines(build(result()))["SE(3)-Transformer"]
    assert measured == (
        "measured, 1 seed",
        "0.0350",
        "0.500",
        "3.4e-7",
        "0.1300",
        "0.500",
        "5.6e-7",
        "12,345",
        "2,000 †",
    )
    assert published == (
        "published",
        "0.0076 ± 0.0002",
        "0.110",
        "3.2e-7",
        "0.075 ± 0.001",
        "0.287",
        "6.3e-7",
        "–",
        "100,000",
    )


def test_below_a_measured_line_stand_its_ratios_to_the_published_one():
    table = build(result(), result(config__optim={"lr": 0.1}))
    expected = ("4.61", "4.55", "1.06", "1.73", "1.74", "0.89", "–", "–")
    assert ratios(table)["SE(3)-Transformer"] == [expected, expected]
    assert ratios(table)["Linear"] == [("1.01", "1.00", "–", "1.00", "1.00", "–", "–", "–")]
    assert ratios(table)["DeepSet"] == []


def test_linear_as_measured_is_the_baseline_of_the_data():
    measured, published = lines(build(result()))["Linear"]
    assert measured[:4] == ("measured", "0.0700", "1", "not run")
    assert published[:4] == ("published", "0.0691", "1", "–")


def test_a_run_of_linear_adds_its_equivariance_error():
    measured, _ = lines(build(result("linear", parameters=0)))["Linear"]
    assert measured[0] == "measured"
    assert measured[3] == "3.4e-7"


def test_models_not_run_are_there_and_say_how_to_run_them():
    table = build(result(data__preset="text"))
    assert [row[0] for row in lines(table)["DeepSet"]] == ["published, not run"]
    assert "DeepSet not run: se3t train experiment=nbody model=deepset data.preset=text" in table.missing
    assert not any(note.startswith("SE(3)-Transformer") for note in table.missing)
    assert "All that is not run: se3t table 1 --run --preset paper data.preset=text" in table.missing


def test_a_suggested_run_lands_in_the_same_table():
    knobs = {"preset": "calibrated_random", "num_train": 32, "num_valid": 16, "num_test": 8}
    table = build(result(preset="smoke", config__data=knobs))
    assert "TFN not run: se3t train experiment=nbody model=tfn preset=smoke data.num_test=8" in table.missing
    assert "with settings overridden (num_train=32, num_valid=16, num_test=8)" in table.notes[0]
    assert "overridden" not in build(result()).notes[0]


def test_rows_of_one_model_are_labelled_by_what_differs():
    quick = result(preset="quick", config__preset="quick", config__optim={"schedule": "cosine", "lr": 0.1})
    other = result(preset="paper", config__preset="paper", config__optim={"schedule": "constant", "lr": 0.1})
    other["config"]["model"]["channels"] = 4
    labels = {row[0] for row in lines(build(quick, other, result(config__preset="paper")))["SE(3)-Transformer"]}
    assert len(labels) == 4
    assert {"measured, 1 seed, channels=8, preset=quick", "measured, 1 seed, channels=4, preset=paper"} <= {
        row[0] for row in lines(build(quick, other))["SE(3)-Transformer"]
    }


def ended_by_time(seed: int, steps: int, **changes: Any) -> dict[str, Any]:
    budget = {"max_steps": 100_000, "batch_size": 128, "seconds": 610.0}
    budget |= {"max_time": "00:10:00", "training_seconds": 600.1, "ended_by": "time", "steps_done": steps}
    trainer = {"max_steps": 100_000, "max_time": "00:10:00"}
    return result(seed=seed, budget=budget, config__trainer=trainer, **changes)


def test_steps_that_a_time_allowed_are_marked():
    found = build(ended_by_time(0, 12_345), ended_by_time(1, 12_400))
    row = lines(found)["SE(3)-Transformer"][0]
    assert (row[0], row[-1]) == ("measured, 2 seeds", "12,345 … 12,400 in 10 min †")
    assert "in 10 min: as many steps as the time for training (trainer.max_time) allowed." in found.notes
    more = ended_by_time(0, 200_000, budget__max_steps=300_000)
    assert lines(build(more))["SE(3)-Transformer"][0][-1] == "200,000 in 10 min"
    other = lines(build(ended_by_time(0, 12_345, budget__batch_size=64)))["SE(3)-Transformer"][0][-1]
    assert other == "12,345 x 64 in 10 min †"
    assert not any(note.startswith("in ") for note in build(result()).notes)


def test_a_time_that_steps_came_before_is_named_where_others_have_none():
    first = ended_by_time(0, 100_000, budget__ended_by="steps")
    rows = lines(build(first, result()))["SE(3)-Transformer"]
    assert {(row[0], row[-1]) for row in rows[:2]} == {
        ("measured, 1 seed, max_time=00:10:00", "100,000"),
        ("measured, 1 seed, max_time=null", "2,000 †"),
    }


@pytest.mark.parametrize(
    ("field", "value"), [("budget__max_time", "soon"), ("budget__max_time", None), ("budget__training_seconds", -1.0)]
)
def test_a_record_with_a_damaged_time_is_refused(field: str, value: Any):
    damaged = ended_by_time(0, 5, **{field: value})
    if field == "budget__max_time":
        damaged["config"]["trainer"]["max_time"] = value
    with pytest.raises(UserError, match=field.replace("__", r"\.")):
        build(damaged)


def test_many_differences_are_named_by_the_folder_of_the_run(tmp_path: Path):
    paths = []
    for index in range(2):
        path = tmp_path / f"0-{index}" / "result.json"
        path.parent.mkdir()
        settings = {"name": "se3_transformer", **{f"setting{number}": index for number in range(5)}}
        path.write_text(json.dumps(seal(result(config__model=settings))))
        paths.append(path)
    labels = [row[0] for row in lines(build(*paths))["SE(3)-Transformer"]]
    assert labels == ["measured, 1 seed, run 0-0", "measured, 1 seed, run 0-1", "published"]


def test_seeds_give_mean_and_standard_deviation():
    runs = [result(seed=seed, test__mse_x=mse) for seed, mse in enumerate((0.01, 0.02, 0.03))]
    table = build(*runs)
    measured, _ = lines(table)["SE(3)-Transformer"]
    assert measured[:3] == ("measured, 3 seeds", "0.0200 ± 0.0100", "0.500")
    assert any("standard deviation over seeds" in note for note in table.notes)


def test_relative_numbers_and_errors_of_equivariance_have_their_spread_and_none_that_is_too_small():
    values = [(0.1, 3.0e-7, 0.2), (0.2, 3.2e-7, 0.2), (0.3, 3.4e-7, 0.2001)]
    names = ("relative_mse_x", "equivariance_error_x", "equivariance_error_v")
    runs = [
        result(seed=seed, **{f"test__{n}": v for n, v in zip(names, vs, strict=True)}) for seed, vs in enumerate(values)
    ]
    cells = lines(build(*runs))["SE(3)-Transformer"][0]
    assert (cells[2], cells[3], cells[6]) == ("0.200 ± 0.100", "3.2e-7 ± 2.0e-8", "0.2")


@pytest.mark.parametrize(
    ("model", "word", "name"),
    [
        ({"num_layers": 2}, "smaller network", "num_layers"),
        ({"channels": 16}, "other network", "channels"),
        ({"norm": "none", "num_layers": 2}, "other network", "num_layers, norm"),
        ({"num_heads": 1}, "other network", "num_heads"),
    ],
)
def test_a_network_that_is_not_the_papers_is_marked_and_named(model: dict, word: str, name: str):
    full = {"preset": "paper", "budget__max_steps": 100_000, "budget__steps_done": 100_000}
    table = build(result(**full, config__model={"name": "se3_transformer", **model}), result("tfn", **full))
    assert hows(table) == {("no training",), ("full budget",), ("full budget", word)}
    assert lines(table)["SE(3)-Transformer"][0][-2:] == ("12,345 ‡", "100,000")
    assert lines(table)["TFN"][0][-2:] == ("12,345", "100,000")
    assert f"‡ {word} than that of preset paper: {name}." in table.notes


@pytest.mark.parametrize("model", [{"channels": 8}, {"kernel": "torch", "memory": "low"}, {"unknown": 3}])
def test_how_a_network_is_computed_and_what_no_preset_tells_make_it_no_other_one(model: dict):
    assert "‡" not in to_markdown(build(result(config__model={"name": "se3_transformer", **model})))


def test_reduced_and_full_budget_are_told_apart():
    full = result(seed=1, budget__max_steps=100_000, budget__steps_done=100_000)
    reduced, longest = (row[-1] for row in lines(build(result(), full))["SE(3)-Transformer"][:2])
    assert (reduced, longest) == ("2,000 †", "100,000")
    assert any(note.startswith("† reduced budget") for note in build(result(), full).notes)
    assert any(note.startswith("Full budget") for note in build(full).notes)


def test_a_run_that_stopped_early_or_had_another_batch_size_says_so():
    stopped = result(budget__steps_done=1500, budget__batch_size=64)
    assert lines(build(stopped))["SE(3)-Transformer"][0][-1] == "1,500 of 2,000 x 64 †"


def test_caption_names_the_data_and_that_they_are_simulated():
    caption = build(result()).notes[0]
    name = "preset calibrated_random, horizon 0.78, checksum 01234567"
    assert caption.startswith(f"Simulated data: {name}; 1,050,000 distinct training samples. Errors on test")


def without_samples(**changes: Any) -> dict[str, Any]:
    """A record of an earlier version, which did not count distinct training samples."""
    content = result(**changes)
    del content["data"]["distinct_samples"]
    return content


def test_records_with_and_without_the_number_of_samples_share_the_table_of_their_data():
    fixed = {"data__preset": "calibrated", "config__data": {"name": "nbody", "preset": "calibrated", "start": None}}
    old, new = without_samples(**fixed), result(seed=1, data__distinct_samples=5000, **fixed)
    (table,) = [table for table in named_tables("1", [old, new]) if any(block.is_measured for block in table.blocks)]
    assert "first-frame reading" in table.title


@pytest.mark.parametrize(("preset", "start"), [("text", None), ("calibrated_random", None), ("egnn", "random")])
def test_starts_that_an_earlier_version_drew_once_are_no_reading_of_the_paper(preset: str, start: str | None):
    data = {"name": "nbody", "preset": preset, "start": start}
    old = without_samples(data__preset=preset, config__data=data)
    assert parse_record(Fields(old, "result.json")).changes == {"start": "random_once"}
    new = parse_record(Fields(result(data__preset=preset, config__data=data), "result.json"))
    assert new.changes == ({} if start is None else {"start": start})


@pytest.mark.parametrize(("setting", "label"), [("task.reflect", "reflect=true"), ("model.parity", "parity=true")])
def test_a_line_names_its_symmetry_even_where_it_is_the_only_one(setting: str, label: str):
    group, name = setting.split(".")
    chosen = {"name": "nbody" if group == "task" else "se3_transformer", name: True}
    ((measured, *_), *_) = lines(build(result(**{f"config__{group}": chosen})))["SE(3)-Transformer"]
    assert label in measured


def test_different_data_never_share_a_table():
    mixed = [result(), result("tfn", data__checksum="fedcba9876")]
    assert [table.data.rpartition(" ")[2] for table in tables(mixed)] == ["01234567", "fedcba98"]
    assert len(render_tables(mixed)) == 2
    assert len(tables([result(), result("tfn", data__sizes={"train": 32, "valid": 16, "test": 16})])) == 2


def test_every_experiment_with_a_finished_run_has_its_table():
    own = property_result(data__kind="molecules", experiment="molecules")
    results = [own, property_result(), result(), result(experiment="something else"), property_result(status="running")]
    titles = [table.title for table in tables(results)]
    assert titles == [
        "Table 1, N-body simulation: calibrated reading (preset calibrated_random, horizon 0.78)",
        "Own molecules",
        "Table 3, QM9",
    ]
    assert [str(shown.table.title) for shown in render_tables(results)] == titles
    assert tables([]) == []


def test_runs_that_are_not_finished_fill_no_table():
    assert tables([result(status="running")]) == []


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_every_line_says_of_how_many_seeds_it_is_and_which_where_others_have_others():
    runs = [result("tfn", seed) for seed in (0, 1, 2)] + [result("deepset", seed) for seed in (0, 2)]
    table = lines(build(*runs, result("set_transformer", 2), result("linear", 7)))
    assert table["TFN"][0][0] == "measured, 3 seeds"
    assert table["DeepSet"][0][0] == "measured, 2 of 3 seeds: 0, 2"
    assert table["Set Transformer"][0][0] == "measured, 1 of 3 seeds: 2"
    assert table["Linear"][0][0] == "measured"  # nothing in it depends on a seed


def test_as_many_but_other_seeds_are_named():
    runs = [result("tfn", seed) for seed in (0, 1)] + [result("deepset", seed) for seed in (1, 2)]
    table = lines(build(*runs))
    assert table["TFN"][0][0] == "measured, 2 of 3 seeds: 0, 1"
    assert table["DeepSet"][0][0] == "measured, 2 of 3 seeds: 1, 2"


# --- data -------------------------------------------------------------------------------------------------------------

TEXT = {"data__preset": "text", "data__horizon": 0.5, "data__checksum": "77"}


def test_the_literal_reading_stands_below_the_calibrated_one_and_each_names_the_other():
    calibrated, literal = named_tables("1", [result(**TEXT), result()])
    assert "calibrated reading (preset calibrated_random, horizon 0.78)" in calibrated.title
    assert "literal reading (preset text, horizon 0.5)" in literal.title
    assert any(note.startswith("This is the calibrated reading") for note in calibrated.notes)
    assert any(note.startswith("This is the literal reading") for note in literal.notes)
    assert calibrated.missing[-1].startswith("The literal reading")
    assert calibrated.missing[-1].endswith("(preset text), is the table below.")
    assert literal.missing[-2].endswith("(preset calibrated_random), is the table above.")
    assert {table.data.partition(",")[0] for table in (calibrated, literal)} == {
        "preset calibrated_random",
        "preset text",
    }


def test_the_reading_that_was_not_run_is_named_with_its_command():
    (table,) = named_tables("1", [result(preset="smoke", config__preset="smoke")])
    assert table.missing[-1].endswith("(preset text), not run: se3t table 1 --run --preset smoke data.preset=text")
    empty, literal = named_tables("1", [result(**TEXT)])
    assert not any(block.is_measured for block in empty.blocks)
    assert literal.missing[-2].endswith("(preset calibrated_random), is the table above.")
    assert literal.missing[-1].endswith("(preset calibrated), not run: se3t table 1 --run data.preset=calibrated")


def hows(table: ResultTable) -> set[tuple[str, ...]]:
    return {row.how for block in table.blocks for row in block.rows if row.kind == "measured"}


BOX = {"preset": "calibrated_random", "box": 5.0}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data__checksum": "5", "config__data": BOX}, "preset calibrated_random with box=5.0, horizon 0.78"),
        (
            {"data__checksum": "5", "config__data": {**BOX, "num_train": 5000}},
            "preset calibrated_random with box=5.0, horizon 0.78",
        ),
        ({**TEXT, "config__data": {"preset": "text", "step_size": 0.002}}, "preset text with step_size=0.002, horizon"),
        ({"data__preset": "authors", "data__checksum": "5"}, "preset authors, horizon 0.78"),
    ],
)
def test_a_changed_simulation_is_no_reading_of_the_paper_in_title_note_sign_and_how(changes: dict, named: str):
    reading, other = named_tables("1", [result(), result(**changes)])
    assert "reading" in reading.title
    assert other.title.startswith(f"Table 1, N-body simulation ({named}")
    assert other.title.endswith("): not comparable with the published numbers")
    (note,) = [note for note in other.notes if note.startswith("ˢ other data")]
    assert note.endswith("no reading of the paper: not comparable with the published numbers.")
    assert not any("agrees with the published one" in note for note in other.notes)
    assert hows(other) == {("no training", "other data"), ("reduced budget", "other data")}
    for system in ("Linear", "SE(3)-Transformer"):
        block = next(block for block in other.blocks if block.system == system)
        printed = {line.kind: line for line in printed_lines(other, block)}
        numbers = [text for text in printed["measured"].cells[:6] if text != "not run"]
        numbers += [text for text in printed["ratio"].cells if text != "–"]
        assert all(text.endswith("ˢ") for text in numbers)
        assert not any("ˢ" in text for text in printed["published"].cells)
    assert "ˢ" not in to_markdown(reading)


def test_where_only_a_changed_simulation_was_run_the_papers_table_is_there_and_empty():
    empty, other = named_tables("1", [result(config__data=BOX)])
    assert not any(block.is_measured for block in empty.blocks)
    assert "calibrated reading" in empty.title
    assert "TFN not run: se3t train experiment=nbody model=tfn data.box=5.0" in other.missing


def test_an_override_that_changes_nothing_leaves_the_data_what_they_are():
    same = result("tfn", config__data={"preset": "calibrated_random", "box": 0.0})  # the checksum is that of the preset
    for runs in ((result(), same), (same, result())):
        table = build(*runs)
        assert "calibrated reading" in table.title
        assert "ˢ" not in to_markdown(table)


def test_trajectories_of_another_seed_are_the_same_reading_and_commands_name_it():
    table = build(result(config__data={"preset": "calibrated_random", "data_seed": 3}))
    assert "calibrated reading" in table.title
    assert "ˢ" not in to_markdown(table)
    assert "TFN not run: se3t train experiment=nbody model=tfn data.data_seed=3" in table.missing


def test_more_trajectories_than_the_papers_are_marked_too():
    table = build(result(data__sizes={"train": 9000, "valid": 1000, "test": 1000}))
    assert any(
        note.startswith("ˢ more trajectories") and "9,000 in place of 5,000 train" in note for note in table.notes
    )
    assert hows(table) == {("no training", "other data"), ("reduced budget", "other data")}
    assert lines(table)["SE(3)-Transformer"][0][1] == "0.0350ˢ"


def test_other_data_are_no_reading_of_the_paper_and_marked():
    *_, other = named_tables("1", [result(data__preset="authors", data__checksum="5")])
    assert "preset authors" in other.title
    assert any("not comparable with the published numbers" in note for note in other.notes)
    assert all("other data" in how for how in hows(other))


def test_fewer_trajectories_than_the_papers_are_marked_in_every_error():
    table = build(result(data__sizes={"train": 500, "valid": 100, "test": 1000}))
    assert lines(table)["SE(3)-Transformer"][0][1:4] == ("0.0350ˢ", "0.500ˢ", "3.4e-7ˢ")
    assert lines(table)["Linear"][0][1:3] == ("0.0700ˢ", "1ˢ")
    assert ratios(table)["SE(3)-Transformer"][0][:2] == ("4.61ˢ", "4.55ˢ")
    assert lines(table)["SE(3)-Transformer"][1][1] == "0.0076 ± 0.0002"  # published: no mark
    assert any(note.startswith("ˢ fewer trajectories") and "500 of 5,000 train" in note for note in table.notes)
    assert "ˢ" not in to_markdown(build(result()))


def test_records_without_sizes_are_not_called_a_subset():
    old = result()
    del old["data"]["sizes"]
    assert "ˢ" not in to_markdown(build(old))


# --- named tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "systems"),
    [
        ("1", SYSTEMS),
        ("2", ["TFN", "DeepSet", "3DmFV", "PointGLR", "SE(3)-Transformer +z"]),
        ("3", ["WaveScatt", "NMP", "SchNet", "Cormorant", "LieConv(T3)", "TFN", "SE(3)-Transformer"]),
        ("ablations", ["SE(3)-Transformer", "Attention removed", "Radial networks off", "Equivariance removed"]),
    ],
)
def test_a_table_is_there_before_anything_was_run(name: str, systems: list[str]):
    (table,) = named_tables(name, [])
    assert set(systems) <= {block.system for block in table.blocks}
    assert not any(block.is_measured for block in table.blocks)
    for block in table.blocks:
        words = [line[0] for line in lines(table)[block.system]]
        only = block.system in ("WaveScatt", "Cormorant", "LieConv(T3)")
        assert words == (["published only"] if only else words)
        assert only or "not run" in words[0]
        assert only == (block.command == "")


def test_commands_name_the_budget_that_was_asked_for():
    for name in ("1", "2", "3", "ablations"):
        (table,) = named_tables(name, [], preset="smoke")
        assert all("preset=smoke" in block.command for block in table.blocks if block.command)
        assert any(f"se3t table {name} --run --preset smoke" in note for note in table.missing)


def test_only_runs_of_a_budget_can_be_asked_for():
    runs = [result(preset="quick", config__preset="quick"), result("tfn", preset="smoke", config__preset="smoke")]
    (table,) = tables(runs, preset="quick")
    assert lines(table)["TFN"][0][0] == "published, not run"
    assert tables(runs, preset="reduced") == []
    (table,) = named_tables("1", runs, preset="smoke")
    assert lines(table)["SE(3)-Transformer"][0][0] == "published, not run"


def test_unknown_tables_and_targets_of_other_tables_are_refused():
    with pytest.raises(UserError, match="table 4: unknown; known: 1, 2, 3, ablations"):
        named_tables("4", [])
    with pytest.raises(UserError, match="column of table 3 and not of table 1"):
        named_tables("1", [], target="homo")


def test_after_a_training_the_table_has_only_what_was_measured():
    (table,) = render_tables([result()])
    buffer = io.StringIO()
    Console(file=buffer, width=100).print(table)
    printed = buffer.getvalue()
    assert "SE(3)-Transformer" in printed
    assert "published" in printed
    assert "Not run: DeepSet, TFN, Set Transformer. se3t table 1 says how" in printed
    assert "0.0639" not in printed


# --- written ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_table_holds_every_cell(width: int):
    changes = {"config__data": BOX, "config__model": {"name": "se3_transformer", "num_layers": 2}}
    spread = [{"test__mse_x": value, "test__equivariance_error_x": value * 1e-5} for value in (0.03, 0.04, 0.05)]
    runs = [result(seed=seed, parameters=123_456, **changes, **spread[seed]) for seed in range(3)]
    runs.append(result("tfn", 1, preset="smoke", budget__steps_done=1500))
    table = build(*runs)
    buffer = io.StringIO()
    Console(file=buffer, width=width).print(to_rich(table))
    assert max(map(len, buffer.getvalue().splitlines())) <= width
    words = buffer.getvalue().split()
    for row in (row for rows in lines(table, "").values() for row in rows):
        for word in (word for cell in row for word in cell.replace("± ", "±").split()):
            assert word in words


def test_reporting_imports_no_torch():
    code = "import sys, se3t.reporting.tables.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
