"""Files with molecules, as people have them: every record becomes an entry, with what speaks against it."""

from __future__ import annotations

import gzip
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from se3t.data.molecules import inputs
from se3t.data.molecules.decoding import open_text
from se3t.data.molecules.embedding import molecule_from_smiles
from se3t.data.molecules.inputs import Entry, count_records, read_molecules, read_records, require_readable
from se3t.data.molecules.molecule import Molecule
from se3t.errors import UserError

_SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O"}


def molecule(smiles: str) -> Molecule:
    found = molecule_from_smiles(smiles, smiles)
    assert isinstance(found, Molecule)
    return found


def atoms(found: Molecule, positions: np.ndarray | None = None) -> list[tuple[str, float, float, float]]:
    places = found.positions if positions is None else positions
    return [(_SYMBOLS[int(number)], *place) for number, place in zip(found.numbers, places.tolist(), strict=True)]


def block(found: Molecule, dimension: str = "3D", positions: np.ndarray | None = None, extra: str = "") -> str:
    lines = [found.identifier, f"  tests   0000000000{dimension}", ""]
    lines.append(f"{len(found):3d}{len(found.bonds):3d}  0  0  0  0  0  0  0  0999 V2000")
    for symbol, x, y, z in atoms(found, positions):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0  0  0  0  0  0  0  0  0  0  0")
    for (first, second), kind in zip(found.bonds.tolist(), found.bond_classes.tolist(), strict=True):
        lines.append(f"{first + 1:3d}{second + 1:3d}{kind + 1:3d}  0")
    return "\n".join([*lines, *([extra] if extra else []), "M  END", "$$$$"]) + "\n"


def frame(found: Molecule, comment: str = "") -> str:
    lines = [f"{symbol} {x:.6f} {y:.6f} {z:.6f}" for symbol, x, y, z in atoms(found)]
    return "\n".join([str(len(found)), comment, *lines]) + "\n"


def read(folder: Path, name: str, text: str) -> list[Entry]:
    path = folder / name
    path.write_text(text)
    require_readable([path])
    found = list(read_molecules([path]))
    assert count_records([path]) == len(found)
    return found


def heavy(found: Molecule) -> Molecule:
    """Without its hydrogen atoms, which follow the others."""
    count = int((found.numbers > 1).sum())
    kept = (found.bonds < count).all(axis=1)
    return replace(
        found, numbers=found.numbers[:count], positions=found.positions[:count],
        bonds=found.bonds[kept], bond_classes=found.bond_classes[kept],
    )  # fmt: skip


def test_three_formats_give_the_same_molecule(tmp_path: Path) -> None:
    ethanal = molecule("CC=O")
    (of_sdf,) = read(tmp_path, "a.sdf", block(ethanal))
    (of_xyz,) = read(tmp_path, "a.xyz", frame(ethanal, "CC=O"))
    (of_smiles,) = read(tmp_path, "a.smi", "CC=O\n")
    for entry in (of_sdf, of_xyz, of_smiles):
        assert entry.molecule is not None
        assert (entry.index, entry.identifier, entry.problem, entry.notes) == (1, "CC=O", "", ())
        np.testing.assert_array_equal(entry.molecule.bonds, ethanal.bonds)
        np.testing.assert_array_equal(entry.molecule.bond_classes, ethanal.bond_classes)
        np.testing.assert_allclose(entry.molecule.positions, ethanal.positions, atol=1e-4)
    assert [entry.embedded for entry in (of_sdf, of_xyz, of_smiles)] == [False, False, True]


def test_lines_of_smiles_have_names_and_comments(tmp_path: Path) -> None:
    found = read(tmp_path, "many.txt", "\ufeff# a comment\nC methane\n\nCC\tthe second one \nCCC\n")
    assert [(entry.index, entry.identifier) for entry in found] == [(1, "methane"), (2, "the second one"), (3, "CCC")]
    assert [len(entry.molecule or ()) for entry in found] == [5, 8, 11]


@pytest.mark.parametrize("name", ["a.sdf", "a.xyz", "a.smi"])
def test_compressed_files_are_read(tmp_path: Path, name: str) -> None:
    water = molecule("O")
    text = {"a.sdf": block(water), "a.xyz": frame(water, "O"), "a.smi": "O\n"}[name]
    path = tmp_path / f"{name}.gz"
    with gzip.open(path, "wt") as stream:
        stream.write(text)
    (entry,) = read_molecules([path])
    assert len(entry.molecule or ()) == 3
    path.write_bytes(path.read_bytes()[:-12])
    assert "cannot be read, nor what follows it" in list(read_molecules([path]))[-1].problem


