"""The table of ablations, from run records with invented numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from se3t.reporting.tables.build import named_tables, render_tables, tables
from se3t.reporting.tables.formats import to_json, to_markdown
from se3t.reporting.tables.layout import ResultTable

from .results import lines, property_result, ratios, result
from .test_classification import cloud_result, shapes_result

FULL, ATTENTION, RADIAL, PLAIN = (
    "SE(3)-Transformer",
    "Attention removed",
    "Radial networks off",
    "Equivariance removed",
)


def ablated(name: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    return result("se3_transformer", seed, config__model__ablation=name, **changes)


def of_ablations(*results: dict[str, Any]) -> ResultTable:
    (table,) = [table for table in tables(results) if table.name == "ablations"]
    return table


def test_every_ablation_has_a_row_beside_the_full_model():
    table = of_ablations(result(), ablated("attention", test__mse_x=0.07), ablated("equivariance"))
    assert list(lines(table)) == [FULL, ATTENTION, RADIAL, PLAIN]
    assert lines(table)[ATTENTION][0][:3] == ("measured, 1 seed", "0.0700", "0.500")
    assert ratios(table)[ATTENTION][0][:2] == ("2.00", "1.00")
    assert ratios(table)[FULL] == []
    assert lines(table)[RADIAL] == [("not run", *["–"] * 8)]
    assert table.missing[0] == "Radial networks off not run: se3t train experiment=nbody model.ablation=radial"


def test_ablated_runs_are_in_no_table_of_the_paper():
    found = tables([result(), ablated("attention", 1, test__mse_x=9.0)])
    assert [table.name for table in found] == ["1", "ablations"]
    assert lines(found[0])[FULL][0][0] == "measured, 1 seed"
    assert "9.0" not in to_markdown(found[0])
    (table,) = named_tables("1", [ablated("radial")])
    assert not any(block.is_measured for block in table.blocks)


def test_records_that_know_no_ablation_are_full_models():
    old, new = result(seed=0), result(seed=1, config__model__ablation="none")
    table = of_ablations(old, new, ablated("attention"), ablated("attention", 1))
    assert lines(table)[FULL][0][0] == "measured, 2 seeds"
    assert len(lines(table)[FULL]) == 1
    assert ratios(table)[ATTENTION]


def test_a_ratio_is_taken_over_the_seeds_that_both_have():
    full = [result(seed=seed, test__mse_x=0.01 * (seed + 1)) for seed in (0, 1, 2)]
    table = of_ablations(*full, *(ablated("radial", seed, test__mse_x=0.06) for seed in (1, 2)))
    assert lines(table)[RADIAL][0][0] == "measured, 2 of 3 seeds: 1, 2"
    assert ratios(table)[RADIAL][0][0] == "2.40"  # 0.06 over the mean of 0.02 and 0.03
    content = json.loads(to_json([table]))["tables"][0]["systems"][2]["lines"][0]["metrics"]["mse_x"]
    assert content["ratio"] == pytest.approx(2.4)
    assert content["ratio_to"] == "full model"


def test_only_runs_with_the_same_settings_are_compared():
    other = result(config__optim={"lr": 0.5}, test__mse_x=0.5)
    table = of_ablations(result(), other, ablated("attention", test__mse_x=0.07))
    assert [row[1] for row in lines(table)[FULL]] == ["0.0350"]
    assert ratios(table)[ATTENTION][0][0] == "2.00"
    alone = of_ablations(other, ablated("attention"))
    assert ratios(alone)[ATTENTION] == []


def test_data_and_budgets_have_tables_of_their_own():
    changes = ({}, {"data__checksum": "9"}, {"preset": "quick", "config__preset": "quick"})
    found = [run for change in changes for run in (result(**change), ablated("radial", **change))]
    titles = [table.title for table in tables(found) if table.name == "ablations"]
    assert len(titles) == 3
    assert sum("budget quick" in title for title in titles) == 1
    assert all("preset calibrated_random, horizon 0.78" in title for title in titles)


def test_systems_of_the_paper_without_the_same_parts_stand_below():
    table = of_ablations(result(), result("tfn"), result("set_transformer"), result("deepset"), ablated("attention"))
    assert list(lines(table))[-2:] == ["TFN", "Set Transformer"]
    assert ratios(table)["TFN"][0][0] == "1.00"
    assert "DeepSet" not in lines(table)
    assert any(note.startswith("TFN: the paper's system without attention") for note in table.notes)


def test_without_an_ablated_run_the_table_is_there_when_it_is_asked_for():
    assert [table.name for table in tables([result()])] == ["1"]
    (table,) = named_tables("ablations", [result()])
    assert lines(table)[FULL][0][0] == "measured, 1 seed"
    assert len(table.missing) == 4


def test_other_data_and_other_networks_are_marked_and_ratios_to_runs_on_the_same_data_are_not():
    changes = {
        "config__data": {"preset": "calibrated_random", "box": 5.0},
        "config__model": {"name": "se3_transformer"},
    }
    full = result(**changes, parameters=1)
    less = result(**changes, parameters=1)
    for run, ablation in ((full, "none"), (less, "attention")):
        run["config"]["model"] = {"name": "se3_transformer", "num_layers": 2, "ablation": ablation}
    table = of_ablations(full, less)
    assert "preset calibrated_random with box=5.0" in table.title
    assert "not comparable" in table.title
    assert lines(table)[ATTENTION][0][1:3] == ("0.0350ˢ", "0.500ˢ")
    assert lines(table)[ATTENTION][0][-2:] == ("1 ‡", "2,000 †")
    assert ratios(table)[ATTENTION][0][:2] == ("1.00", "1.00")
    (row,) = [row for block in table.blocks if block.system == ATTENTION for row in block.rows]
    assert row.how == ("reduced budget", "smaller network", "other data")


def test_ablations_on_synthetic_data_and_own_molecules_are_called_what_they_are():
    runs = [shapes_result("se3_transformer", 0, True, **change) for change in ({}, ABLATED_CLOUDS)]
    assert of_ablations(*runs).title.startswith("Ablations, synthetic shapes15: not comparable")
    own = {"data__kind": "molecules", "data__official": {}, "budget__steps_done": 10}
    runs = [property_result(**own), property_result(**own, config__model__ablation="attention")]
    table = of_ablations(*runs)
    assert table.title.startswith("Ablations, Own molecules")
    assert {row.how for block in table.blocks for row in block.rows if row.kind == "measured"} == {("own data",)}
    assert "†" not in to_markdown(table)


def test_all_that_is_missing_gets_the_budget_of_what_is_there():
    for preset in ("paper", "smoke"):
        (table,) = named_tables("ablations", [result(preset=preset, config__preset=preset)])
        assert table.missing[-1] == f"All that is not run: se3t table ablations --run --preset {preset}"


def test_after_the_training_of_one_its_table_is_printed():
    assert len(render_tables([ablated("attention")])) == 1


def test_properties_and_point_clouds_have_ablations_too():
    runs = [property_result(), property_result(config__model__ablation="attention", test__mae=88.0)]
    table = of_ablations(*runs)
    assert table.headings[:2] == ("ε_HOMO, meV", "Δ_EQ")
    assert ratios(table)[ATTENTION][0][:2] == ("2.00", "1.00")
    assert "task=homo" in table.missing[0]
    table = of_ablations(*(cloud_result("se3_transformer", 0, True, **change) for change in ({}, ABLATED_CLOUDS)))
    assert table.headings[0] == "accuracy, %"
    assert "+z" in table.title
    assert ratios(table)[PLAIN][0][0] == "0.50"
    assert "task.height=true" in table.missing[0]


ABLATED_CLOUDS = {"config__model__ablation": "equivariance", "test__accuracy": 0.35615}
