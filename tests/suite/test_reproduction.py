"""A whole table by real trainings, killed in the middle of them, twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from se3t.errors import UserError
from se3t.runs import RunFolder, read_json
from se3t.runs.names import PROVENANCE, RESULT

LINE = (
    "table",
    "1",
    "--run",
    "--preset",
    "smoke",
    "--jobs",
    "2",
    "model=linear,deepset,tfn",
    "data.preset=calibrated_random",
)
BUDGET = ("trainer.max_steps=50", "trainer.batch_size=32", "trainer.eval_every=10", "trainer.checkpoint_every=1")
"""Long enough to be hit in the middle, and too short for ``se3t table`` to measure steps first."""
PATIENCE = 300.0


def start(folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    arguments = [sys.executable, "-m", "se3t", *LINE, *BUDGET, "--format", "json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, cwd=folder, start_new_session=True, text=True, stdout=pipe, stderr=pipe)


def whole(folder: Path) -> tuple[Any, str]:
    """The table, and what was said on the way to it."""
    process = start(folder)
    table, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told
    return json.loads(table), told


def killed(folder: Path, condition: Callable[[], bool]) -> None:
    """Start, and end with SIGKILL as soon as the condition holds; every training has ended then."""
    process = start(folder)
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the table was done before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    while not all(is_free(path.parent) for path in folder.glob("runs/*/*/*/config.yaml")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_free(run: Path) -> bool:
    try:
        RunFolder(run).require_free()
    except UserError:
        return False
    return True


def finished(folder: Path) -> dict[Path, int]:
    """Runs with a result, and when that was written."""
    return {path.parent: path.stat().st_mtime_ns for path in folder.glob("runs/**/result.json")}


def saved(folder: Path) -> dict[Path, int]:
    """Newest step saved of every run without a result."""
    found: dict[Path, int] = {}
    for path in folder.glob("runs/**/checkpoints/step-*.ckpt"):
        run, step = path.parent.parent, int(path.stem.removeprefix("step-"))
        if not (run / RESULT).exists():
            found[run] = max(step, found.get(run, 0))
    return found


def sessions(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_json(run / PROVENANCE)["sessions"]
    return found


def results(folder: Path) -> dict[str, Any]:
    """What was measured, by run; times and versions left out."""
    found = {str(path.relative_to(folder)): json.loads(path.read_text()) for path in folder.glob("runs/**/result.json")}
    return {name: {key: result[key] for key in ("test", "valid", "best_step")} for name, result in found.items()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for the death of a parent")
def test_a_table_that_is_killed_and_run_again_is_the_same_table(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    killed(folder, lambda: any(saved(folder).values()))
    first = saved(folder)
    assert first, "no training was hit"

    def has_gone_on() -> bool:
        return bool(finished(folder)) and any(step > first.get(run, 0) for run, step in saved(folder).items())

    killed(folder, has_gone_on)
    second, done = saved(folder), finished(folder)
    assert second, "no training was hit the second time"
    assert done
    before = {run: sessions(run) for run in done}

    table, _ = whole(folder)
    assert {run: written for run, written in finished(folder).items() if run in done} == done
    assert {run: sessions(run) for run in done} == before
    for interrupted in (first, second):
        for run, step in interrupted.items():
            assert step in [session["resumed_from_step"] for session in sessions(run)]
    assert {session["device"] for run in second for session in sessions(run)} <= {"cpu", "cuda"}

    assert whole(tmp_path / "whole")[0] == table
    assert results(tmp_path / "whole") == results(folder)
    again, told = whole(folder)
    assert again == table
    assert told == "table 1: 3 trainings, 3 finished; nothing is left to do\n"
