"""A whole table by real trainings, killed again and again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

LINE = ("table", "1", "--run", "--preset", "smoke", "--jobs", "2", "model=deepset,tfn,linear", "data.preset=calibrated")


def start(folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    arguments = [sys.executable, "-m", "se3t", *LINE, "--format", "json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, cwd=folder, start_new_session=True, text=True, stdout=pipe, stderr=pipe)


def results(folder: Path) -> dict[str, Any]:
    """What was measured, by run; times and versions left out."""
    found = {str(path.relative_to(folder)): json.loads(path.read_text()) for path in folder.glob("runs/**/result.json")}
    return {name: {key: result[key] for key in ("test", "valid", "best_step")} for name, result in found.items()}


@pytest.mark.slow
def test_a_table_that_is_killed_and_run_again_is_the_same_table(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    table, told = whole.communicate(timeout=600)
    assert whole.returncode == 0, told
    for seconds in (2.0, 5.0, 8.0):  # data, first trainings, later ones
        process = start(tmp_path / "killed")
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    again = start(tmp_path / "killed")
    other, told = again.communicate(timeout=600)
    assert again.returncode == 0, told
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    assert json.loads(other) == json.loads(table)
    last = start(tmp_path / "killed")
    same, told = last.communicate(timeout=600)
    assert (last.returncode, same) == (0, other)
    assert told == "table 1: 3 trainings, 3 finished; nothing is left to do\n"
