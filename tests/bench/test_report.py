from __future__ import annotations

import json

import pytest

from se3t.bench.report import Column, Report, ratios, shown
from se3t.screen import console


def make_report() -> Report:
    rows = [
        {"group": "a", "name": "first", "step": 0.002, "step_quartiles": [0.001, 0.003], "memory": 2**21},
        {"group": "a", "name": "[second]", "step": 0.004, "step_quartiles": [0.004, 0.004], "memory": None},
        {"group": "b", "name": "first", "step": 0.5, "step_quartiles": [0.4, 1.6], "memory": float("nan")},
    ]
    ratios(rows, "step", "group")
    columns = [Column("name", "who"), Column("step", "ms", "ms"), Column("ratio", "ratio", "ratio")]
    machine = {"device": "abacus", "threads": 1, "torch": "2"}
    return Report("step", "Title", columns, rows, ["A note."], {"quick": True}, machine, {"peak": 1.5}, "group")


def test_ratios_are_times_over_those_of_the_first_of_the_group() -> None:
    assert [row["ratio"] for row in make_report().rows] == [1.0, 2.0, 1.0]


def test_json_holds_what_was_measured_and_reads_back() -> None:
    report = make_report()
    content = json.loads(report.to_json())
    assert content["rows"][:2] == report.rows[:2]
    assert content["rows"][2]["memory"] is None
    assert (content["settings"], content["machine"]) == (report.settings, report.machine)
    assert (content["facts"], content["notes"]) == (report.facts, report.notes)


def test_table_shows_rows_headings_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(make_report().to_rich())
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("Title", "who", "[second]", "A note.", "abacus, 1 threads, torch 2."))


def test_a_column_that_no_row_has_a_field_for_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    report = make_report()
    report.columns = [*report.columns, Column("memory", "MiB", "MiB"), Column("flop", "FLOP")]
    console().print(report.to_rich())
    printed = capsys.readouterr().out
    assert "MiB" in printed
    assert "FLOP" not in printed


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (None, "ms", "–"),
        (0.00123, "ms", "1.23"),
        (12.3456, "ms", "12,346"),
        ([0.001, 0.25], "range", "1–250"),
        (3 * 2**20, "MiB", "3"),
        (0.0123, "share", "1.2 %"),
        (0.678, "share", "68 %"),
        (1.3e-7, "error", "1e-07"),
        (0.0, "error", "0"),
        (51200, "count", "51,200"),
    ],
)
def test_cells_are_printed_in_their_unit(value: object, kind: str, expected: str) -> None:
    assert shown(value, kind) == expected
