"""Tables as they are written by others: every cell comes back as it stands, every number as it is written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from se3t.data.molecules.readers import iter_table
from se3t.data.molecules.tables import Numbers, Table, read_table
from se3t.errors import UserError


def read(text: str, **options: Any) -> Table:
    return read_table(io.StringIO(text), name="t.csv", **options)


def numbers(text: str) -> Numbers | str:
    return read(text).numbers("x")


def test_every_cell_is_kept_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b'\xef\xbb\xbfid, gap ,note\r\n"a, b",0.1,x\r\n\r\n0007,,1_2\r\n 2E3 ,1,007.0\r\n')
    table = read_table(path)
    assert table.cells == {"id": ["a, b", "0007", " 2E3 "], "gap": ["0.1", "", "1"], "note": ["x", "1_2", "007.0"]}
    assert table.places == ["line 2", "line 4", "line 5"]
    gap = table.numbers("gap")
    assert isinstance(gap, Numbers)
    np.testing.assert_array_equal(gap.values, [0.1, np.nan, 1])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_cells_may_be_separated_by_commas_semicolons_or_tabs(separator: str) -> None:
    rows = [['"a,b;c\t,,;;"', "gap"], ['"x,y;z"', "0.5"]]
    table = read("\n".join(separator.join(row) for row in rows))
    assert table.cells == {"a,b;c\t,,;;": ["x,y;z"], "gap": ["0.5"]}


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "read as UTF-16, as its byte order mark says"),
        ("latin-1", "not UTF-8: read as Latin-1"),
    ],
)
def test_a_table_may_be_in_other_encodings_and_says_so(tmp_path: Path, encoding: str, note: str | None) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("id,x\r\nsäure,1\r\n".encode(encoding))
    table = read_table(path)
    assert table.cells == {"id": ["säure"], "x": ["1"]}
    assert table.notes == ([note] if note else [])


@pytest.mark.parametrize("line", ["sep=;", '"SEP=;"'])
def test_the_line_in_which_excel_names_the_separator_is_no_header(line: str) -> None:
    table = read(f"{line}\nid;a,b,c,d\nm1;2\n")
    assert (table.cells, table.places, table.notes) == ({"id": ["m1"], "a,b,c,d": ["2"]}, ["line 3"], [])
    (record,) = iter_table(iter(["sep=;\n", "name;smiles\n", "x;CCO\n"]), "t.csv")
    assert (record.identifier, record.content) == ("x", "CCO")


def test_comments_before_the_header_are_passed_over_and_a_header_among_them_is_not_lost() -> None:
    table = read("# exported, today\n#\nid,x\na,1\n")
    assert (table.cells, table.places) == ({"id": ["a"], "x": ["1"]}, ["line 4"])
    assert table.notes == ["2 comment lines before the header: ignored"]
    with pytest.raises(UserError, match=r"^t\.csv: line 2 holds numbers where the names of the columns are expected"):
        read("#id,x\na,1\nb,2\n")


def test_blank_rows_count_within_and_not_at_the_end() -> None:
    table = read('id,x,,\na,1,,\n,,,\nb,2,,\n,,,\n" ",,,\n')
    assert (table.cells, table.num_blank) == ({"id": ["a", "", "b"], "x": ["1", "", "2"]}, 2)
    assert read("id,x\n,\n,\n").num_rows == 0


def test_numbers_of_a_table_are_those_that_were_written() -> None:
    generator = np.random.default_rng(0)
    values = generator.standard_normal(2000) * 10.0 ** generator.integers(-12, 12, 2000)
    found = numbers("x\n" + "\n".join(map(repr, values.tolist())))
    assert isinstance(found, Numbers)
    np.testing.assert_array_equal(found.values, values)


def test_words_for_no_value_are_counted_and_bounds_are_told_apart() -> None:
    words = ["N/A", "NA", "nan", "None", "null", "#N/A", "?", "-", "n.d.", '""', " NaN "]
    found = numbers("x\n1\n" + "\n".join(words) + "\n>10\n< 0.5\n>=1e3\n\N{MINUS SIGN}2\n")
    assert isinstance(found, Numbers)
    np.testing.assert_array_equal(found.values, [1, *[np.nan] * 14, -2])
    assert found.missing.total() == len(words) - 1  # the empty cell is no word
    assert found.bounds == [12, 13, 14]


@pytest.mark.parametrize(
    "cell",
    ["1_2", "inf", "-Infinity", "1e999", "0x10", "1 2", "five", "\N{ARABIC-INDIC DIGIT TWO}", "2 %", "1/2", "3±1"],
)
def test_a_cell_that_is_no_plain_finite_number_makes_a_column_of_text(cell: str) -> None:
    assert numbers(f"x\n1\n{cell}\n") == f"line 3, column 'x', is {cell!r}, expected a number or an empty cell"


def test_decimal_commas_are_found_where_commas_separate_no_cells() -> None:
    assert read("id;x\na;1.234\nb;n/a\nc;>1,5e3\nd;-,5\n").decimal_comma() == "line 5, column 'x', is '-,5'"
    assert read("id;x\na;1.234\nb;2 (1,5)\n").decimal_comma() == ""
    assert read('id,x\na,"1,5"\n').decimal_comma() == ""
    assert "is '1,5', expected a number" in numbers('id,x\na,"1,5"\n')


def test_only_the_columns_asked_for_are_read() -> None:
    assert list(read("a,b,c\n1,2,x\n", columns=["c", "a"]).cells) == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"its first line is empty"),
        ("a,b,a\n1,2,3\n", r"column 'a' appears more than once"),
        ("a,bb\n1,2\n", r"has no column 'gap'; .*known: a, bb"),
        ("gap,b\n1,2\n1\n", r"line 3 has 1 cells, expected 2"),
        ("gap,b\n1,2\n3,4,5\n", r"line 3 has 3 cells, expected 2"),
        ('gap,b\n1,"2\n3\n', r"is not a CSV file .unexpected end of data"),
    ],
)
def test_a_table_that_is_not_as_asked_for_is_refused_by_file_and_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^t\.csv: " + message):
        read(text, columns=["gap"] if "bb" in text else None)


def test_a_file_that_is_missing_or_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.csv: cannot be read"):
        read_table(tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"a,b\n\xff\xfe\x00,1\n")
    with pytest.raises(UserError, match=r"binary\.csv: holds NUL bytes"):
        read_table(binary)
