from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from se3t.config import MoleculesData, PropertyTask
from se3t.data import store as store_module
from se3t.data.molecules import own
from se3t.data.molecules.building import provenance_lines
from se3t.data.molecules.dataset import load_property
from se3t.data.molecules.inputs import read_molecules
from se3t.data.molecules.own import (
    molecule_groups,
    prepare_molecules,
    random_split,
    read_molecules_store,
    store_path,
    summary,
)
from se3t.data.store import Store
from se3t.errors import UserError
from se3t.experiments.molecules import DATA

from ..qm9.raw_files import SHAPES, WATER, Shape, mol_block

NAMES = [f"mol {letter}" for letter in "abcdefghij"]
Y = "\n".join(["name,y", *(f"{name},{row}" for row, name in enumerate(NAMES))])


def sdf(names: list[str], fields: dict[str, list[str]] | None = None) -> str:
    text = ""
    for row, name in enumerate(names):
        text += mol_block(name, SHAPES[row % len(SHAPES)])
        for field, cells in (fields or {}).items():
            text += f"> <{field}>\n{cells[row]}\n\n" if cells[row] else ""
        text += "$$$$\n"
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "solubility"
    path.mkdir()
    (path / "any.sdf").write_text(sdf(NAMES))
    return path


@pytest.fixture
def config(tmp_path: Path, folder: Path) -> MoleculesData:
    return MoleculesData(root=str(tmp_path / "data"), raw=str(folder), workers=1)


def table(folder: Path, text: str) -> None:
    (folder / "values.csv").write_text(text)


def prepared(config: MoleculesData) -> Store:
    prepare_molecules(config, progress=False)
    return read_molecules_store(config)


def column(store: Store, name: str) -> list[float | None]:
    place = store.settings["columns"].index(name)
    values, known = store.arrays["targets"][:, place].tolist(), store.arrays["known"][:, place].tolist()
    assert all(value == 0.0 for value, is_known in zip(values, known, strict=True) if not is_known)
    return [value if is_known else None for value, is_known in zip(values, known, strict=True)]


def test_rows_are_found_by_the_column_that_holds_the_titles(config: MoleculesData, folder: Path) -> None:
    rows = [f"{10 * row},{name},{row / 4}" for row, name in enumerate(NAMES)]
    table(folder, "\n".join(["weight,name,logS", *rows[::-1], "7,of nobody,3"]))
    store = prepared(config)
    assert store.settings["columns"] == ["weight", "logS"]
    assert column(store, "logS") == [row / 4 for row in range(10)]
    assert store.arrays["mol_id"].tolist() == list(range(1, 11))
    notes = store.provenance["notes"]
    assert "values.csv: rows by column 'name' and the title" in notes
    assert "values.csv: 1 row of the table without a molecule: 'of nobody'" in notes


def test_titles_that_are_numbers_are_found_too(config: MoleculesData, folder: Path) -> None:
    (folder / "any.sdf").write_text(sdf([str(100 + row) for row in range(10)]))
    table(folder, "\n".join(["id,y", *(f"{100 + row},{row}.5" for row in reversed(range(10)))]))
    store = prepared(config)
    assert store.settings["columns"] == ["y"]  # the numbers that name molecules are no property
    assert column(store, "y") == [row + 0.5 for row in range(10)]


@pytest.mark.parametrize(("names", "key"), [(NAMES, "order"), ([""] * 10, None), (["same"] * 10, None)])
def test_rows_are_in_order_where_nothing_names_the_molecules_or_the_key_says_so(
    config: MoleculesData, folder: Path, names: list[str], key: str | None
) -> None:
    (folder / "any.sdf").write_text(sdf(names))
    table(folder, "\n".join(["y", *map(str, range(10))]))
    config.key = key
    store = prepared(config)
    assert column(store, "y") == list(range(10))
    assert store.provenance["notes"][0].startswith("values.csv: rows in the order of any.sdf: ")