def test_many_records_of_several_files_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "CHUNK_SIZES", {"sdf": 2, "xyz": 2, "smiles": 2})
    monkeypatch.setattr(inputs, "available_cores", lambda: 1)
    smiles = ["C", "CC", "O", "bad", "N"]
    (tmp_path / "a.smi").write_text("\n".join(smiles))
    (tmp_path / "b.xyz").write_text("".join(frame(molecule(word), word) for word in ("C", "CC", "O")))
    found = list(read_molecules([tmp_path / "b.xyz", tmp_path / "a.smi"]))
    assert [entry.identifier for entry in found] == ["C", "CC", "O", *smiles]
    assert [entry.index for entry in found] == [1, 2, 3, 1, 2, 3, 4, 5]
    assert found[6].problem.startswith("RDKit does not accept this SMILES")


FLAT = molecule("C").positions * [1.0, 1.0, 0.0]
HYDROGENS_AT_ZERO = np.where(molecule("CC").numbers[:, None] == 1, 0.0, molecule("CC").positions)
DRAWING = [[0.0, 0.0, 0.0], [1.3, 0.75, 0.0], [2.6, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (block(molecule("C"), "2D", FLAT), "no 3-D coordinates"),
        (block(molecule("C"), positions=0 * FLAT), "no 3-D coordinates"),
        (
            block(molecule("CC"), positions=HYDROGENS_AT_ZERO),
            "atoms 3 (H) and 8 (H) are 0.00 angstrom apart, expected about 0.62",
        ),
        (block(heavy(molecule("CCO"))), "6 hydrogen atoms are implied and not listed; add hydrogens with their coord"),
        (block(molecule("CO")).replace(" C  ", " *  "), "is no element"),
        ("empty\n\n\nnonsense\nM  END\n$$$$\n", "RDKit cannot read its mol block"),
    ],
)
def test_a_record_of_no_use_says_why_and_the_others_are_read(tmp_path: Path, text: str, problem: str) -> None:
    first, wrong, last = read(tmp_path, "a.sdf", block(molecule("O")) + text + block(molecule("N")))
    assert problem in wrong.problem
    assert wrong.molecule is None
    assert (len(first.molecule or ()), len(last.molecule or ())) == (3, 4)


def test_a_planar_molecule_is_no_drawing(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, "a.sdf", block(molecule("O"), "  "))
    assert np.ptp(molecule("O").positions[:, 2]) < 1e-3
    assert entry.molecule is not None


@pytest.mark.parametrize(("smiles", "charge"), [("[NH4+]", 1), ("[OH-]", -1)])
def test_ions_are_refused_in_every_format(tmp_path: Path, smiles: str, charge: int) -> None:
    ion = molecule(smiles)
    atom = 1 + int(np.argmax(ion.numbers > 1))
    texts = {
        "a.sdf": block(ion, extra=f"M  CHG  1 {atom:3d} {charge:3d}"),
        "a.xyz": frame(ion, f"charge={charge}"),
        "a.smi": smiles,
        "a.csv": f"name,SMILES\nion,{smiles}\n",
    }
    for name, text in texts.items():
        (entry,) = read(tmp_path, name, text)
        assert entry.problem == f"total charge {charge:+d}: predictions are for neutral molecules"


