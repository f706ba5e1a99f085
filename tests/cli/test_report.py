"""``se3t report``: what it measures, and which files it takes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from reporting.results import result
from reporting.test_classification import cloud_result
from reporting.test_figures import point
from reporting.test_report import HOSTILE, figure3, write_run, write_unfinished

from .conftest import Run

Calls = list[list[str]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The runs whose predictions were asked for; the measuring itself is replaced."""
    found: Calls = []

    def trajectories(runs: Sequence[Path], out: Path, **options: Any) -> Path:
        found.append([str(run) for run in runs])
        path = figure3(out)
        content = json.loads(path.read_text(encoding="utf-8"))
        models = [{**content["models"][0], "run": str(run), "label": run.name} for run in runs]
        path.write_text(json.dumps({**content, "models": models}), encoding="utf-8")
        return path

    module = ModuleType("se3t.measure.trajectories")
    module.trajectories = trajectories  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "se3t.measure.trajectories", module)
    return found


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pictures of matplotlib, which take the most time."""
    monkeypatch.setattr("se3t.reporting.report.page.figures", lambda *given: [])


def write_runs(runs: Path) -> None:
    """Two finished runs of N-body, one of them named by somebody hostile, and one that was interrupted."""
    write_run(runs / "nbody" / "0-tfn", result("tfn"))
    write_run(runs / "nbody" / "0-linear", result("linear"))
    write_run(runs / "nbody" / HOSTILE.replace("/", "|"), result("se3_transformer", test__mse_x=0.02))
    write_unfinished(runs / "nbody" / "7-deepset", "deepset")


@pytest.mark.usefixtures("undrawn")
def test_predictions_are_measured_once_and_kept_beside_the_runs(run: Run, tmp_path: Path, calls: Calls) -> None:
    write_runs(tmp_path / "runs")
    answer = run("report")
    assert answer.status == 0, answer.err
    assert answer.out.splitlines() == ["written: report.html"]
    assert [Path(folder).name for folder in calls[0]] == ["0-linear", "0-tfn", "<script>alert(1)<|script>"]
    assert [path.name for path in (tmp_path / "runs" / "figures").iterdir()] == ["report_figure3.json"]
    assert run("report", "--out", "again.html").status == 0
    assert len(calls) == 1
    (tmp_path / "runs" / "nbody" / "0-tfn" / "checkpoints" / "best.ckpt").write_bytes(b"others")
    stale = run("report", "--no-measure")
    assert "other runs or weights" in stale.err
    assert len(calls) == 1
    assert run("report").err == ""
    assert len(calls) == 2


def test_without_runs_the_page_is_made_and_nothing_is_measured(run: Run, calls: Calls) -> None:
    answer = run("report", "--out", "pages/empty.html")
    assert answer.status == 0, answer.err
    assert answer.files == ["pages"]
    assert answer.err == ""
    assert calls == []
    assert "pages: no run in it" in run("report", "pages").err


@pytest.mark.usefixtures("undrawn")
def test_data_that_are_gone_do_not_stop_the_page(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from se3t.errors import UserError

    def trajectories(runs: Sequence[Path], out: Path, **options: Any) -> Path:
        raise UserError("the data have another checksum; restore those data")

    module = ModuleType("se3t.measure.trajectories")
    module.trajectories = trajectories  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "se3t.measure.trajectories", module)
    write_runs(tmp_path / "runs")
    answer = run("report")
    assert answer.status == 0
    assert "no rotated predictions: the data have another checksum" in answer.err
    assert "restore those data" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_a_file_that_the_report_has_not_written_is_never_replaced(run: Run, tmp_path: Path, calls: Calls) -> None:
    write_runs(tmp_path / "runs")
    (tmp_path / "runs" / "figures").mkdir()
    own = [figure3(tmp_path / "runs" / "figures" / name) for name in ("figure3.json", "report_figure3.json")]
    before = [path.read_bytes() for path in own]
    assert run("report").status == 0
    assert len(calls) == 1
    assert [path.read_bytes() for path in own] == before


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_fails_is_left_out_and_tried_again(
    run: Run, tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    from se3t.errors import UserError

    module: Any = sys.modules["se3t.measure.trajectories"]
    working = module.trajectories

    def failing(runs: Sequence[Path], out: Path, on_failure: Callable[[UserError], None], **options: Any) -> Any:
        on_failure(UserError(f"{runs[0]}: its weights are damaged"))
        return working(runs[1:], out)

    monkeypatch.setattr(module, "trajectories", failing)
    write_runs(tmp_path / "runs")
    for _ in range(2):
        answer = run("report")
        assert answer.status == 0
        assert "left out of the rotated predictions: runs/nbody/0-linear: its weights are damaged" in answer.err
        assert 'id="view-data"' in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(calls) == 2


@pytest.mark.usefixtures("undrawn")
def test_a_figure_4_of_runs_that_are_gone_or_changed_is_shown_with_a_remark(run: Run, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "0-tfn", cloud_result("tfn"))
    names = ("0-tfn", "gone")
    points = [point(weights="ab", run=f"runs/{name}", seed=seed) for seed, name in enumerate(names)]
    data = {"kind": "shapes15", "variant": "object only", "synthetic": True, "checksum": "ab", "up_axis": "y"}
    (tmp_path / "runs" / "figures").mkdir()
    path = tmp_path / "runs" / "figures" / "figure4.json"
    path.write_text(json.dumps({"data": data, "points": points}), encoding="utf-8")
    answer = run("report", "--no-measure")
    assert answer.status == 0
    assert "runs/figures/figure4.json was measured before runs changed" in answer.err
    assert "runs/gone no longer exists" in answer.err
    assert "0-tfn/checkpoints/best.ckpt: is damaged" in answer.err


@pytest.mark.usefixtures("undrawn")
def test_given_files_and_folders_are_used(run: Run, tmp_path: Path, calls: Calls) -> None:
    write_runs(tmp_path / "elsewhere")
    figure3(tmp_path / "own.json")
    answer = run("report", "elsewhere/nbody/0-tfn", "--figure3", "own.json", "--out", "own.html")
    assert answer.status == 0, answer.err
    text = (tmp_path / "own.html").read_text(encoding="utf-8")
    assert calls == []
    assert "elsewhere/nbody/0-tfn" in text
    assert "0-linear" not in text
    assert 'id="view-data"' in text


@pytest.mark.usefixtures("undrawn")
def test_a_figure_4_that_nobody_asked_for_and_is_damaged_does_not_stop_the_page(run: Run, tmp_path: Path) -> None:
    write_runs(tmp_path / "runs")
    (tmp_path / "runs" / "figures").mkdir()
    (tmp_path / "runs" / "figures" / "figure4.json").write_text("{", encoding="utf-8")
    answer = run("report", "--no-measure")
    assert answer.status == 0
    assert "no Figure 4: runs/figures/figure4.json: is not valid JSON" in answer.err


@pytest.mark.usefixtures("undrawn")
def test_a_folder_whose_name_is_no_text_is_listed(run: Run, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / os.fsdecode(b"0-\xff"), result("tfn"))
    assert run("report", "--no-measure").status == 0
    assert "runs/0-?" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--out", ""], "--out: is empty"),
        (["--out", "runs"], "runs: is a folder"),
        (["--out", "runs/nbody/0-tfn/result.json/x.html"], "is not a folder"),
        (["nowhere"], "nowhere: does not exist"),
        (["runs/nbody/0-tfn/metrics.jsonl"], "metrics.jsonl: is no run record"),
        (["--figure3", "none.json"], "none.json: cannot be read"),
        (["--figure4", "none.json"], "none.json: cannot be read"),
        (["--harmonics", "none.json"], "none.json: cannot be read"),
        (["--figure3", "runs/nbody/0-tfn/result.json"], "'kind'"),
        (["--figure"], "unrecognized arguments: --figure; expected: se3t report"),
    ],
)
def test_mistakes_are_told_in_a_sentence(run: Run, tmp_path: Path, calls: Calls, words: list[str], named: str) -> None:
    write_runs(tmp_path / "runs")
    answer = run("report", "--no-measure", *words)
    assert answer.status == 2
    assert named in answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.files == ["runs"]
