"""Files as they are written by others: whole records come back whole, and what is cut is refused by name."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from se3t.data.molecules.readers import (
    ELEMENTS,
    QM9_PROPERTIES,
    iter_sdf,
    iter_xyz,
    parse_qm9_xyz,
)
from se3t.errors import UserError

BLOCK = """gdb_1
  by hand

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 H   0  0
    0.7400    0.0000    0.0000 H   0  0
  1  2  1  0
M  END
"""
FIELDS = """>  <energy>  (1)
-1.17

> 7 <two lines>
first
second

"""
HYDROGEN = BLOCK + FIELDS + "$$$$\n"

METHANE = (
    "5\n"
    "gdb 1\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\t35.3641\t0.044749\t-40.47893\t-40.476\t"
    "-40.475\t-40.498\t6.469\t\n"
    "C\t 0.\t 0.\t 0.\t-0.5\n"
    "H\t 0.63\t 0.63\t 0.63\t 0.1\n"
    "H\t-0.63\t-0.63\t 0.63\t 0.1\n"
    "H\t-0.63\t 0.63\t-6.3*^-1\t 0.1\n"
    "H\t 0.63\t-0.63\t-0.63\t 1.*^-6\n"
    "1341.3\t3151.7\n"
    "[CH4]\tC\n"
    "InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4\n"
)


def lines(text: str, ending: str = "\n") -> Iterator[str]:
    return iter([line + ending for line in text.splitlines()])


# --- SDF ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_an_sdf_record_is_its_title_its_block_and_its_fields(ending: str) -> None:
    (record,) = iter_sdf(lines(HYDROGEN, ending), "h2.sdf")
    assert record.identifier == "gdb_1"
    assert record.block == BLOCK
    assert record.fields == {"energy": "-1.17", "two lines": "first\nsecond"}


def test_records_come_in_order_and_one_at_a_time() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield from lines(HYDROGEN)

    records = iter_sdf(endless(), "h2.sdf")
    assert [next(records).identifier for _ in range(3)] == ["gdb_1"] * 3


def test_an_sdf_may_end_with_blank_lines_and_an_empty_one_has_no_records() -> None:
    assert len(list(iter_sdf(lines(HYDROGEN * 2 + "\n \n"), "h2.sdf"))) == 2
    assert list(iter_sdf(lines(""), "h2.sdf")) == []


def test_a_mol_file_is_an_sdf_of_one_record() -> None:
    (record,) = iter_sdf(lines(BLOCK + "\n"), "h2.mol")
    assert (record.block, record.fields) == (BLOCK, {})


@pytest.mark.parametrize("kept", range(1, len((BLOCK + FIELDS).splitlines()) + 1))
def test_an_sdf_that_ends_within_a_record_is_refused_wherever_it_was_cut(kept: int) -> None:
    cut = "\n".join(HYDROGEN.splitlines()[:kept])
    records = iter_sdf(lines(HYDROGEN + cut), "h2.sdf")
    next(records)
    with pytest.raises(UserError, match=r"^h2\.sdf: ends within record 2 \(gdb_1\), expected .* cut short"):
        next(records)


def test_a_mol_file_whose_block_is_cut_is_refused() -> None:
    with pytest.raises(UserError, match=r"h2\.mol: ends within record 1 \(gdb_1\), .*'M  END'"):
        list(iter_sdf(lines("\n".join(BLOCK.splitlines()[:-1])), "h2.mol"))


def test_a_record_without_the_end_of_its_block_is_passed_on_to_who_parses_it() -> None:
    broken = "\n".join(BLOCK.splitlines()[:6]) + "\n$$$$\n"
    first, second = iter_sdf(lines(broken + HYDROGEN), "h2.sdf")
    assert "M  END" not in first.block
    assert second.block == BLOCK


# --- XYZ ----------------------------------------------------------------------------------------------------


def test_a_raw_qm9_file_is_read_as_its_documentation_says() -> None:
    record = parse_qm9_xyz(METHANE, "dsgdb9nsd_000001.xyz")
    assert record.identifier == "gdb_1"
    assert record.numbers.tolist() == [6, 1, 1, 1, 1]
    assert record.positions[1].tolist() == [0.63, 0.63, 0.63]
    assert record.positions[3].tolist() == [-0.63, 0.63, -0.63]  # written with *^
    assert record.charge == 0
    values = dict(zip(QM9_PROPERTIES, record.properties, strict=True))
    assert (values["A"], values["mu"], values["alpha"], values["homo"]) == (157.7118, 0.0, 13.21, -0.3877)
    assert (values["lumo"], values["gap"], values["r2"]) == (0.1171, 0.5048, 35.3641)
    assert (values["zpve"], values["u0"], values["cv"]) == (0.044749, -40.47893, 6.469)


def test_smiles_of_the_relaxed_geometry_come_first_and_equal_ones_once() -> None:
    assert parse_qm9_xyz(METHANE, "x").smiles == ("C", "[CH4]")
    assert parse_qm9_xyz(METHANE.replace("[CH4]", "C"), "x").smiles == ("C",)


@pytest.mark.parametrize("kept", range(9))
def test_a_raw_qm9_file_that_was_cut_is_refused(kept: int) -> None:
    cut = "".join(METHANE.splitlines(keepends=True)[:kept])
    with pytest.raises(UserError, match=r"^gdb\.xyz: "):
        parse_qm9_xyz(cut.removesuffix("[CH4]\tC\n"), "gdb.xyz")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("5\n", "five\n", r"line 1 is 'five', expected the number of atoms"),
        ("gdb 1", "gdb one", r"line 2 is 'gdb one.*expected 'gdb', a number and 15 values"),
        ("\t35.3641", "", r"line 2 .*15 values"),
        ("35.3641", "nan", r"line 2 holds 'nan', expected a number"),
        ("-6.3*^-1", "-6.3*-1", r"line 6 holds '-6.3\*-1', expected a number"),
        ("H\t 0.63\t 0.63", "Hx\t 0.63\t 0.63", r"line 4 begins with 'Hx', expected the symbol of an element"),
        ("C\t 0.\t 0.\t 0.\t-0.5", "C\t 0.", r"line 3 is .*expected an element, x, y and z"),
    ],
)
def test_a_damaged_qm9_file_is_refused_by_line(old: str, new: str, message: str) -> None:
    assert METHANE.count(old) >= 1
    with pytest.raises(UserError, match=r"^gdb\.xyz: " + message):
        parse_qm9_xyz(METHANE.replace(old, new, 1), "gdb.xyz")


WATER = "3\nwater, charge=-1 \nO 0 0 0 extra\nh 0.96 0 0\n1 -0.24 0.93 0\n"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_frames_of_an_xyz_file_come_in_order_with_blank_lines_between_them(ending: str) -> None:
    first, second, third = iter_xyz(lines(WATER + "\n\n1\n\nNa 0 0 1e-3\n" + METHANE, ending), "all.xyz")
    assert (first.identifier, first.charge, first.numbers.tolist()) == ("water, charge=-1", -1, [8, 1, 1])
    assert (second.identifier, second.charge, second.numbers.tolist()) == ("", 0, [11])
    assert second.positions.tolist() == [[0, 0, 0.001]]
    assert (first.smiles, first.properties) == ((), ())
    assert (third.identifier, third.smiles, len(third.properties)) == ("gdb_1", ("C", "[CH4]"), 15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WATER + "3\ncut\nO 0 0 0\n", r"ends after 1 atoms of the frame of line 6, expected 3"),
        (WATER + "2\n", r"ends after 0 atoms of the frame of line 6, expected 2"),
        (WATER + "O 0 0 0\n", r"line 6 is 'O 0 0 0', expected the number of atoms"),
        (WATER + "\n1\n\nO 0 0 x\n", r"line 9 holds 'x', expected a number"),
        ("0\nempty\n", r"line 1 is '0', expected the number of atoms"),
        ("1\n\n119 0 0 0\n", r"line 3 begins with '119'"),
    ],
)
def test_a_damaged_xyz_file_is_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^all\.xyz: " + message):
        list(iter_xyz(lines(text), "all.xyz"))


def test_elements_are_in_the_order_of_their_atomic_numbers() -> None:
    rdkit = pytest.importorskip("rdkit.Chem")
    table = rdkit.GetPeriodicTable()
    assert [table.GetElementSymbol(number) for number in range(1, 119)] == list(ELEMENTS)


def test_real_records_are_counted_and_in_order(shared_dir: Path) -> None:
    import zipfile

    with zipfile.ZipFile(shared_dir / "data" / "qm9_subset" / "qm9.zip") as archive, archive.open("gdb9.sdf") as raw:
        stream = io.TextIOWrapper(raw, encoding="utf-8")
        numbers = [
            int(record.identifier.removeprefix("gdb_"))
            for record, _ in zip(iter_sdf(stream, ""), range(2000), strict=False)
        ]
    assert numbers[0] == 1
    assert all(first < second for first, second in pairwise(numbers))