SMILES_FILES = {
    "comma.smi": "CCO,ethanol\nCCN,ethylamine\n",
    "semicolon.smi": "CCO;ethanol\nCCN;ethylamine\n",
    "header.smi": "SMILES Name\nCCO ethanol\nCCN ethylamine\n",
    "tabs.smi": "SMILES\tName\nCCO\tethanol\tx\nCCN\tethylamine\n",
    "plain.txt": "# by hand\nCCO\tethanol\tx\n\nCCN\tethylamine\n",
    "quoted.smi": 'CCO,"ethanol"\nCCN,"ethylamine"\n',
    "extension.smi": "CCO |$;;OH$| ethanol\nCCN ethylamine\n",
    "table.csv": "id,name,SMILES,gap\n1,ethanol,CCO,0.5\n2,ethylamine,CCN,0.7\n",
    "other.csv": 'title;canonical_smiles\nethanol;CCO\nethylamine;"CCN"\n',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", SMILES_FILES)
def test_files_of_smiles_are_read_as_they_are_met(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(SMILES_FILES[name].replace("\n", "\r\n").encode(encoding))
    found = list(read_molecules([tmp_path / name]))
    assert [(entry.identifier, entry.problem) for entry in found] == [("ethanol", ""), ("ethylamine", "")]
    assert [entry.molecule.numbers[:3].tolist() for entry in found if entry.molecule] == [[6, 6, 8], [6, 6, 7]]


def test_records_carry_the_fields_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "a.sdf").write_text(block(molecule("C")).replace("$$$$", ">  <gap>\n0.5\n\n$$$$"))
    (tmp_path / "a.csv").write_text(SMILES_FILES["table.csv"])
    assert [record.fields for record in read_records(tmp_path / "a.sdf")] == [{"gap": "0.5"}]
    (first, _) = read_records(tmp_path / "a.csv")
    assert (first.identifier, first.kind, first.content) == ("ethanol", "smiles", "CCO")
    assert first.fields == {"id": "1", "name": "ethanol", "gap": "0.5"}
    assert pickle.loads(pickle.dumps(first)) == first


def test_a_row_of_another_length_is_one_refused_row(tmp_path: Path) -> None:
    first, wrong, last = read(tmp_path, "a.csv", "name,smiles\nmethane,C\n2,3-butane,CCCC\nethane,CC\n")
    assert wrong.problem == "line 3 has 3 cells, expected 2 as in its first line"
    assert [len(entry.molecule or ()) for entry in (first, last)] == [5, 8]


def test_a_table_without_a_column_of_smiles_is_refused(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, "a.csv", "name,gap\nmethane,1\n")
    assert "has no column of SMILES (name, gap), expected one called smiles" in entry.problem


def test_text_without_a_byte_order_mark_is_utf8_or_latin1(tmp_path: Path) -> None:
    for encoding, note in (("utf-8", ""), ("latin-1", "not UTF-8: read as Latin-1")):
        (tmp_path / "a.smi").write_bytes("C Säure\n".encode(encoding))
        with open_text(tmp_path / "a.smi") as text:
            assert (list(text.lines), text.note) == (["C Säure\n"], note)
    (tmp_path / "a.smi").write_bytes("C methane\n".encode("utf-16-le"))
    (entry,) = read_molecules([tmp_path / "a.smi"])
    assert "holds NUL bytes; expected text in UTF-8, or in UTF-16 with a byte order mark" in entry.problem


def test_a_frame_without_its_hydrogens_is_asked_about_them(tmp_path: Path) -> None:
    ethanol, ring = read(tmp_path, "a.xyz", frame(heavy(molecule("CCO"))) + frame(heavy(molecule("c1ccccc1"))))
    assert ethanol.problem.endswith("are all hydrogen atoms in the file?")
    assert ring.notes == ("no hydrogen atom: are they missing?",)


def test_all_atoms_of_a_frame_at_one_place_are_no_geometry(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, "a.xyz", "2\n\nH 0 0 0\nH 0 0 0\n")
    assert entry.molecule is None
    assert entry.problem != ""


def test_separate_parts_are_noted(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, "a.smi", "C.O")
    assert entry.notes == ("separate parts: 2, as if they were one molecule",)


def test_valences_that_rdkit_refuses_are_noted(tmp_path: Path) -> None:
    methane = molecule("C")
    doubled = replace(methane, bond_classes=np.array([1, 0, 0, 0], dtype=np.uint8))
    (entry,) = read(tmp_path, "a.sdf", block(doubled))
    assert entry.notes == ("valences that RDKit refuses: bonds as in the file, none aromatic",)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.sdf", block(molecule("O")) + block(molecule("N"))[:120], "ends within record 2"),
    ],
)
def test_a_damaged_file_gives_what_came_before(tmp_path: Path, name: str, text: str, problem: str) -> None:
    good, damaged = read(tmp_path, name, text)
    assert good.molecule is not None
    assert damaged.problem.startswith("cannot be read, nor what follows it: ")
    assert problem in damaged.problem
    assert str(tmp_path) not in damaged.problem


@pytest.mark.parametrize("name", ["a.sdf", "a.xyz", "a.smi"])
def test_an_empty_file_is_told(tmp_path: Path, name: str) -> None:
    (entry,) = read(tmp_path, name, "\n")
    assert (entry.index, entry.problem) == (0, "the file holds no molecule")


def test_names_in_another_encoding_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_bytes("C Säure\n".encode("latin-1"))
    (entry,) = read_molecules([tmp_path / "a.smi"])
    assert entry.molecule is not None
    assert (entry.identifier, entry.notes) == ("Säure", ("its file is not UTF-8: read as Latin-1",))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.sdf", "missing.sdf: cannot be read \\(No such file"),
        (
            "a.pdb",
            "a.pdb: of no known format; expected a file that ends with .sdf, .mol, .xyz, .smi, .txt, .csv, or .gz",
        ),
        ("folder.sdf", "folder.sdf: cannot be read \\(Is a directory"),
        ("none", "none: of no known format"),
    ],
)
def test_files_that_cannot_be_read_are_named_first(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.pdb").touch()
    (tmp_path / "folder.sdf").mkdir()
    with pytest.raises(UserError, match=message):
        require_readable([tmp_path / name])


def test_a_gzip_file_that_unpacks_to_absurdly_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.xyz.gz"
    path.write_bytes(gzip.compress(b"9" * (1 << 21)))
    monkeypatch.setattr("se3t.data.molecules.decoding._SMALL", 1 << 20)
    (entry,) = read_molecules([path])
    assert entry.molecule is None
    assert "unpacks to more than 250 times its size; expected text of molecules" in entry.problem
