"""``se3t figure`` on invented numbers; the measuring itself is replaced."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from reporting.results import result
from reporting.test_classification import cloud_result, shapes_result
from reporting.test_curves import put
from reporting.test_figure3 import content
from reporting.test_figures import point, write_run
from reporting.test_harmonics import report
from se3t.cli import figure
from se3t.cli.help import command_help

from .conftest import Run

Calls = list[tuple[Any, ...]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What the sweep was asked for; it writes one point for each run and rotation."""
    found: Calls = []

    def rotation_sweep(runs: Sequence[Path], rotations: Sequence[str], out: Path, progress: bool = True) -> Path:
        found.append(([str(run) for run in runs], list(rotations), str(out), progress))
        data = {"kind": "shapes15", "variant": "object only", "synthetic": True, "checksum": "ab", "up_axis": "y"}
        points = [point(rotation=rotation, seed=seed) for seed, _ in enumerate(runs) for rotation in rotations]
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"data": data, "points": points}), encoding="utf-8")
        return out

    module = ModuleType("se3t.measure.rotations")
    module.rotation_sweep = rotation_sweep  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "se3t.measure.rotations", module)
    return found


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What trajectories were asked for; two invented models are written."""
    found: Calls = []

    def trajectories(runs: Sequence[Path], out: Path, sample: int | None = None, **options: Any) -> Path:
        found.append(([str(run) for run in runs], str(out), sample, options))
        out.write_text(json.dumps(content()), encoding="utf-8")
        return out

    module = ModuleType("se3t.measure.trajectories")
    module.trajectories, module.STEP = trajectories, 10.0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "se3t.measure.trajectories", module)
    return found


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in (0, 1):
        write_run(tmp_path / "runs" / "scanobjectnn" / f"{seed}-a", shapes_result("tfn", seed))
    write_run(tmp_path / "runs" / "nbody", result())
    return tmp_path / "runs"


def test_figure_4_measures_all_runs_and_draws_them(run: Run, runs: Path, calls: Calls) -> None:
    answer = run("figure", "4")
    assert answer.status == 0, answer.err
    folders = ["runs/scanobjectnn/0-a", "runs/scanobjectnn/1-a"]
    assert calls == [(folders, ["0", "30", "60", "90", "120", "150", "180"], "figure4.json", True)]
    assert answer.files == ["figure4.json", "figure4.pdf", "figure4.png", "runs"]
    assert answer.out.splitlines() == ["written: figure4.json", "written: figure4.png", "written: figure4.pdf"]


def test_angles_and_so3_and_the_name_are_those_of_the_command(run: Run, runs: Path, calls: Calls) -> None:
    words = ["--angles", "90,0,22.5", "runs/scanobjectnn/0-a", "--so3", "--out", "figures/tilt.v2.png"]
    answer = run("figure", "4", *words)
    assert answer.status == 0, answer.err
    assert calls == [(["runs/scanobjectnn/0-a"], ["0", "22.5", "90", "so3"], "figures/tilt.v2.json", True)]
    assert "written: figures/tilt.v2.pdf" in answer.out


def test_bare_figure_4_names_the_flag_that_chooses_among_the_data(run: Run, runs: Path, calls: Calls) -> None:
    write_run(runs / "scanobjectnn" / "real", cloud_result("tfn"))
    answer = run("figure", "4")
    assert answer.status == 2
    assert "--on scanobjectnn or --on shapes15" in answer.err
    for on, folders in (("scanobjectnn", ["real"]), ("shapes15", ["0-a", "1-a"])):
        assert run("figure", "4", "--on", on).status == 0
        assert calls.pop()[0] == [f"runs/scanobjectnn/{folder}" for folder in folders]
    assert "--on DATA" in run("figure", "--help").out


def test_data_are_drawn_once_more_without_measuring(run: Run, runs: Path, calls: Calls) -> None:
    run("figure", "4")
    answer = run("figure", "4", "--data", "figure4.json", "--out", "again")
    assert answer.status == 0, answer.err
    assert len(calls) == 1
    assert answer.out.splitlines() == ["written: again.png", "written: again.pdf"]


def test_figure_3_predicts_with_both_systems_says_which_and_draws_them(run: Run, predicted: Calls) -> None:
    for name in ("se3_transformer", "set_transformer"):
        write_run(Path("runs/nbody") / name, result(name))
    answer = run("figure", "3")
    assert answer.status == 0, answer.err
    folders = ["runs/nbody/set_transformer", "runs/nbody/se3_transformer"]
    assert predicted == [(folders, "figure3.json", None, {"step": 10.0, "progress": True})]
    assert answer.files == ["figure3.json", "figure3.pdf", "figure3.png", "runs"]
    assert answer.out.splitlines() == [
        *(f"shown: {folder}" for folder in folders),
        *(f"written: figure3.{suffix}" for suffix in ("json", "png", "pdf")),
    ]


def test_figure_3_of_given_runs_and_its_animation(run: Run, runs: Path, predicted: Calls) -> None:
    words = ["runs/nbody", "--sample", "3", "--step", "90", "--gif", "--out", "small.gif"]
    answer = run("figure", "3", *words)
    assert answer.status == 0, answer.err
    assert predicted == [(["runs/nbody"], "small.json", 3, {"step": 90.0, "progress": True})]
    assert answer.files == ["runs", "small.gif", "small.json", "small.pdf", "small.png"]
    answer = run("figure", "3", "--data", "small.json", "--out", "again")
    assert answer.out.splitlines() == ["written: again.png", "written: again.pdf"]
    assert len(predicted) == 1


def test_the_harmonics_are_measured_once_and_drawn_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from se3t.bench import sh
    from se3t.bench.report import Report

    asked: Calls = []

    def measured(options: Any, names: Sequence[str], *how: Any) -> Report:
        asked.append((options.device, options.threads, options.quick, *names, *how))
        found = report()
        machine = {**found["machine"], "torch": "2"}
        return Report("sh", "an invented measurement", (), found["rows"], settings=found["settings"], machine=machine)

    monkeypatch.setattr(sh, "run", measured)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    answer = run("figure", "sh", "--max-degree", "2", "--num-vectors", "50", "--threads", "1", "--quick")
    assert answer.status == 0, answer.err
    assert asked == [("cpu", 1, True, 2, 50)]
    assert "a cpu, 2 threads, torch 2." in answer.out
    assert answer.files == ["harmonics.json", "harmonics.pdf", "harmonics.png"]
    answer = run("figure", "sh", "--data", "harmonics.json", "--out", "again")
    assert answer.out.splitlines() == ["written: again.png", "written: again.pdf"]
    assert len(asked) == 1


def test_learning_curves_are_those_of_one_experiment(run: Run, tmp_path: Path) -> None:
    put(tmp_path / "runs" / "a", result("tfn"))
    put(tmp_path / "runs" / "b", cloud_result("tfn"))
    answer = run("figure", "curves", "--experiment", "nbody", "--out", "loss")
    assert answer.status == 0, answer.err
    assert answer.files == ["loss.pdf", "loss.png", "runs"]
    answer = run("figure", "curves")
    assert answer.status == 2
    assert "choose one: --experiment nbody" in answer.err


def test_help_tells_every_figure_and_flag() -> None:
    text = command_help("figure")
    for name in figure.FIGURES:
        assert f"se3t figure {name}" in text
        for action in figure.parser(name)._actions:
            assert all(flag in text for flag in action.option_strings)


def test_the_confusion_matrix_of_a_run_is_drawn(run: Run, runs: Path) -> None:
    answer = run("figure", "confusion", "runs/scanobjectnn/0-a")
    assert answer.status == 0, answer.err
    assert answer.files == ["confusion.pdf", "confusion.png", "runs"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "figure: which one is missing; known: 3, 4, confusion, curves, sh"),
        (["5"], "figure: '5' is unknown; known: 3, 4, confusion, curves, sh"),
        (["confusoin"], "did you mean 'confusion'?"),
        (["4", "--angle", "30"], "unrecognized arguments: --angle; expected: se3t figure 4"),
        (["4", "--angles", "200"], "got '200', expected degrees from 0 to 180"),
        (["4", "--angles", "0,left"], "got '0,left', expected degrees from 0 to 180"),
        (["4", "--data", "figure4.json", "--so3"], "figure 4: --data draws what was measured before; leave --so3 out"),
        (["4", "--data", "figure4.json", "--on", "shapes15"], "--data draws what was measured before; leave --on out"),
        (["4", "--on", "qm9"], "invalid choice: 'qm9'"),
        (["4", "--on", "scanobjectnn"], "runs: no finished run on scanobjectnn; make one: se3t train"),
        (["4", "--data", "none.json"], "none.json: cannot be read"),
        (["4", "elsewhere"], "elsewhere: no result.json of experiment scanobjectnn in it"),
        (["4", "runs/nbody"], "is a run of experiment nbody, expected one of scanobjectnn"),
        (["4", "--out", "runs/nbody/result.json/x"], "is not a folder"),
        (["3"], "runs: no finished run of set_transformer in it"),
        (["3", "runs/scanobjectnn/0-a"], "is a run of experiment scanobjectnn, expected one of nbody"),
        (["3", "--sample", "first"], "argument --sample: got 'first', expected a whole number from 0 on"),
        (["3", "--data", "figure3.json", "--step", "5"], "--data draws what was measured before; leave --step out"),
        (["3", "--data", "none.json"], "none.json: cannot be read"),
        (["3", "--out", "runs/nbody/result.json/x", "--gif"], "is not a folder"),
        (["sh", "--num-vectors", "0"], "got '0', expected a whole number of at least 1"),
        (["sh", "--data", "none.json", "--quick"], "leave --quick out"),
        (["sh", "--data", "none.json"], "none.json: cannot be read"),
        (["curves", "--metric", "los", "runs/nbody"], "metrics.jsonl: cannot be read"),
        (["curves", "--experiment", "qm"], "invalid choice: 'qm'"),
        (["curves", "--out", "runs/nbody/result.json/x"], "is not a folder"),
        (["curves", "elsewhere"], "elsewhere: no finished run;"),
        (["confusion"], "the following arguments are required: run"),
        (["confusion", "runs"], "runs: no result.json in it"),
        (["confusion", "runs/nbody"], "is a run of experiment nbody, expected one of scanobjectnn"),
    ],
)
def test_mistakes_are_told_in_a_sentence(run: Run, runs: Path, calls: Calls, words: list[str], named: str) -> None:
    answer = run("figure", *words)
    assert answer.status == 2
    assert named in answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.files == ["runs"]
    assert calls == []


def test_a_run_without_predictions_says_what_to_do(run: Run, runs: Path) -> None:
    (runs / "scanobjectnn" / "0-a" / "details.json").unlink()
    answer = run("figure", "confusion", "runs/scanobjectnn/0-a")
    assert answer.status == 2
    assert "no details.json in it" in answer.err
    assert "run the training again" in answer.err
