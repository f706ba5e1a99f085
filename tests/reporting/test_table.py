from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from se3t.errors import UserError
from se3t.reporting.nbody import parse_record, table1
from se3t.reporting.published import load_published
from se3t.reporting.records import finished
from se3t.reporting.table import ResultTable, render_tables, tables, to_markdown, to_rich

from .results import property_result, result


def build(*results: dict | Path) -> ResultTable:
    return table1([parse_record(fields) for fields in finished(results)], load_published("table1"))


def lines(table: ResultTable) -> dict[str, list[tuple[str, ...]]]:
    return {block.model: [(row.label, *row.cells) for row in block.rows] for block in table.blocks}


def test_rows_stand_in_the_papers_order():
    assert list(lines(build(result()))) == ["Linear", "DeepSet", "TFN", "Set Transformer", "SE(3)-Transformer"]


def test_measured_stands_above_published():
    measured, published = lines(build(result()))["SE(3)-Transformer"]
    assert measured == ("measured", "0.0350", "0.500", "3.4e-7", "0.1300", "0.500", "5.6e-7", "12,345", "2,000 †")
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


def test_linear_as_measured_is_the_baseline_of_the_data():
    measured, published = lines(build(result()))["Linear"]
    assert measured[:4] == ("measured", "0.0700", "1", "–")
    assert published[:4] == ("published", "0.0691", "1", "–")


def test_a_run_of_linear_adds_its_equivariance_error():
    measured, _ = lines(build(result("linear", parameters=0)))["Linear"]
    assert measured[3] == "3.4e-7"


def test_models_not_run_are_published_only_and_say_how_to_run_them():
    table = build(result(data__preset="text"))
    assert [row[0] for row in lines(table)["DeepSet"]] == ["published only"]
    assert "DeepSet not run: se3t train experiment=nbody model=deepset data.preset=text" in table.notes
    assert not any(note.startswith("SE(3)-Transformer") for note in table.notes)


def test_a_suggested_run_lands_in_the_same_table():
    knobs = {"preset": "calibrated", "num_train": 32, "num_valid": 16, "num_test": 8}
    table = build(result(preset="smoke", config__data=knobs))
    assert "TFN not run: se3t train experiment=nbody model=tfn preset=smoke data.num_test=8" in table.notes
    assert "with settings overridden (num_train=32, num_valid=16, num_test=8)" in table.notes[0]
    assert "overridden" not in build(result()).notes[0]


def test_rows_of_one_model_are_labelled_by_what_differs():
    quick = result(preset="quick", config__preset="quick", config__optim={"schedule": "cosine", "lr": 0.1})
    other = result(preset="paper", config__preset="paper", config__optim={"schedule": "constant", "lr": 0.1})
    other["config"]["model"]["channels"] = 4
    labels = {row[0] for row in lines(build(quick, other, result(config__preset="paper")))["SE(3)-Transformer"]}
    assert len(labels) == 4
    assert {"measured, channels=8, preset=quick", "measured, channels=4, preset=paper"} <= {
        row[0] for row in lines(build(quick, other))["SE(3)-Transformer"]
    }


def test_many_differences_are_named_by_the_folder_of_the_run(tmp_path: Path):
    paths = []
    for index in range(2):
        path = tmp_path / f"0-{index}" / "result.json"
        path.parent.mkdir()
        settings = {f"setting{number}": index for number in range(5)}
        path.write_text(json.dumps(result(config__model=settings)))
        paths.append(path)
    labels = [row[0] for row in lines(build(*paths))["SE(3)-Transformer"]]
    assert labels == ["measured, run 0-0", "measured, run 0-1", "published"]


def test_seeds_give_mean_and_standard_deviation():
    runs = [result(seed=seed, test__mse_x=mse) for seed, mse in enumerate((0.01, 0.02, 0.03))]
    table = build(*runs)
    measured, _ = lines(table)["SE(3)-Transformer"]
    assert measured[:2] == ("measured, 3 seeds", "0.0200 ± 0.0100")
    assert any("standard deviation over seeds" in note for note in table.notes)


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
    assert re.match(r"Simulated data: preset calibrated, horizon 1, checksum 01234567\.", caption)


def test_different_data_never_share_a_table():
    mixed = [result(), result("tfn", data__checksum="fedcba9876")]
    with pytest.raises(UserError, match=r"01234567.*fedcba98"):
        build(*mixed)
    assert len(tables(mixed)) == 2
    assert len(render_tables(mixed)) == 2


def test_every_experiment_with_a_finished_run_has_its_table():
    own = property_result(data__kind="molecules", experiment="molecules")
    results = [own, property_result(), result(), result(experiment="something else"), property_result(status="running")]
    titles = [table.title for table in tables(results)]
    assert titles == ["Table 1, N-body simulation", "Own molecules", "Table 3, QM9"]
    assert [str(table.title) for table in render_tables(results)] == titles
    assert tables([]) == []


def test_no_finished_run_is_a_clear_error():
    with pytest.raises(UserError, match="no finished run of experiment 'nbody'"):
        build(result(status="running"))


def test_terminal_table_holds_every_cell_in_80_columns():
    runs = [result(seed=seed, parameters=123_456, test__mse_x=0.03 + seed / 100) for seed in range(3)]
    buffer = io.StringIO()
    Console(file=buffer, width=80).print(to_rich(build(*runs)))
    words = buffer.getvalue().split()
    for row in (row for block in build(*runs).blocks for row in block.rows):
        for word in (word for cell in row.cells for word in cell.replace("± ", "±").split()):
            assert word in words


def test_markdown_has_one_line_per_row_and_no_ragged_cells():
    table = build(result())
    rows = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + sum(len(block.rows) for block in table.blocks)
    assert {row.count("|") for row in rows} == {11}
    assert "| SE(3)-Transformer | measured | 0.0350 | 0.500 |" in to_markdown(table)


def test_reporting_imports_no_torch():
    code = "import sys, se3t.reporting.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
