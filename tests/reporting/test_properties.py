from __future__ import annotations

import io
from itertools import product
from typing import Any

import pytest
from rich.console import Console

from se3t.config.presets import settings_of_preset
from se3t.errors import UserError
from se3t.reporting.tables.build import named_tables, tables
from se3t.reporting.tables.formats import to_markdown
from se3t.reporting.tables.layout import ResultTable
from se3t.reporting.tables.terminal import to_rich

from .results import lines, property_result, ratios, subset_result

PAPER = ("WaveScatt", "NMP", "SchNet", "Cormorant", "LieConv(T3)", "TFN", "SE(3)-Transformer")


def build(*results: dict[str, Any]) -> ResultTable:
    (table,) = tables(results)
    return table


def terminal(table: ResultTable, width: int = 80) -> list[str]:
    buffer = io.StringIO()
    Console(file=buffer, width=width).print(to_rich(table))
    return buffer.getvalue().splitlines()


def preset(name: str, **changes: Any) -> dict[str, Any]:
    return {"preset": name, "config__preset": name, **changes}


FAST = preset("fast", budget__batch_size=240, budget__max_steps=20_000, budget__steps_done=20_000)
OWN = {
    "data__kind": "molecules",
    "data__label": "log [P], pH 7 | exp",
    "data__unit": "",
    "data__official": {},
    "data__sizes": {"train": 80, "valid": 10, "test": 10},
}


def test_rows_stand_in_the_papers_order_below_what_needs_no_network():
    table = lines(build(property_result("deepset"), property_result()))
    assert list(table) == ["No network", *PAPER, "DeepSet"]
    assert [row[:2] for row in table["No network"]] == [("mean predictor", "440"), ("linear in composition", "330")]
    assert [row[0] for row in table["Cormorant"]] == ["published only"]


def test_one_target_is_shown_with_its_cost_and_its_invariance():
    table = build(property_result())
    assert table.headings == ("ε_HOMO, meV", "Δ_EQ", "batch", "param.", "steps")
    measured, published = lines(table)["SE(3)-Transformer"]
    assert measured[1:] == ("44.0", "2.5e-6", "32", "1,234,567", "156,250")
    assert measured[0] == "measured, 1 seed, preset=released, graph=bonds"
    assert published == ("published", "35.0 ± 0.9", "–", "–", "–", "–")


def test_several_targets_stand_in_the_papers_order_and_the_others_after_them():
    table = build(*(property_result(target=target) for target in ("u0", "homo", "alpha")))
    assert table.headings == ("α, bohr³", "ε_HOMO, meV", "<u0>, meV", "param.", "steps")
    measured, published = lines(table)["SE(3)-Transformer"]
    assert measured[1:] == ("44.0", "44.0", "44.0", "1,234,567", "156,250")
    assert published[1:4] == ("0.142 ± 0.002", "35.0 ± 0.9", "–")


def test_a_target_that_the_paper_has_not_leaves_its_rows_out():
    table = build(property_result(target="u0"))
    assert list(lines(table)) == ["No network", "SE(3)-Transformer"]
    assert [row[0].partition(",")[0] for row in lines(table)["SE(3)-Transformer"]] == ["measured"]
    assert not any(note.startswith("Published") for note in table.notes)


def test_without_a_test_split_the_number_is_of_validation_and_says_so():
    table = build(subset_result())
    assert lines(table)["SE(3)-Transformer"][0][1] == "22.0ˢᵛ"
    assert {row[1] for row in lines(table)["No network"]} == {"440ˢᵛ", "330ˢᵛ"}
    assert any(note.startswith("ᵛ mean absolute errors on validation") for note in table.notes)
    assert not any("ᵛ" in note for note in build(property_result()).notes)


def test_a_part_of_qm9_is_called_that_and_not_comparable():
    table = build(subset_result())
    assert table.title == "Table 3, QM9 subset: not comparable with the published numbers"
    assert table.notes[0].startswith("ˢ QM9 subset: 71,000 of 100,000 training molecules")
    assert lines(table)["SE(3)-Transformer"][1][1] == "35.0 ± 0.9"  # published: no mark
    whole = build(property_result())
    assert whole.title == "Table 3, QM9"
    assert "ˢ" not in to_markdown(whole)


