"""The N-body benchmark of Satorras et al.: published rows, ours beside them, and nothing of it in Table 1."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from rich.console import Console

from se3t.reporting.published import load_published
from se3t.reporting.tables.build import named_tables, render_tables, tables
from se3t.reporting.tables.formats import FORMATS
from se3t.reporting.tables.layout import ResultTable

from .results import lines, ratios, result

SIZES = {"train": 3000, "valid": 2000, "test": 2000}
PUBLISHED = load_published("egnn")


def run(model: str = "se3_transformer", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A finished run on the data of the benchmark."""
    data = {"preset": "egnn", "horizon": 1.0, "sizes": dict(SIZES), "checksum": "e" * 16}
    content = result(model, seed, preset="egnn", **{f"data__{name}": value for name, value in data.items()})
    for name, value in changes.items():
        *path, last = name.split("__")
        target = content
        for key in path:
            target = target[key]
        target[last] = value
    return content


def build(*runs: dict[str, Any]) -> ResultTable:
    (table,) = named_tables("egnn", runs)
    return table


def printed(model: str) -> float:
    return PUBLISHED.models[model].metrics["mse_x"].value


# --- published numbers ------------------------------------------------------------------------------------------------


def test_published_rows_stand_from_the_largest_error_to_the_smallest() -> None:
    errors = [printed(model) for model in PUBLISHED.models]
    assert errors == sorted(errors, reverse=True)
    assert (PUBLISHED.sizes, PUBLISHED.samples) == (SIZES, 30_000_000)


def test_every_number_that_is_not_from_the_paper_of_the_table_has_its_source() -> None:
    papers = {"Linear", "SE(3)-Transformer", "TFN", "GNN", "Radial Field", "EGNN"}
    assert {entry.label for entry in PUBLISHED.models.values() if not entry.source} == papers
    table = build()
    for entry in PUBLISHED.models.values():
        assert not entry.source or any(entry.label in note and entry.source in note for note in table.notes)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_measured_line_stands_above_the_published_one_of_its_method_and_has_both_ratios() -> None:
    found = build(run(seed=0, test__mse_x=0.006), run(seed=1, test__mse_x=0.008))
    measured, published = lines(found)["SE(3)-Transformer"]
    mean, ratio = 0.007, 0.007 / printed("egnn")
    assert measured[:4] == (
        "measured, 2 seeds",
        f"{mean:.4f} ± 0.0014",
        f"{ratio:.3f} ± {0.002 / 2**0.5 / printed('egnn'):.3f}",
        "3.4e-7",
    )
    assert measured[4:] == ("12,345 ‡", "2,000 x 128 †")
    assert published[:3] == ("published", "0.0244", f"{printed('se3_transformer') / printed('egnn'):.3f}")
    assert published[3:] == ("–", "–", "300,000")
    assert ratios(found)["SE(3)-Transformer"][0][0] == f"{mean / printed('se3_transformer'):.2f}"
    assert found.title == "EGNN benchmark, N-body simulation: published protocol (preset egnn, horizon 1)"


def test_constant_velocity_comes_from_the_records_and_the_published_one_is_learned() -> None:
    table = build(run("tfn"))
    measured, published = lines(table)["Linear"]
    assert measured == ("measured", "0.0700", f"{0.07 / printed('egnn'):.3f}", "not run", "0", "–")
    assert published[1] == "0.0819"
    assert any(note.startswith("Linear, published: x + t v with a learned t") for note in table.notes)
    assert "Δ_EQ of Linear not run: se3t train experiment=nbody model=linear preset=egnn" in table.missing


def test_models_that_nobody_published_stand_below_and_lines_tell_their_settings() -> None:
    table = build(
        run("tfn"),
        run("deepset"),
        run("se3_transformer"),
        run("se3_transformer", config__task={"name": "nbody", "reflect": True}),
    )
    found = lines(table)
    assert list(found)[-1] == "DeepSet"
    assert len(found["DeepSet"]) == 1
    assert {line[0].rpartition(", ")[2] for line in found["SE(3)-Transformer"][:2]} == {"reflect=false", "reflect=true"}
    assert lines(table)["EGNN"] == [("published", "0.0071", "1", "–", "–", "300,000")]


