"""Tables as they are written by others: every cell comes back as it stands, every number as it is written."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from se3t.data.molecules.tables import read_table
from se3t.errors import UserError


def test_a_table_has_columns_of_numbers_and_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b'\xef\xbb\xbfname, gap ,note\r\n"a, b",0.1,x\r\n\r\nc,,2\r\n')
    table = read_table(path)
    assert table.columns == ["gap", "name", "note"]
    assert table.num_rows == 2
    np.testing.assert_array_equal(table.numbers["gap"], [0.1, np.nan])
    assert table.texts == {"name": ["a, b", "c"], "note": ["x", "2"]}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_cells_may_be_separated_by_commas_semicolons_or_tabs(separator: str) -> None:
    rows = [['"a,b;c\t,,;;"', "gap"], ['"x,y;z"', "0.5"]]
    text = "\n".join(separator.join(row) for row in rows)
    table = read_table(io.StringIO(text), name="t.csv")
    assert table.texts == {"a,b;c\t,,;;": ["x,y;z"]}
    assert table.numbers["gap"].tolist() == [0.5]


def test_numbers_of_a_table_are_those_that_were_written() -> None:
    generator = np.random.default_rng(0)
    values = generator.standard_normal(2000) * 10.0 ** generator.integers(-12, 12, 2000)
    table = read_table(io.StringIO("x\n" + "\n".join(map(repr, values.tolist()))), name="x.csv")
    np.testing.assert_array_equal(table.numbers["x"], values)


def test_a_cell_without_a_value_is_nan() -> None:
    table = read_table(io.StringIO("x,y\n1,a\n,b\nNaN,c\nNA,d\n"), name="t.csv", numeric=["x"])
    np.testing.assert_array_equal(table.numbers["x"], [1, np.nan, np.nan, np.nan])


def test_only_the_columns_asked_for_are_read() -> None:
    table = read_table(io.StringIO("a,b,c\n1,2,x\n"), name="t.csv", columns=["c"], numeric=["a"])
    assert table.columns == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"its first line is empty"),
        ("a,b,a\n1,2,3\n", r"column 'a' is there more than once"),
        ("a,bb\n1,2\n", r"has no column 'gap'; .*known: a, bb"),
        ("gap,b\n1,2\n1\n", r"line 3 has 1 cells, expected 2"),
        ("gap,b\n1,2\n3,4,5\n", r"line 3 has 3 cells, expected 2"),
        ("gap,b\n1,2\n\nsmall,4\n", r"line 4, column 'gap', is 'small', expected a number or an empty cell"),
        ("gap\n1\ninf\n", r"line 3, column 'gap', is 'inf', expected a number"),
        ('gap,b\n1,"2\n3\n', r"is not a CSV file in UTF-8 .unexpected end of data"),
    ],
)
def test_a_table_that_is_not_as_asked_for_is_refused_by_file_line_and_column(text: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^t\.csv: " + message):
        read_table(io.StringIO(text), name="t.csv", numeric=["gap"])


def test_a_file_that_is_missing_or_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.csv: cannot be read"):
        read_table(tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"a,b\n\xff\xfe\x00,1\n")
    with pytest.raises(UserError, match=r"binary\.csv: is not a CSV file"):
        read_table(binary)