def test_empty_cells_are_unknown_and_text_is_ignored_and_told(config: MoleculesData, folder: Path) -> None:
    rows = [f"{name},{row if row != 3 else ''},good,{row if row < 9 else '9 ?'}," for row, name in enumerate(NAMES)]
    table(folder, "\n".join(["name,y,note,z,nothing", *rows]))
    store = prepared(config)
    assert store.settings["columns"] == ["y"]
    assert column(store, "y") == [0, 1, 2, None, 4, 5, 6, 7, 8, 9]
    notes = store.provenance["notes"]
    assert "values.csv: line 2, column 'note', is 'good', expected a number or an empty cell: column ignored" in notes
    assert "values.csv: line 11, column 'z', is '9 ?', expected a number or an empty cell: column ignored" in notes
    assert "column 'nothing' is empty: ignored" in notes
    assert "column 'y' has a value for 9 of 10 molecules" in notes


def test_data_fields_of_the_sdf_are_columns(config: MoleculesData, folder: Path) -> None:
    fields = {"logP": ["1.5", "", *["-2e-1"] * 8], "vendor": ["someone"] * 10, "y": ["7"] * 10}
    (folder / "any.sdf").write_text(sdf(NAMES, fields))
    config.raw = str(folder / "any.sdf")
    store = prepared(config)
    assert store.settings["columns"] == ["logP", "y"]
    assert column(store, "logP") == [1.5, None, *[-0.2] * 8]
    assert "any.sdf: record 1, column 'vendor', is 'someone', " in store.provenance["notes"][0]
    table(folder, Y)
    config.raw = str(folder)
    store = prepared(config)
    assert store.settings["columns"] == ["logP", "y"]
    assert column(store, "y") == list(range(10))
    assert "column 'y' is in both files: taken from values.csv" in store.provenance["notes"]


def test_atoms_and_bonds_are_those_of_the_file(config: MoleculesData, folder: Path) -> None:
    table(folder, Y)
    arrays = prepared(config).arrays
    assert arrays["num_atoms"].tolist() == [len(SHAPES[row % 4].atoms) for row in range(10)]
    np.testing.assert_allclose(arrays["positions"][:5], [atom[1:] for atom in SHAPES[0].atoms], atol=1e-4)
    cyanide = np.repeat(np.arange(10), arrays["num_bonds"]) == 2
    assert arrays["bonds"][cyanide].tolist() == [[0, 1], [0, 2]]
    assert arrays["bond_classes"][cyanide].tolist() == [2, 0]


def test_a_molecule_without_places_in_space_is_refused_and_keeps_its_row(config: MoleculesData, folder: Path) -> None:
    drawing = mol_block("mol b", SHAPES[1]).replace("  by hand", f"{'  Program':20}2D")
    (folder / "any.sdf").write_text(sdf(NAMES).replace(mol_block("mol b", SHAPES[1]), drawing))
    table(folder, Y)
    store = prepared(config)
    assert [(item["mol_id"], item["identifier"]) for item in summary(store)["refused"]] == [(2, "mol b")]
    assert column(store, "y") == [0, 2, 3, 4, 5, 6, 7, 8, 9]


