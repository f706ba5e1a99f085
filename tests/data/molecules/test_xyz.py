"""XYZ files as they are met: a frame is read as it is meant, or refused alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from se3t.data.molecules.molecule import ELEMENTS, Refusal
from se3t.data.molecules.xyz import QM9_PROPERTIES, XYZRecord, iter_xyz, parse_qm9_xyz
from se3t.errors import UserError

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


def frames(text: str, ending: str = "\n") -> list[XYZRecord | Refusal]:
    return list(iter_xyz(lines(text, ending)))


def record(text: str) -> XYZRecord:
    (found,) = frames(text)
    assert isinstance(found, XYZRecord), found
    return found


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
    first, second, third = frames(WATER + "\n\n1\n\nNa 0 0 1e-3\n" + METHANE, ending)
    assert (first.identifier, first.charge, first.numbers.tolist()) == ("water, charge=-1", -1, [8, 1, 1])
    assert (second.identifier, second.charge, second.numbers.tolist()) == ("", 0, [11])
    assert second.positions.tolist() == [[0, 0, 0.001]]
    assert (first.smiles, first.properties) == ((), ())
    assert (third.identifier, third.smiles, len(third.properties)) == ("gdb_1", ("C", "[CH4]"), 15)


GOOD = "3\nafter\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1\n\nXx 0 0 0\n", "line 3 begins with 'Xx', expected the symbol of an element"),
        ("2\n\nC 0 0 0\nX 0 0 5\n", "line 4 begins with 'X'"),
        ("1\n\n119 0 0 0\n", "line 3 begins with '119'"),
        ("1\n\nO 0 0 x\n", "line 3 holds 'x', expected a number"),
        ("1\n\nO 0 0 1_0\n", "line 3 holds '1_0', expected a number"),
        ("1\n\nO 0 0 nan\n", "line 3 holds 'nan', expected a number"),
        ("1\n\nO 0 0\n", "line 3 is 'O 0 0', expected an element, x, y and z"),
        ("1\ncharge=0.5\nO 0 0 0\n", "charge=0.5, expected a whole number"),
        ("1\n\n\n", "line 3 is empty, expected an element"),
        (
            "2\nZ-matrix\nC 6 0.0 0.0 0.0\nC 6 1.5 0.0 0.0\n",
            "line 3 has a whole number between element and coordinates",
        ),
        # The number of atoms itself is wrong: the next whole frame is found.
        ("4\n\nO 0 0 0\nH 1 0 0\nH 0 1 0\n", "3 atoms follow line 1, expected 4: the next frame begins in line 6"),
        ("2\n\nO 0 0 0\nH 1 0 0\nH 0 1 0\n", "more atoms follow line 1 than the 2 that it announces"),
        ("900\n\nO 0 0 0\nH 1 0 0\nH 0 1 0\n", "3 atoms follow line 1, expected 900: the next frame begins in line 6"),
        ("words\n", "line 1 is 'words', expected the number of atoms"),
        ("0\nempty\n", "line 1 is '0', expected the number of atoms"),
    ],
)
def test_a_bad_frame_is_refused_alone_and_the_frames_behind_it_are_read(text: str, reason: str) -> None:
    wrong, after, last = frames(text + GOOD + WATER)
    assert isinstance(wrong, Refusal)
    assert wrong.reason.startswith(reason)
    for found in (after, last):
        assert isinstance(found, XYZRecord)
        assert found.numbers.tolist() == [8, 1, 1]
    assert after.identifier == "after"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3\ncut\nO 0 0 0\n", "ends after 1 lines of the frame of line 6, expected 3: the file was cut short"),
        ("2\n", "ends after 0 lines of the frame of line 6, expected 2"),
        ("3\n\nO 0 0 0\nH 1 0 0\nH 0 1 0\nH 1 1 1\nwords", "more atoms follow line 6 than the 3"),
    ],
)
def test_what_ends_a_file_badly_is_one_refusal_behind_the_good_frames(text: str, reason: str) -> None:
    good, wrong = frames(GOOD + text)
    assert isinstance(good, XYZRecord)
    assert isinstance(wrong, Refusal)
    assert wrong.reason.startswith(reason)


def test_an_atom_more_than_announced_is_not_dropped() -> None:
    (wrong,) = frames(GOOD + "O 0 0 0\n")
    assert isinstance(wrong, Refusal)
    assert wrong.reason == "more atoms follow line 1 than the 3 that it announces"


# --- elements and numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "number"),
    [("CL", 17), ("cl", 17), ("Cl", 17), ("c", 6), ("C1", 6), ("H12", 1), ("C1A", 6), ("17", 17), ("D", 1), ("T", 1)],
)
def test_an_element_is_a_symbol_in_any_case_a_label_or_a_number(word: str, number: int) -> None:
    found = record(f"1\n\n{word} 0 0 0\n")
    assert found.numbers.tolist() == [number]
    assert found.isotopes == {"D": ("2H",), "T": ("3H",)}.get(word, ())


@pytest.mark.parametrize("word", ["X", "Xx", "Bq", "Q", "DU", "Gh(C)", "C(ghost)", "@C", "O2-", "0", "119", "2H", "Tv"])
def test_what_is_no_element_for_sure_is_refused(word: str) -> None:
    (found,) = frames(f"1\n\n{word} 0 0 0\n")
    assert isinstance(found, Refusal)


def test_exponents_of_fortran_are_numbers() -> None:
    found = record("1\n\nC -8.544054D-01 2.5d+00 1.D0\n")
    assert found.positions.tolist() == [[-0.8544054, 2.5, 1.0]]


# --- extended XYZ -------------------------------------------------------------------------------------------

ATOM = [0.5, -0.25, 1.5]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ("species:S:1:pos:R:3", "C 0.5 -0.25 1.5"),
        ("species:S:1:pos:R:3:forces:R:3", "C 0.5 -0.25 1.5 9 8 7"),
        ("species:S:1:Z:I:1:pos:R:3", "C 6 0.5 -0.25 1.5"),
        ("id:I:1:species:S:1:pos:R:3", "7 C 0.5 -0.25 1.5"),
        ("pos:R:3:species:S:1", "0.5 -0.25 1.5 C"),
        ("Z:I:1:pos:R:3", "6 0.5 -0.25 1.5"),
        ("forces:R:3:Pos:R:3:Species:S:1:tag:L:1", "9 8 7 0.5 -0.25 1.5 C T"),
    ],
)
@pytest.mark.parametrize("comment", ['Properties={} pbc="F F F"', "energy=-1 properties={}", 'Properties="{}"'])
def test_properties_tell_the_columns_wherever_they_stand(columns: str, line: str, comment: str) -> None:
    found = record(f"1\n{comment.format(columns)}\n{line}\n")
    assert (found.numbers.tolist(), found.positions.tolist()) == ([6], [ATOM])


@pytest.mark.parametrize(
    ("columns", "line", "reason"),
    [
        ("species:S:1:pos:R:3", "C 0.5 -0.25 1.5 9", "expected 4 columns as Properties says"),
        ("species:S:1:pos:R:3:forces:R:3", "C 0.5 -0.25 1.5", "expected 7 columns as Properties says"),
        ("species:S:1:Z:I:1:pos:R:3", "C 7 0.5 -0.25 1.5", "calls one atom both C and 7"),
        ("species:S:1:pos:R:2", "C 0.5 -0.25", "three of pos"),
        ("pos:R:3", "0.5 -0.25 1.5", "one column of species (or Z)"),
        ("species:S:1:forces:R:3", "C 0.5 -0.25 1.5", "three of pos"),
        ("species:S:pos:R:3", "C 0.5 -0.25 1.5", "expected triples such as species:S:1:pos:R:3"),
    ],
)
def test_columns_that_are_not_as_properties_say_are_refused(columns: str, line: str, reason: str) -> None:
    wrong, after = frames(f"1\nProperties={columns}\n{line}\n" + GOOD)
    assert isinstance(wrong, Refusal)
    assert reason in wrong.reason
    assert isinstance(after, XYZRecord)


CELL = 'Lattice="4.0 0 0 0 4.0 0 0 0 4.0"'


@pytest.mark.parametrize("comment", [CELL, f'{CELL} pbc="T T T"', f'{CELL} pbc="F F T"', "pbc=true", 'pbc="1 0 0"'])
def test_what_repeats_in_space_is_refused(comment: str) -> None:
    (found,) = frames(f"1\n{comment} Properties=species:S:1:pos:R:3\nC 0 0 0\n")
    assert isinstance(found, Refusal)
    assert found.reason.startswith("a periodic cell")


@pytest.mark.parametrize("comment", [f'{CELL} pbc="F F F"', 'Lattice="0 0 0 0 0 0 0 0 0"', 'pbc="F F F"', "pbc=False"])
def test_a_molecule_in_a_box_is_a_molecule(comment: str) -> None:
    assert record(f"1\n{comment}\nC 0 0 0\n").numbers.tolist() == [6]


@pytest.mark.parametrize(
    ("comment", "identifier", "fields"),
    [
        ('name="the first" energy=-1.5', "the first", {"name": "the first", "energy": "-1.5"}),
        ("Properties=species:S:1:pos:R:3 id=m7 some words", "m7", {"id": "m7"}),
        ('Lattice="9 0 0 0 9 0 0 0 9" pbc="F F F" E=2', 'Lattice="9 0 0 0 9 0 0 0 9" pbc="F F F" E=2', {"E": "2"}),
        ("energy = -1.5", "energy = -1.5", {"energy": "-1.5"}),
        ("frame 3, name=x", "frame 3, name=x", {"name": "x"}),
        ("ethanol", "ethanol", {}),
    ],
)
def test_a_comment_of_pairs_gives_fields_and_the_name(comment: str, identifier: str, fields: dict[str, str]) -> None:
    found = record(f"1\n{comment}\nC 0 0 0\n")
    assert (found.identifier, found.fields) == (identifier, fields)


def test_charge_and_multiplicity_are_read_from_the_comment() -> None:
    found = record('1\ntotal_charge="-1" multiplicity=2\nC 0 0 0\n')
    assert (found.charge, found.multiplicity) == (-1, 2)


def test_elements_are_in_the_order_of_their_atomic_numbers() -> None:
    rdkit = pytest.importorskip("rdkit.Chem")
    table = rdkit.GetPeriodicTable()
    assert [table.GetElementSymbol(number) for number in range(1, 119)] == list(ELEMENTS)
