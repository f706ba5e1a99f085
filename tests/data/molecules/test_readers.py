"""Files as they are written by others: whole records come back whole, and what is cut is refused by name."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from se3t.data.molecules.readers import iter_sdf
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


def lines(text: str, ending: str = "\n") -> Iterator[str]:
    return iter([line + ending for line in text.splitlines()])


# --- SDF ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_an_sdf_record_is_its_title_its_block_and_its_fields(ending: str) -> None:
    (record,) = iter_sdf(lines(HYDROGEN, ending), "h2.sdf")
    assert record.identifier == "gdb_1"
    assert record.content == BLOCK
    assert record.fields == {"energy": "-1.17", "two lines": "first\nsecond"}


def test_values_of_a_repeated_field_are_all_kept_and_names_may_hold_brackets() -> None:
    fields = "> <pKa (>7)>\n8\n\n> <y>\n1\n\n> <y>\n2\n\n"
    (record,) = iter_sdf(lines(BLOCK + fields + "$$$$\n"), "h2.sdf")
    assert record.fields == {"pKa (>7)": "8", "y": "1\n2"}


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
    assert (record.content, record.fields) == (BLOCK, {})


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
    assert "M  END" not in first.content
    assert second.content == BLOCK


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