AMMONIUM = Shape(
    (("N", 0, 0, 0), *(("H", 0.59 * a, 0.59 * b, 0.59 * a * b) for a in (1, -1) for b in (1, -1))),
    tuple((1, hydrogen, 1) for hydrogen in (2, 3, 4, 5)),
    "[NH4+]",
)
ON_TOP = Shape((("O", 0, 0, 0), ("H", 0.76, 0.59, 0), ("H", 0.76, 0.59, 0.3)), WATER.bonds, "O")
BARE = Shape((("C", 0, 0, 0), ("O", 0, 0.5, 1.3)), ((1, 2, 1),), "CO")


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (mol_block("mol b", BARE), "4 hydrogen atoms are implied and not listed; add hydrogens"),
        (mol_block("mol b", ON_TOP), "atoms 2 (H) and 3 (H) are 0.30 angstrom apart"),
        (mol_block("mol b", AMMONIUM).replace("M  END", "M  CHG  1   1   1\nM  END"), "total charge +1: predictions"),
        (mol_block("mol b", WATER).replace("  by hand", f"{'':20}2D"), "no 3-D coordinates"),
    ],
)
def test_a_molecule_that_predictions_refuse_is_refused_by_the_same_words(
    config: MoleculesData, folder: Path, block: str, reason: str
) -> None:
    (folder / "any.sdf").write_text(sdf(NAMES).replace(mol_block("mol b", SHAPES[1]), block))
    table(folder, Y)
    store = prepared(config)
    ((number, refusal),) = [(item["mol_id"], item["reason"]) for item in store.provenance["refused"]]
    assert number == 2
    assert refusal.startswith(reason)
    assert column(store, "y") == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    (entry,) = [item for item in read_molecules([folder / "any.sdf"]) if item.index == 2]
    assert entry.problem == refusal or (entry.molecule is not None and entry.molecule.charge == 1)


# --- the store ----------------------------------------------------------------------------------------------------


def test_what_was_prepared_is_what_lies_on_disk(config: MoleculesData, folder: Path) -> None:
    table(folder, Y)
    made, read = prepare_molecules(config, progress=False), read_molecules_store(config)
    assert made.checksum == read.checksum
    assert (made.settings, made.provenance, made.units) == (read.settings, read.provenance, read.units)


def test_the_log_says_once_what_new_data_are_made_of(
    config: MoleculesData, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "any.sdf").write_text(sdf(NAMES).replace(mol_block("mol b", SHAPES[1]), mol_block("mol b", BARE)))
    table(folder, "\n".join(["name,y,note", *(f"{name},1,x" for name in NAMES)]))
    caplog.set_level("INFO", logger="se3t")
    prepare_molecules(config, progress=False)
    for words in ("rows by column 'name'", "column 'note', is 'x'", "refused: 1", "molecule 2 (mol b): 4 hyd"):
        assert caplog.text.count(words) == 1
    assert {record.levelname for record in caplog.records} == {"INFO"}
    caplog.clear()
    prepare_molecules(config, progress=False)
    assert caplog.text == ""


def test_the_name_of_the_store_changes_with_files_and_splits_alone(config: MoleculesData, folder: Path) -> None:
    table(folder, "y\n1")
    path = store_path(config)
    assert path.parent == Path(config.root) / "molecules"
    assert path.stem.startswith("solubility-")
    assert store_path(replace(config, graph="radius", radius=3.0, num_train=5, workers=2)) == path
    others = [replace(config, split_seed=1), replace(config, valid_fraction=0.2), replace(config, test_fraction=0.0)]
    assert len({path, *map(store_path, others)}) == 4
    table(folder, "y\n2")
    assert store_path(config) != path


def test_a_prepared_store_is_not_made_again_and_changed_files_make_another(
    config: MoleculesData, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(folder, Y)
    checksum, path = prepare_molecules(config, progress=False).checksum, store_path(config)
    with monkeypatch.context() as patch:
        patch.setattr(own, "build", None)
        assert prepare_molecules(config, progress=False).checksum == checksum
    table(folder, "\n".join(["name,y", *(f"{name},{row}" for row, name in enumerate(NAMES, start=1))]))
    assert prepare_molecules(config, progress=False).checksum != checksum
    assert store_path(config) != path
    assert column(read_molecules_store(config), "y") == list(range(1, 11))


def test_a_damaged_store_or_one_of_another_version_is_an_error_until_forced(
    config: MoleculesData, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(folder, Y)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "STORE_VERSION", 99)
        prepare_molecules(config, progress=False)
    with pytest.raises(UserError, match=r"version 99.*`se3t data prepare molecules .*data\.raw=.*force=true`"):
        prepare_molecules(config, progress=False)
    prepare_molecules(config, progress=False, force=True)
    path = store_path(config)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"damaged.*force=true`"):
        prepare_molecules(config, progress=False)