def test_different_data_never_share_a_table():
    fewer = property_result("schnet")
    fewer["data"]["sizes"]["train"] = 500
    found = tables([property_result(), subset_result("tfn"), fewer])
    assert len(found) == 3
    for table, model in zip(found, ("SchNet", "SE(3)-Transformer", "TFN"), strict=True):
        measured = [name for name, rows in lines(table).items() if rows[0][0].startswith("measured")]
        assert measured == [model]


def test_edges_and_presets_make_lines_of_their_own():
    complete = preset("paper", config__data__graph="complete")
    rows = lines(build(property_result(), property_result(**complete)))["SE(3)-Transformer"]
    assert [row[0] for row in rows] == [
        "measured, 1 seed, preset=released, graph=bonds",
        "measured, 1 seed, preset=paper, graph=complete",
        "published",
    ]


def test_references_of_atoms_are_said_beside_their_line_and_in_the_notes():
    plain, referenced = build(property_result()), build(property_result(config__task__reference="composition"))
    assert not any("reference" in note for note in plain.notes)
    assert lines(referenced)["SE(3)-Transformer"][0][0].endswith("reference=composition")
    assert sum(note.startswith("reference=composition: a reference for each atom") for note in referenced.notes) == 1


def test_what_a_preset_brings_is_not_said_again_but_what_was_changed_is():
    def run(name: str, channels: int) -> dict[str, Any]:
        return property_result(**preset(name, config__model__channels=channels))

    labels = [row[0] for row in lines(build(run("released", 32), run("paper", 16)))["SE(3)-Transformer"]]
    assert not any("channels" in label for label in labels)
    labels = [row[0] for row in lines(build(run("released", 32), run("paper", 7)))["SE(3)-Transformer"]]
    assert [label.rpartition(", ")[2] for label in labels[:2]] == ["channels=32", "channels=7"]


def test_seeds_of_every_target_are_averaged_apart():
    values = {"homo": (40.0, 42.0), "lumo": (30.0, 36.0)}
    runs = [
        property_result(target=target, seed=seed, test__mae=values[target][seed])
        for target in values
        for seed in (0, 1)
    ]
    table = build(*runs)
    assert lines(table)["SE(3)-Transformer"][0][:3] == (
        "measured, 2 seeds, preset=released, graph=bonds",
        "41.0 ± 1.4",
        "33.0 ± 4.2",
    )
    assert any("standard deviation over seeds" in note for note in table.notes)
    assert lines(build(*runs[:3]))["SE(3)-Transformer"][0][0].startswith("measured, 1 … 2 of 2 seeds: 0, 1, ")


def test_a_copied_run_does_not_count_twice():
    with pytest.raises(UserError, match=r"the same run .* is also in result 0"):
        tables([property_result(), property_result()])


def test_fewer_molecules_than_fifty_epochs_are_marked():
    few = {"budget__max_steps": 1000, "budget__steps_done": 1000}
    table = build(property_result(**few), property_result("tfn", budget__batch_size=64, budget__steps_done=78_125))
    assert lines(table)["SE(3)-Transformer"][0][-1] == "1,000 †"
    assert lines(table)["TFN"][0][-1] == "78,125 of 156,250"
    assert any(note.startswith("† reduced budget") and "5,000,000" in note for note in table.notes)
    assert not any("†" in note for note in build(property_result()).notes)


@pytest.mark.parametrize("model", ["se3_transformer", "tfn"])
def test_a_full_budget_does_not_make_the_network_of_preset_reduced_the_papers(model: str):
    names = ("model.num_layers", "model.num_degrees", "model.channels", "model.channels_div")
    settings = settings_of_preset("qm9", "reduced", model)
    reduced = {name.removeprefix("model."): settings[name] for name in names if name in settings}
    table = build(property_result(model, **preset("reduced", config__model={"name": model, **reduced})))
    (row,) = [row for block in table.blocks for row in block.rows if row.kind == "measured"]
    assert row.how == ("full budget", "smaller network")
    assert row.cells[-2].text == "1,234,567 ‡"
    (note,) = [note for note in table.notes if note.startswith("‡")]
    assert note.startswith("‡ smaller network than that of preset released or paper: num_layers, num_degrees")


@pytest.mark.parametrize("name", ["released", "paper", "fast"])
@pytest.mark.parametrize("model", ["se3_transformer", "tfn", "schnet", "mpnn"])
def test_the_networks_of_the_other_presets_are_the_papers(name: str, model: str):
    settings = settings_of_preset("qm9", name, model).items()
    network = {key.removeprefix("model."): value for key, value in settings if key.startswith("model.")}
    table = build(property_result(model, **preset(name, config__model=network)))
    assert "‡" not in to_markdown(table)
    assert not any("network" in word for block in table.blocks for row in block.rows for word in row.how)