def test_a_network_is_compared_with_the_published_one() -> None:
    published = PUBLISHED.models["se3_transformer"].network
    same = {"name": "se3_transformer", **{name.removeprefix("model."): value for name, value in published.items()}}
    assert lines(build(run(config__model=same)))["SE(3)-Transformer"][0][4] == "12,345"
    table = build(run(config__model={**same, "channels": 8}))
    assert lines(table)["SE(3)-Transformer"][0][4] == "12,345 ‡"
    assert "‡ smaller network than the published one: channels." in table.notes


# --- which runs -------------------------------------------------------------------------------------------------------


def test_table_1_shows_no_run_of_the_benchmark_and_names_its_table() -> None:
    runs = [run(), result("tfn")]
    for found in (named_tables("1", runs), [table for table in tables(runs) if table.name == "1"]):
        assert found
        assert not any("egnn" in table.title for table in found)
        assert all("se3t table egnn" in table.notes[-1] for table in found)
    assert not any("se3t table egnn" in note for table in named_tables("1", [result()]) for note in table.notes)
    assert [table.name for table in tables(runs)] == ["1", "egnn"]
    assert [table.name for table in tables([run()])] == ["egnn"]


def test_runs_on_other_data_are_not_in_it() -> None:
    table = build(run("tfn"), result("se3_transformer"))
    assert [block.system for block in table.blocks if block.is_measured] == ["Linear", "TFN"]


def test_fewer_trajectories_are_marked_and_changed_data_have_a_table_of_their_own() -> None:
    few = build(run(data__sizes={**SIZES, "train": 100}))
    assert lines(few)["SE(3)-Transformer"][0][1] == "0.0350ˢ"
    assert any("100 of 3,000 train" in note and "not comparable" in note for note in few.notes)
    whole, changed = named_tables(
        "egnn", [run(), run(data__checksum="5", config__data={"preset": "egnn", "horizon_frames": 5})]
    )
    assert "ˢ" not in "".join(lines(whole)["SE(3)-Transformer"][0])
    assert changed.title.endswith("not comparable with the published numbers")
    assert lines(changed)["SE(3)-Transformer"][0][1] == "0.0350ˢ"


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "words"),
    [(None, "preset=egnn"), ("egnn", "preset=egnn"), ("reduced", "preset=reduced data.preset=egnn")],
)
def test_where_nothing_was_run_the_commands_train_on_its_data(preset: str | None, words: str) -> None:
    (table,) = named_tables("egnn", [], preset=preset)
    assert not any(block.is_measured for block in table.blocks)
    assert f"TFN not run: se3t train experiment=nbody model=tfn {words}" in table.missing
    assert table.missing[-1] == f"All that is not run: se3t table egnn --run --preset {preset or 'egnn'}"


def test_a_command_names_the_data_of_a_run_of_its_recipe_on_other_data() -> None:
    (table,) = tables([run(data__preset="text", data__horizon=0.5)])
    assert any(line.endswith("model=tfn preset=egnn data.preset=text") for line in table.missing)
    (together,) = [line for line in table.missing if line.startswith("All that is not run")]
    assert together.endswith("se3t table 1 --run --preset paper data.preset=text")  # not egnn, which table 1 refuses


# --- formats ----------------------------------------------------------------------------------------------------------


def test_every_format_has_the_published_rows_and_the_measured_ones() -> None:
    table = build(run(test__mse_x=0.0061))
    for name, write in FORMATS.items():
        text = write([table])
        assert "0.0061" in text, name
        assert "PONITA" in text, name
    rows = [row for row in csv.DictReader(io.StringIO(FORMATS["csv"]([table]))) if row["metric"] == "over_egnn_mse_x"]
    by_system = {row["system"]: row for row in rows}
    assert float(by_system["SE(3)-Transformer"]["mean"]) == pytest.approx(0.0061 / printed("egnn"))
    assert float(by_system["SEGNN"]["published"]) == pytest.approx(printed("segnn") / printed("egnn"))
    (content,) = json.loads(FORMATS["json"]([table]))["tables"]
    assert content["table"] == "egnn"


def test_a_training_ends_with_this_table_and_what_was_measured() -> None:
    (table,) = render_tables([run()])
    console = Console(width=200, record=True)
    with console.capture() as captured:
        console.print(table)
    text = captured.get()
    assert "EGNN benchmark" in text
    assert "0.0244" in text
    assert "PONITA" not in text
    assert "se3t table egnn says how" in text