def test_the_command_repeats_what_determines_the_store() -> None:
    config = MoleculesData(raw="my folder", split_seed=3, graph="complete")
    assert DATA.prepare_command(config) == "se3t data prepare molecules 'data.raw=my folder' data.split_seed=3"


def test_a_random_split_has_the_fractions_asked_for() -> None:
    split = random_split(np.arange(1000), valid_fraction=0.1, test_fraction=0.25, split_seed=0)
    assert np.bincount(split).tolist() == [650, 100, 250]
    same = random_split(np.arange(1000), valid_fraction=0.1, test_fraction=0.25, split_seed=0)
    np.testing.assert_array_equal(split, same)
    assert (split != random_split(np.arange(1000), valid_fraction=0.1, test_fraction=0.25, split_seed=1)).any()
    assert np.bincount(random_split(np.arange(7), valid_fraction=0.1, test_fraction=0.1, split_seed=0)).tolist() == [
        5,
        1,
        1,
    ]
    assert np.bincount(random_split(np.arange(70), valid_fraction=0.1, test_fraction=0.0, split_seed=0)).tolist() == [
        63,
        7,
    ]


def test_the_summary_is_that_of_the_training_molecules(config: MoleculesData, folder: Path) -> None:
    table(folder, "\n".join(["name,y", *(f"{name},{row**2}" for row, name in enumerate(NAMES))]))
    store = prepared(config)
    facts = summary(store)
    y, split = np.arange(10.0) ** 2, store.arrays["split"]
    assert facts["sizes"] == {"train": 6, "valid": 2, "test": 2}  # of four molecules, one each for valid and test
    assert facts["columns"]["y"]["mean"] == pytest.approx(y[split == 0].mean())
    assert facts["columns"]["y"]["mae_test"] == pytest.approx(np.abs(y[split == 2] - y[split == 0].mean()).mean())
    assert facts["title"] == "solubility"


# --- molecules in several records ---------------------------------------------------------------------------------


def test_all_records_of_a_molecule_are_in_one_split(config: MoleculesData, folder: Path) -> None:
    (folder / "any.sdf").write_text(
        sdf([f"m{row % 8}" for row in range(32)], {"y": [str(row % 4) for row in range(32)]})
    )
    for seed in range(3):
        store = prepared(replace(config, split_seed=seed))
        split = store.arrays["split"].reshape(8, 4)  # a column has a structure, and two names
        assert (split == split[0]).all()
        assert np.bincount(split[0]).tolist() == [2, 1, 1]
        (note,) = store.provenance["notes"]
        assert note.startswith("splits: 32 records of 4 molecules (same name, or same atoms")


@pytest.mark.parametrize(("count", "fraction", "told"), [(2, 0.1, True), (2, 0.0, False), (3, 0.1, False)])
def test_too_few_molecules_to_train_on_are_told(
    config: MoleculesData, folder: Path, count: int, fraction: float, told: bool
) -> None:
    (folder / "any.sdf").write_text(sdf(NAMES[:count], {"y": ["1", "2", "3"]}))
    notes = prepared(replace(config, test_fraction=fraction)).provenance["notes"]
    assert [note for note in notes if "no molecule is left for training" in note] == notes[: int(told)]
    assert not told or "1 for validation and 1 for test; add molecules, or give data.test_fraction=0" in notes[0]


def test_records_of_one_geometry_with_different_values_are_told(config: MoleculesData, folder: Path) -> None:
    values = [str(row % len(SHAPES)) for row in range(10)]
    (folder / "any.sdf").write_text(sdf(NAMES, {"y": values}))
    assert not [note for note in prepared(config).provenance["notes"] if "geometry" in note]
    (folder / "any.sdf").write_text(sdf(NAMES, {"y": [*values[:-1], "99"]}))
    (note,) = [note for note in prepared(config).provenance["notes"] if "geometry" in note]
    assert note.startswith("1 record has the geometry of an earlier one and other values (the first: records ")
    assert note.endswith("and 10, column 'y'): is one of them wrong?")