def test_another_batch_size_is_named_where_it_has_no_column():
    table = build(property_result(**FAST), property_result(target="mu"))
    assert [row[-1] for row in lines(table)["SE(3)-Transformer"][:2]] == ["20,000 x 240 †", "156,250"]


def test_what_was_not_run_says_how_to_fill_it():
    table = build(property_result(**FAST), property_result("tfn", "lumo", **FAST))
    assert lines(table)["TFN"][0][1:3] == ("not run", "44.0")
    assert list(table.missing) == [
        "NMP not run: se3t train experiment=qm9 -m task=homo,lumo model=mpnn preset=fast",
        "SchNet not run: se3t train experiment=qm9 -m task=homo,lumo model=schnet preset=fast",
        "TFN not run for homo: se3t train experiment=qm9 task=homo model=tfn preset=fast",
        "SE(3)-Transformer not run for lumo: se3t train experiment=qm9 task=lumo model=se3_transformer preset=fast",
        "All that is not run: se3t table 3 --run --preset fast",
    ]


def test_a_suggested_run_has_as_many_molecules():
    notes = build(property_result(config__data__num_train=1000)).missing
    assert "TFN not run: se3t train experiment=qm9 task=homo model=tfn data.num_train=1000" in notes
    smoke = preset("smoke", config__data={"graph": "bonds", "num_train": 4096, "num_valid": 512, "num_test": 64})
    notes = build(property_result(**smoke)).missing
    assert "TFN not run: se3t train experiment=qm9 task=homo model=tfn preset=smoke data.num_test=64" in notes


def test_a_number_in_another_unit_never_stands_beside_the_papers():
    with pytest.raises(UserError, match=r"result 0: field 'data\.unit' is 'eV', expected 'meV' for homo"):
        tables([property_result(data__unit="eV")])


def test_where_data_lie_and_come_from_does_not_split_a_line():
    moved = property_result(seed=1, config__data__raw="elsewhere/qm9.zip", config__data__root="elsewhere")
    assert len(lines(build(property_result(), moved))["SE(3)-Transformer"]) == 2


@pytest.mark.parametrize("experiment", ["qm9", "molecules"])
def test_own_molecules_have_a_table_without_published_numbers(experiment: str):
    table = build(*(property_result(model, "logp", experiment=experiment, **OWN) for model in ("tfn", "mpnn")))
    assert table.title == "Own molecules"
    assert list(lines(table)) == ["No network", "NMP", "TFN"]
    assert all(row[0].startswith("measured") for row in lines(table)["TFN"])
    assert table.notes[0] == "Own molecules: 80 molecules train, 10 validate, 10 test; checksum 01234567."
    assert not any("ublished" in note for note in table.notes)
    assert not table.missing
    assert not any(ratios(table).values())


def test_names_of_columns_are_printed_as_they_are():
    table = build(property_result("tfn", "logp", **OWN))
    assert any("log [P]" in line for line in terminal(table))
    assert r"log \[P\], pH 7 \| exp" in to_markdown(table)


@pytest.mark.parametrize(
    ("mae", "cell"), [(0.0512, "0.0512"), (1.234, "1.23"), (123.4, "123"), (4e-9, "4.0e-9"), (0, "0.000")]
)
def test_measured_numbers_keep_three_digits(mae: float, cell: str):
    assert lines(build(property_result(test__mae=mae)))["SE(3)-Transformer"][0][1] == cell


@pytest.mark.parametrize("targets", [("homo",), ("homo", "mu"), ("homo", "lumo", "cv")])
def test_terminal_table_holds_every_number_in_80_columns(targets: tuple[str, ...]):
    changes = preset("released", budget__batch_size=240, budget__steps_done=8_000)
    models = ("se3_transformer", "tfn", "set_transformer")
    table = build(*(subset_result(*words, **changes) for words in product(models, targets, (0, 1))))
    printed = terminal(table)
    assert max(map(len, printed)) <= 80
    words = " ".join(printed).split()
    for cell in (cell for rows in lines(table, "").values() for row in rows for cell in row[1:]):
        assert set(cell.replace("± ", "±").split()) <= set(words)
    numbers = [line for line in printed if line.startswith("  mean predictor")]
    heads = [line for line in printed if "─" in line]
    assert len({len(line.rstrip()) for line in numbers + heads}) == 1  # columns end where the line ends


