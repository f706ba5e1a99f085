"""A molecule gets its own row, or there is a sentence; never another row."""

from __future__ import annotations

import numpy as np
import pytest

from se3t.data.molecules.joining import Join, Side, join
from se3t.data.molecules.tables import Table
from se3t.errors import UserError

NAMES = ["mol1", "mol2", "mol3", "mol4"]


def made(**columns: list[str]) -> Table:
    count = len(next(iter(columns.values())))
    return Table("t.csv", columns, [f"line {row + 2}" for row in range(count)])


def titles(*values: str) -> Side:
    return Side("title", values)


def data_field(name: str, values: list[str]) -> Side:
    return Side(f"data field {name!r}", values, name)


def refusal(table: Table, sides: list[Side], key: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        join(table, sides, "m.sdf", key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "names", [["0007", "0010", "0100"], ["1_2", "12", "1__2"], ["2E3", "2000", "2e3"], ["007.0", "7", "7.0"]]
)
def test_identifiers_are_text(names: list[str]) -> None:
    found = join(made(id=names[::-1], y=["1", "2", "3"]), [titles(*names)], "m.sdf")
    assert found.rows.tolist() == [2, 1, 0]
    assert found.notes == ["rows by column 'id' and the title"]
    others = [f"{name}0" for name in names]
    assert "no column names the molecules" in refusal(made(id=others, y=["1", "2", "3"]), [titles(*names)])


def test_numbers_that_name_each_other_by_value_alone_do_not_match() -> None:
    message = refusal(made(id=["1", "2", "3"], y=["1", "2", "3"]), [titles("0001", "0002", "0003")])
    assert "the title of its molecules looks like a name ('0001', '0002', '0003')" in message
    assert "data.key=order if row 1 belongs to molecule 1" in message


def test_case_and_blanks_are_passed_over_where_that_names_all_and_said() -> None:
    found = join(made(id=["MOL4 ", "mol3", " Mol2", "mol1"], y=list("4321")), [titles(*NAMES)], "m.sdf")
    assert found.rows.tolist() == [3, 2, 1, 0]
    assert found.notes == ["rows by column 'id' and the title, in any case and without blanks at the ends"]


def test_names_that_differ_by_case_alone_are_told_apart_or_refused() -> None:
    table = made(id=["CO", "co", "x"], y=["1", "2", "3"])
    assert join(table, [titles("co", "CO", "x")], "m.sdf").rows.tolist() == [1, 0, 2]
    assert "2 rows (line 2, line 3) are 'CO' in column 'id'" in refusal(table, [titles("co", "CO", "X")])
    assert "the title of two molecules is 'co' and 'CO', which t.csv does not" in refusal(
        made(id=["Co", "x"], y=["1", "2"]), [titles("co", "CO", "x")]
    )


def test_a_data_field_names_the_molecules_too() -> None:
    table = made(compound=["b", "a"], y=["1", "2"])
    for title in ("", "RDKit"):
        found = join(table, [titles(title, title), data_field("vendor code", ["a", "b"])], "m.sdf")
        assert (found.rows.tolist(), found.column) == ([1, 0], "compound")
        assert found.side is not None
        assert found.side.column == "vendor code"


def test_numbers_name_molecules_only_where_the_column_is_called_so() -> None:
    numbered = [titles("1", "2", "3")]
    assert join(made(mol_id=["3", "2", "1"], y=["5", "6", "7"]), numbered, "m.sdf").rows.tolist() == [2, 1, 0]
    rank = made(rank=["3", "2", "1"], y=["5", "6", "7"])
    assert "no column names the molecules" in refusal(rank, numbered)
    assert join(rank, numbered, "m.sdf", "rank").rows.tolist() == [2, 1, 0]
    fields = [titles("", "", ""), data_field("rank", ["1", "2", "3"])]
    assert join(made(y=["5", "6", "7"]), fields, "m.sdf").notes[0].startswith("rows in the order")
    assert "column 'id' looks like names" in refusal(made(id=["3", "2", "1"], y=["5", "6", "7"]), fields)
    same = [titles("", "", ""), data_field("ID", ["1", "2", "3"])]
    assert join(made(id=["3", "2", "1"], y=["5", "6", "7"]), same, "m.sdf").rows.tolist() == [2, 1, 0]


def test_two_columns_that_name_the_molecules_must_agree() -> None:
    same = made(id=NAMES[::-1], name=NAMES[::-1], y=list("4321"))
    assert join(same, [titles(*NAMES)], "m.sdf").rows.tolist() == [3, 2, 1, 0]
    other = made(id=NAMES[::-1], name=NAMES, y=list("4321"))
    message = refusal(other, [titles(*NAMES)])
    assert "in two ways, by column 'id' and the title and by column 'name' and the title" in message
    assert "the row of molecule 1 is line 5 or line 2; say which with data.key=id or data.key=name" in message
    assert join(other, [titles(*NAMES)], "m.sdf", "name").rows.tolist() == [0, 1, 2, 3]


def test_two_ways_to_rows_of_the_same_numbers_are_one() -> None:
    table = made(id=["a", "b", "c"], smiles=["CO", "CO", "O"], y=["1", "1", "2"])
    sides = [titles("b", "a", "c"), data_field("smiles", ["CO", "CO", "O"])]
    assert join(table, sides, "m.sdf").rows.tolist() == [1, 0, 2]


def test_numbers_that_may_be_off_by_one_are_told() -> None:
    message = refusal(made(index=["0", "1", "2"], y=["1", "2", "3"]), [titles("1", "2", "3")])
    assert "not '3'" in message
    assert "unless one file counts from 0 and the other from 1, data.key=index leaves" in message


@pytest.mark.parametrize(("ids", "told"), [(["0", "1", "2", "3"], True), (["1", "2", "3", "4"], False)])
def test_counting_from_0_in_one_file_and_from_1_in_the_other_is_noted(ids: list[str], told: bool) -> None:
    notes = join(made(id=ids, y=list("5678")), [titles("1", "2", "3")], "m.sdf").notes
    words = "column 'id' begins at 0, the title at 1: do they number the same list?"
    assert [note.startswith(words) for note in notes[1:2]] == [told]


def test_a_column_prefers_the_data_field_of_its_name_where_the_key_says_so() -> None:
    sides = [titles(*NAMES), data_field("id", NAMES[::-1])]
    table = made(id=NAMES, y=list("1234"))
    assert "in two ways" in refusal(table, sides)
    assert join(table, sides, "m.sdf", "id").rows.tolist() == [3, 2, 1, 0]


def test_molecules_without_a_row_are_refused_or_with_a_key_left_without_value() -> None:
    table = made(id=["mol3", "mol1", "mol9", ""], y=list("3190"))
    message = refusal(table, [titles(*NAMES)])
    assert "have 2 of the 4 molecules of m.sdf in common, but not 'mol2', 'mol4'" in message
    assert message.endswith("; data.key=id leaves the others without a value")
    found = join(table, [titles(*NAMES)], "m.sdf", "id")
    assert found.rows.tolist() == [1, -1, 0, -1]
    assert found.notes[1:] == [
        "2 of 4 molecules have no row, so no value: 'mol2', 'mol4'",
        "2 rows of the table without a molecule: 'mol9'",
    ]


def test_a_record_that_cannot_be_read_needs_no_row_and_keeps_its_place() -> None:
    sides = [titles("b", "", "a"), data_field("code", ["x", "", "y"])]
    assert join(made(id=["a", "b"], y=["1", "2"]), sides, "m.sdf", None, {1}).rows.tolist() == [1, -1, 0]
    assert "but not 'molecule 2'" in refusal(made(id=["a", "b"], y=["1", "2"]), sides)
    assert join(made(y=["1", "2", "3"]), [titles("", "", "")], "m.sdf", None, {1}).rows.tolist() == [0, 1, 2]


def test_one_row_serves_all_conformers_and_repeated_rows_must_agree() -> None:
    sides = [titles("a", "a", "b", "a")]
    assert join(made(id=["b", "a"], y=["1", "2"]), sides, "m.sdf").rows.tolist() == [1, 1, 0, 1]
    again = made(id=["a", "b", "a", "a"], y=["2.0", "1", "2", "2"], note=list("wxyz"))
    found = join(again, sides, "m.sdf")
    assert found.rows.tolist() == [0, 0, 1, 0]
    assert found.notes[1] == "2 more rows of the same name with the same numbers"
    differ = made(id=["a", "a", "b", "a"], y=["2", "3", "1", "4"])
    message = refusal(differ, sides)
    assert "3 rows (line 2, line 3, line 5) are 'a' in column 'id' and differ in their numbers" in message
    assert "data.key=order" in message
    assert join(differ, sides, "m.sdf", "order").rows.tolist() == [0, 1, 2, 3]
    assert "not in the order of m.sdf" in refusal(made(id=list("aaab"), y=list("2341")), sides, "order")


def test_rows_are_in_order_only_where_nothing_looks_like_a_name_or_the_key_says_so() -> None:
    plain = made(y=["1", "2"])
    for quiet in (titles("", ""), titles("RDKit", "RDKit")):
        found = join(plain, [quiet, data_field("logP", ["1", "2"])], "m.sdf")
        assert (found.rows.tolist(), found.column) == ([0, 1], None)
        assert found.notes == ["rows in the order of m.sdf: nothing in either file names the molecules"]
    assert "data.key=order" in refusal(plain, [titles("a", "b")])
    assert "data.key=order" in refusal(plain, [titles("", ""), data_field("code", ["a", "b"])])
    assert "column 'what' looks like names" in refusal(made(what=["a", "b"], y=["1", "2"]), [titles("", "")])
    found = join(plain, [titles("a", "b")], "m.sdf", "order")
    assert found.notes == ["rows in the order of m.sdf: as data.key=order says"]
    assert "has 2 rows, m.sdf 3 molecules" in refusal(plain, [titles("", "", "")])


@pytest.mark.parametrize("column", ["serial", ""])
def test_an_order_that_an_index_contradicts_is_refused(column: str) -> None:
    nobody = [titles("", "", "", "")]
    for values in ("1234", "0123"):
        assert join(made(**{column: list(values), "y": list("5985")}), nobody, "m.sdf").rows.tolist() == [0, 1, 2, 3]
    shuffled = made(**{column: list("2031"), "y": list("5985")})
    assert "numbers the rows in another order ('2', '0', '3', …)" in refusal(shuffled, nobody)
    assert join(shuffled, nobody, "m.sdf", "order").rows.tolist() == [0, 1, 2, 3]


def test_an_order_that_the_names_contradict_is_refused() -> None:
    table = made(id=["mol2", "mol1", "mol3", "mol4"], y=list("2134"))
    message = refusal(table, [titles(*NAMES)], "order")
    assert "molecule 1 is 'mol1', which is in line 3; leave data.key=order out" in message


def test_blank_rows_at_the_end_are_values_only_if_that_makes_the_count() -> None:
    table = Table("t.csv", {"y": ["1", "2"]}, ["line 2", "line 3"], num_blank=2)
    found = join(table, [titles("", "")], "m.sdf")
    assert found.notes[1] == "2 blank rows at the end: ignored"
    assert join(table, [titles("", "", "", "")], "m.sdf").rows.tolist() == [0, 1, -1, -1]
    assert "2 rows (and 2 blank ones at the end)" in refusal(table, [titles("", "", "")])


def test_a_key_that_is_no_column_or_names_nothing_is_refused() -> None:
    table = made(id=["x", "y"], y=["1", "2"])
    assert "data.key=idd: t.csv has no such column; did you mean 'id'?" in refusal(table, [titles("a", "b")], "idd")
    assert "('x', 'y') names no molecule of m.sdf (title 'a', 'b')" in refusal(table, [titles("a", "b")], "id")


# --- at random ----------------------------------------------------------------------------------------------------


def spoilt(name: str, generator: np.random.Generator) -> str:
    """As spreadsheets and people leave a name."""
    ways = [name, name.upper(), name.lower(), f" {name}", f"{name} ", name.lstrip("0"), f"0{name}", name.title()]
    return ways[generator.integers(len(ways))]


@pytest.mark.parametrize("seed", range(150))
def test_a_row_is_the_right_one_whatever_was_done_to_the_table(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 9))
    style = ["{:04d}", "mol{:03d}", "{}", "{}E3", "Cpd-{}", "a{}"][generator.integers(6)]
    names = [style.format(number) for number in generator.choice(20, count, replace=False)]
    labels = {name: str(number) for number, name in enumerate(names)}
    if generator.random() < 0.3:  # conformers
        names = [str(name) for name in generator.choice(names, count + 2)]
    cells = [*names, *generator.choice(names, generator.integers(3)), "stranger"]
    cells = [str(cell) for cell in generator.permutation(cells)][: len(cells) - generator.integers(2)]
    written = [spoilt(cell, generator) if seed % 2 else cell for cell in cells]
    values = [labels.get(cell, "99") for cell in cells]
    extra = {"rank": [str(row) for row in generator.permutation(len(cells))]} if generator.random() < 0.2 else {}
    table = made(**{"id": written, "y": values, **extra})
    key = [None, "id"][generator.integers(2)]
    found = joined(table, [titles(*names), data_field("note", ["x"] * len(names))], key)
    for name, row in zip(names, [] if found is None else found.rows, strict=found is not None):
        assert row < 0 or values[row] == labels[name], (names, written, key)


def joined(table: Table, sides: list[Side], key: str | None) -> Join | None:
    try:
        return join(table, sides, "m.sdf", key)
    except UserError:
        return None