def test_warnings_of_molecules_are_counted_by_kind(config: MoleculesData, folder: Path) -> None:
    (folder / "any.sdf").unlink()
    table(folder, "smiles,y\nOCC(O)C=O,1\nCC(O)C=O,2\n[2H]OC,3\nO.CCO,4\nCCO,5\n")
    warnings = {"stereo not specified": 2, "isotopes": 1, "separate parts": 1}
    facts = summary(prepared(config))
    assert facts["warnings"] == warnings
    assert "warnings: stereo not specified (2), isotopes (1), separate parts (1)" in list(provenance_lines(facts))


def test_a_column_without_a_name_is_no_property(config: MoleculesData, folder: Path) -> None:
    table(folder, "\n".join([",name,y", *(f"{row},{name},1" for row, name in enumerate(NAMES))]))
    store = prepared(config)
    assert store.settings["columns"] == ["y"]
    assert "values.csv: the column without a name: ignored" in store.provenance["notes"]


def test_different_molecules_of_one_name_are_told(config: MoleculesData, folder: Path) -> None:
    (folder / "any.sdf").write_text(sdf([f"m{row // 2}" for row in range(10)]))
    table(folder, "\n".join(["id,y", *(f"m{row},1" for row in range(5))]))
    notes = prepared(config).provenance["notes"]
    assert any(note.startswith("different molecules (by atoms and bonds) have the same name, 'm0'") for note in notes)


