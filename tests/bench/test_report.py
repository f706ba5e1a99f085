from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from matplotlib import image

from se3t.bench.report import Column, Panel, Report, Series, ratios, series_by_name, shown
from se3t.errors import UserError
from se3t.files import check_writable
from se3t.screen import console


def make_report(panels: tuple[Panel, ...] = ()) -> Report:
    rows = [
        {"group": "a", "name": "first", "step": 0.002, "step_quartiles": [0.001, 0.003], "memory": 2**21},
        {"group": "a", "name": "[second]", "step": 0.004, "step_quartiles": [0.004, 0.004], "memory": None},
        {"group": "b", "name": "first", "step": 0.5, "step_quartiles": [0.4, 1.6], "memory": float("nan")},
    ]
    ratios(rows, "step", "group")
    columns = [Column("name", "who"), Column("step", "ms", "ms"), Column("ratio", "ratio", "ratio")]
    machine = {"device": "abacus", "threads": 1, "torch": "2"}
    return Report("step", "Title", columns, rows, ["A note."], {"quick": True}, machine, {"peak": 1.5}, panels, "group")


def lines_and_bars() -> tuple[Panel, ...]:
    line = Series("ours", [1, 10, 100], [1.0, 2.0, 4.0], [0.5, 1.5, 3.5], [1.5, 2.5, 5.0])
    bars = [Series(f"contender {number}", ["nbody", "qm9"], [1.0 + number, 2.0]) for number in range(11)]
    return Panel("lines", "edges", "ms", [line], log_x=True, log_y=True), Panel("bars", "", "MiB", bars)


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


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figure_is_drawn_in_the_format_of_its_ending(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"figure{suffix}"
    make_report(lines_and_bars()).save(None, path)
    content = path.read_bytes()
    assert content.startswith({".png": b"\x89PNG\r\n", ".pdf": b"%PDF-", ".svg": b"<?xml"}[suffix])
    if suffix == ".png":
        pixels = image.imread(path)
        assert pixels.shape[0] > 300
        assert pixels.std() > 0.05
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_bars_of_more_contenders_than_colours_are_told_apart_by_hatches() -> None:
    from matplotlib.figure import Figure

    from se3t.bench.plots import _draw

    axis = Figure().subplots()
    panel = lines_and_bars()[1]
    _draw(axis, panel, [series.name for series in panel.series])
    looks = {(patch.get_facecolor(), patch.get_hatch()) for patch in axis.patches}
    assert len(looks) == 11


@pytest.mark.parametrize("name", ["figure.gif", "figure"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot draw"):
        make_report(lines_and_bars()).save(None, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_series_are_by_name_scaled_and_without_what_was_not_measured() -> None:
    first, second = series_by_name(make_report().rows, "group", "step", 1e3)
    assert first == Series("first", ["a", "b"], [2.0, 500.0], [1.0, 400.0], [3.0, 1600.0])
    assert second.name == "[second]"
    memory = series_by_name(make_report().rows[:2], "group", "memory", 2.0**-20)
    assert [(series.x, series.y, series.low) for series in memory] == [(["a"], [2.0], []), ([], [], [])]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "folder: is a folder"),
        ("file/below/a.json", "file is not a folder; name another file"),
        ("n" * 300, "cannot be written: File name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message):
        check_writable(tmp_path / name)


def test_a_folder_that_takes_no_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"a\.json: cannot be written: Permission denied; name another file"):
        check_writable(tmp_path / "a.json")


def test_asking_whether_a_file_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "new/folder/a.json")
    assert not list(tmp_path.iterdir())


def test_a_report_without_figures_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was measured that can be drawn"):
        make_report().save(None, tmp_path / "figure.png")


def test_what_lacks_a_quantity_has_no_place_in_its_panel_and_colours_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    seen: list[tuple[str, object]] = []
    draw = Axes.bar

    def note(self: Axes, *args: object, **options: object) -> object:
        seen.append((str(options["label"]), options["color"]))
        return draw(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "bar", note)
    first = Panel("time", "", "ms", (Series("a (best)", ("x",), (1.0,)), Series("b", ("x",), (2.0,))))
    second = Panel("share", "", "%", (Series("b", ("x",), (3.0,)), Series("a", (), ())))
    make_report((first, second)).save(None, tmp_path / "plot.png")
    (best, blue), (b, orange), (again, same) = seen
    assert (best, b, again) == ("a (best)", "b", "b")
    assert blue != orange == same
