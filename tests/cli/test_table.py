"""``se3t table`` on run records with invented numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reporting.results import property_result, result

from .conftest import Run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, content in {"a": result(), "b": property_result(), "c": property_result(target="mu")}.items():
        path = tmp_path / "runs" / name / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return tmp_path / "runs"


def test_every_table_that_has_a_run_is_printed(run: Run, runs: Path) -> None:
    answer = run("table")
    assert answer.status == 0, answer.err
    assert answer.out.index("Table 1, N-body simulation") < answer.out.index("Table 3, QM9")
    markdown = run("table", "--markdown")
    assert "**Table 1, N-body simulation**" in markdown.out
    assert "| ε_HOMO, meV | μ, D |" in markdown.out


def test_paths_and_targets_choose_what_is_printed(run: Run, runs: Path) -> None:
    assert "Table 3" not in run("table", str(runs / "a")).out
    for words in (["--target", "mu"], ["--target=mu", str(runs)], ["--target", "mu", str(runs / "c" / "result.json")]):
        answer = run("table", "--markdown", *words)
        assert answer.status == 0, answer.err
        assert answer.out.startswith("**Table 3, QM9**")
        assert "| μ, D | Δ_EQ |" in answer.out
        assert "HOMO" not in answer.out


def test_a_folder_without_runs_names_both_experiments(run: Run) -> None:
    answer = run("table")
    assert answer.status == 2
    assert "se3t train experiment=nbody" in answer.err
    assert "se3t train experiment=qm9 task=homo" in answer.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--target"], "--target: a value is missing"),
        (["--target="], "--target: a value is missing"),
        (["--target", "--markdown"], "--target: a value is missing"),
        (["--target", "lumo"], "no finished run with target lumo"),
    ],
)
def test_bad_targets_are_named(run: Run, runs: Path, words: list[str], named: str) -> None:
    answer = run("table", *words)
    assert answer.status == 2
    assert named in answer.err
    assert len(answer.err.splitlines()) <= 2