@pytest.mark.parametrize("title", ["RDKit", "conformer {}"])
def test_titles_that_tie_most_molecules_together_name_none(config: MoleculesData, folder: Path, title: str) -> None:
    names = [title.format(row // 4 % 5) for row in range(40)]
    (folder / "any.sdf").write_text(sdf(names, {"y": ["1", "2", "3", "4"] * 10}))
    store = prepared(config)
    assert np.bincount(store.arrays["split"]).tolist() == [20, 10, 10]
    notes = store.provenance["notes"]
    assert notes[0].startswith("splits: 40 records of 4 molecules")
    assert notes[1].startswith("different molecules (by atoms and bonds) have the same name, ")
    assert notes[2:] == ["these names do not count for splits: they would put most records into one group"]


def test_records_with_a_common_name_of_any_kind_are_one_molecule() -> None:
    assert molecule_groups([["a", "b", "a", "c", "c"]]).tolist() == [0, 1, 0, 2, 2]
    assert molecule_groups([["a", "b", "a", "c", "d"], ["x", "", "y", "", "y"]]).tolist() == [0, 1, 0, 2, 0]
    assert molecule_groups([["a", "b"], ["b", "a"]]).tolist() == [0, 1]


def test_the_split_of_molecules_with_one_record_each_is_that_of_their_numbers() -> None:
    options = {"valid_fraction": 0.2, "test_fraction": 0.1, "split_seed": 3}
    groups = molecule_groups([[f"{row}" for row in range(40)], [""] * 40])
    plain = random_split(np.arange(40), **options)
    np.testing.assert_array_equal(random_split(groups, **options), plain)
    assert np.flatnonzero(plain == 2).tolist() == [9, 16, 27, 29]
    conformers = np.repeat(groups, 3)
    np.testing.assert_array_equal(random_split(conformers, **options), np.repeat(plain, 3))


# --- formats ------------------------------------------------------------------------------------------------------

XYZ = "3\n{}\nO 0 0 0\nH 0.76 0.59 0\nH -0.76 0.59 0\n"


@pytest.mark.parametrize("ending", [".sdf.gz", ".xyz", ".smi", ".csv"])
def test_molecules_come_in_every_format_that_predictions_read(config: MoleculesData, folder: Path, ending: str) -> None:
    (folder / "any.sdf").unlink()
    (folder / "README.txt").write_text("what this is\n")
    if ending == ".sdf.gz":
        (folder / "any.sdf.gz").write_bytes(gzip.compress(sdf(NAMES).encode()))
    elif ending == ".xyz":
        (folder / "any.xyz").write_text("".join(map(XYZ.format, NAMES)))
    elif ending == ".smi":
        (folder / "any.smi").write_text("".join(f"{'C' * (row + 1)} {name}\n" for row, name in enumerate(NAMES)))
    rows = [f"{'C' * (row + 1)},{name},{row}" for row, name in enumerate(NAMES)]
    table(folder, "\n".join(["smiles,name,y", *(rows if ending == ".csv" else rows[::-1])]))
    store = prepared(config)
    assert column(store, "y") == list(range(10))
    embedded = any(note.startswith("positions are generated by RDKit") for note in store.provenance["notes"])
    assert embedded == (ending in (".smi", ".csv"))


def test_a_table_of_smiles_follows_the_rules_of_tables(config: MoleculesData, folder: Path) -> None:
    (folder / "any.sdf").unlink()
    table(folder, "# of today\nsmiles;y;z\nC;1.234;1,5\nCC;2;3\n")
    assert "record 1, column 'z', is '1,5', with a decimal comma" in refusal(config)
    table(
        folder, "# of today\nsmiles,y\n" + "\n".join(f"{'C' * row},{cell}" for row, cell in enumerate("1-3>4", start=1))
    )
    table(folder, (folder / "values.csv").read_text().replace(",>", ",>0"))
    store = prepared(config)
    assert column(store, "y") == [1, None, 3, None, 4]
    assert "values.csv: column 'y': 1 cell says that there is no value ('-')" in store.provenance["notes"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_both_files_may_be_in_other_encodings_and_that_is_said(
    config: MoleculesData, folder: Path, encoding: str
) -> None:
    names = [f"säure {row}" for row in range(10)]
    (folder / "any.sdf").write_bytes(sdf(names).encode(encoding))
    table(folder, "\n".join(["name,y", *(f"{name},{row}" for row, name in enumerate(names))]))
    store = prepared(config)
    assert column(store, "y") == list(range(10))
    assert any("read as" in note for note in store.provenance["notes"]) == (encoding != "utf-8-sig")


def test_cells_without_a_value_are_told_by_reason(config: MoleculesData, folder: Path) -> None:
    cells = ["1", "N/A", ">10", "", "<0.5", "#N/A", "None", "3", "4", "5"]
    table(folder, "\n".join(["name,y", *(f"{name},{cell}" for name, cell in zip(NAMES, cells, strict=True))]))
    store = prepared(config)
    assert column(store, "y") == [1, None, None, None, None, None, None, 3, 4, 5]
    where = "values.csv: column 'y': "
    assert f"{where}3 cells say that there is no value ('N/A', '#N/A', 'None')" in store.provenance["notes"]
    bounds = f"{where}2 cells are bounds and no values ('>10' in line 4): left without a value"
    assert bounds in store.provenance["notes"]


def test_a_column_that_is_asked_for_and_holds_text_is_named_with_line_and_cell(
    config: MoleculesData, folder: Path
) -> None:
    table(folder, "\n".join(["name,y,k [/s]", *(f"{name},1,{row}" for row, name in enumerate(NAMES[:9])), "mol j,x,9"]))
    task = PropertyTask(column="k [/s]")
    assert load_property(config, task, progress=False).properties[0].name == "k [/s]"
    with pytest.raises(UserError, match=r"task.column=y: holds more than numbers: .*line 11, column 'y', is 'x', exp"):
        load_property(config, replace(task, column="y"), progress=False)


def test_decimal_commas_and_a_key_without_a_table_are_refused(config: MoleculesData, folder: Path) -> None:
    table(folder, "\n".join(["name;y;z", *(f"{name};1.234;{row},5" for row, name in enumerate(NAMES))]))
    assert "line 2, column 'z', is '0,5', with a decimal comma; expected decimal points" in refusal(config)
    alone = replace(config, raw=str(folder / "any.sdf"), key="name")
    assert "data.key=name: there is no table" in refusal(alone)


# --- what goes wrong ----------------------------------------------------------------------------------------------


def refusal(config: MoleculesData) -> str:
    with pytest.raises(UserError) as caught:
        prepare_molecules(config, progress=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("y\n1\n2", "no column names the molecules of any.sdf, but the title of its molecules looks like a name ('mol"),
        ("\n".join(["name,y", *(f"{name},1" for name in NAMES[:9]), "x,1"]), "in common, but not 'mol j'; expected a"),
        (
            "\n".join([Y, "mol c,7"]),
            "2 rows (line 4, line 12) are 'mol c' in column 'name' and differ in their numbers",
        ),
        ("\n".join(["name,note", *(f"{name},x" for name in NAMES)]), "no column holds numbers, expected one to learn"),
        ("y,z\n1", "line 2 has 1 cells, expected 2"),
        ("", "its first line is empty"),
    ],
)
def test_a_table_that_does_not_fit_is_named(config: MoleculesData, folder: Path, text: str, words: str) -> None:
    table(folder, text)
    message = refusal(config)
    assert str(folder / "values.csv") in message
    assert words in message
    assert not store_path(config).exists()


def test_no_numbers_at_all_are_an_error(config: MoleculesData) -> None:
    assert "no column holds numbers" in refusal(config)


def test_files_that_are_missing_or_too_many_are_named(config: MoleculesData, folder: Path) -> None:
    (folder / "b.csv").touch()
    (folder / "a.csv").touch()
    assert "holds 2 .csv files (a.csv, b.csv); expected a folder with one file of molecules" in refusal(config)
    assert "not found; expected a folder" in refusal(replace(config, raw=str(folder / "nowhere")))
    (folder / "notes.pdf").touch()
    assert "is none; expected a folder" in refusal(replace(config, raw=str(folder / "notes.pdf")))
    (folder / "two.mol").touch()
    assert "holds 2 files of molecules (any.sdf, two.mol)" in refusal(config)
    (folder / "two.mol").unlink()
    assert "add data.raw=…" in refusal(replace(config, raw=None))
    (folder / "any.sdf").unlink()
    (folder / "a.csv").unlink()
    (folder / "b.csv").unlink()
    assert "holds no such file" in refusal(config)


def test_what_is_seen_to_be_wrong_at_once_leaves_no_folder_behind(config: MoleculesData, folder: Path) -> None:
    refusal(replace(config, raw=str(folder / "nowhere")))
    table(folder, "y\n1\n2")
    refusal(config)
    assert not Path(config.root).exists()


def test_data_fields_may_have_any_name(config: MoleculesData, folder: Path) -> None:
    (folder / "any.sdf").write_text(sdf(NAMES, {"a;b, c": ["1.5"] * 10}))
    assert prepared(config).settings["columns"] == ["a;b, c"]


def test_a_truncated_or_empty_sdf_is_named(config: MoleculesData, folder: Path) -> None:
    table(folder, Y)
    (folder / "any.sdf").write_text(sdf(NAMES)[:-20])
    assert "any.sdf: ends within record 10 (mol j)" in refusal(config)
    (folder / "any.sdf").write_text("")
    assert "any.sdf: holds no molecule" in refusal(config)


def test_molecules_none_of_which_can_be_used_are_an_error(config: MoleculesData, folder: Path) -> None:
    (folder / "any.sdf").write_text("x\n\n\nnonsense\nM  END\n$$$$\n")
    table(folder, "y\n1")
    assert "none of its molecules can be used (the first: " in refusal(config)
    assert list(Path(config.root).rglob("*.*")) == []