def test_markdown_has_one_line_per_row_and_no_ragged_cells():
    table = build(*(property_result(target=target) for target in ("homo", "lumo", "gap", "mu", "alpha", "cv")))
    rows = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + sum(map(len, lines(table, "").values()))
    assert {row.count("|") for row in rows} == {11}


def test_a_table_of_one_target_can_be_chosen():
    results = [property_result(), property_result(target="lumo"), property_result("tfn", "lumo")]
    (table,) = tables(results, target="lumo")
    assert table.headings[0] == "ε_LUMO, meV"
    assert [name for name, rows in lines(table).items() if rows[0][0].startswith("measured")] == [*PAPER[-2:]]
    assert tables(results, target="mu") == []


def test_table_3_by_name_has_all_columns_of_the_paper_and_says_which_cells_were_not_run():
    (table,) = named_tables("3", [property_result(), property_result(target="u0")])
    paper = ("α, bohr³", "Δε, meV", "ε_HOMO, meV", "ε_LUMO, meV", "μ, D", "C_v, cal/(mol K)")
    assert table.headings == (*paper, "<u0>, meV", "param.", "steps")
    measured, published = lines(table)["SE(3)-Transformer"]
    assert measured[1:8] == ("not run", "not run", "44.0", "not run", "not run", "not run", "44.0")
    assert published[1:8] == (
        "0.142 ± 0.002",
        "53.0 ± 0.3",
        "35.0 ± 0.9",
        "33.0 ± 0.7",
        "0.051 ± 0.001",
        "0.054 ± 0.002",
        "–",
    )
    assert lines(table)["No network"][0][1:4] == ("–", "–", "440")
    (alone,) = named_tables("3", [property_result(), property_result(target="mu")], target="homo")
    assert alone.headings[0] == "ε_HOMO, meV"
    assert len(alone.headings) == 5


def test_own_molecules_are_not_table_3():
    (table,) = named_tables("3", [property_result("tfn", "logp", **OWN)])
    assert table.title == "Table 3, QM9"
    assert not any(block.is_measured for block in table.blocks)


def test_a_target_without_a_run_or_a_column_is_refused_by_name():
    with pytest.raises(UserError, match=r"--target homoo: .* did you mean 'homo'\?"):
        named_tables("3", [], target="homoo")


# --- several properties of one network -----------------------------------------------------------------------


def several_result(**changes: Any) -> dict[str, Any]:
    """A run that learned HOMO and the dipole moment together."""
    entries = [("homo", "ε_HOMO", "meV"), ("mu", "μ", "D")]
    properties = [
        {"target": name, "label": label, "unit": unit, "mean": 0.0, "std": 1.0} for name, label, unit in entries
    ]
    content = property_result(
        data__target="homo+mu",
        data__label="ε_HOMO, μ",
        data__unit="",
        data__properties=properties,
        data__baselines={"mean": [440.0, 1.2], "composition": [330.0, 0.9]},
        config__task__target="homo+mu",
        test__mae_homo=40.0,
        test__mae_mu=0.05,
        **changes,
    )
    del content["test"]["mae"]
    return content


def test_several_properties_of_one_network_fill_a_row_of_their_own():
    table = build(several_result(), property_result(), property_result(target="alpha"))
    assert table.headings[:3] == ("α, bohr³", "ε_HOMO, meV", "μ, D")
    rows = lines(table)["SE(3)-Transformer"]
    assert [row[1:4] for row in rows[:2]] == [("not run", "40.0", "0.0500"), ("44.0", "44.0", "not run")]
    assert "target=homo+mu" in rows[0][0]
    assert any(note.startswith("target=several") for note in table.notes)
    assert [row[1:4] for row in lines(table)["No network"]] == [("440", "440", "1.20"), ("330", "330", "0.900")]


def test_a_column_can_be_chosen_of_a_network_of_several_properties():
    (table,) = tables([several_result(), property_result(target="alpha")], target="mu")
    assert table.headings[0] == "μ, D"
    assert [row[1] for row in lines(table)["SE(3)-Transformer"]] == ["0.0500", "0.051 ± 0.001"]


def test_a_missing_error_of_one_of_several_properties_is_named():
    broken = several_result()
    del broken["test"]["mae_mu"]
    with pytest.raises(UserError, match=r"test\.mae_mu"):
        build(broken)
