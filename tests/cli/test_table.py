"""``se3t table`` on run records with invented numbers."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reporting.results import property_result, result
from se3t.runs.files import seal
from se3t.suite import tables
from se3t.suite.pool import Ended, Outcome
from se3t.suite.tables import TableRequest

from .conftest import Run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, content in {"a": result(), "b": property_result(), "c": property_result(target="mu")}.items():
        path = tmp_path / "runs" / name / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(seal(content)), encoding="utf-8")
    return tmp_path / "runs"


def test_every_table_that_has_a_run_is_printed(run: Run, runs: Path) -> None:
    answer = run("table")
    assert answer.status == 0, answer.err
    assert answer.out.index("Table 1, N-body simulation") < answer.out.index("Table 3, QM9")
    markdown = run("table", "--markdown")
    assert "**Table 1, N-body simulation: calibrated reading (preset calibrated_random, horizon 0.78)**" in markdown.out
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
    assert "se3t table 1 prints what is published" in answer.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--target"], "--target: expected one argument"),
        (["--target="], "--target: is empty"),
        (["--target", "--markdown"], "--target: expected one argument"),
        (["--target", "lumo"], "no finished run with target lumo"),
    ],
)
def test_bad_targets_are_named(run: Run, runs: Path, words: list[str], named: str) -> None:
    answer = run("table", *words)
    assert answer.status == 2
    assert named in answer.err
    assert len(answer.err.splitlines()) <= 2


# --- by name ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "system"),
    [("1", "Linear"), ("2", "PointGLR"), ("3", "Cormorant"), ("egnn", "PONITA"), ("ablations", "Attention removed")],
)
def test_a_table_is_printed_where_nothing_was_run(run: Run, name: str, system: str) -> None:
    answer = run("table", name)
    assert answer.status == 0, answer.err
    assert system in answer.out
    assert "not run" in answer.out
    assert "se3t train experiment=" in answer.out
    assert answer.files == []


def test_only_the_named_table_is_printed_of_the_paths_and_the_budget(run: Run, runs: Path) -> None:
    answer = run("table", "1", "--markdown")
    assert "| SE(3)-Transformer | measured, 1 seed |" in answer.out
    assert "Table 3" not in answer.out
    assert "measured, 1 seed" not in run("table", "1", str(runs / "b"), "--markdown").out
    assert "measured, 1 seed" not in run("table", "1", "--preset", "quick", "--markdown").out
    (wide,) = [line for line in run("table", "3", "--markdown").out.splitlines() if line.startswith("| model")]
    assert wide.count("|") == 11


# --- formats ----------------------------------------------------------------------------------------------------------


def test_formats_are_printed(run: Run, runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("table", "--format", "csv").out)))
    assert {row["table"] for row in rows} == {"1", "3"}
    content = json.loads(run("table", "1", "--format=json").out)
    assert [table["table"] for table in content["tables"]] == ["1"]
    assert run("table", "3", "--format", "latex").out.count("\\begin{table}") == 1
    assert run("table", "--format", "markdown").out == run("table", "--markdown").out


@pytest.mark.parametrize(
    ("name", "start"),
    [("a.md", "**Table 1"), ("a.csv", "table,data,"), ("a.tex", "% "), ("a.json", "{"), ("a.txt", "Table 1")],
)
def test_a_file_is_written_in_the_format_of_its_ending(run: Run, runs: Path, name: str, start: str) -> None:
    answer = run("table", "1", "--out", f"new/{name}")
    assert answer.status == 0, answer.err
    assert answer.out == f"written: new/{name}\n"
    written = runs.parent / "new" / name
    assert written.read_text(encoding="utf-8").startswith(start)
    assert [path.name for path in written.parent.iterdir()] == [name]


def test_a_file_can_have_another_format_than_its_ending_says(run: Run, runs: Path) -> None:
    assert run("table", "1", "--format", "csv", "--out", "numbers.dat").status == 0
    assert (runs.parent / "numbers.dat").read_text().startswith("table,data,")


# --- trainings --------------------------------------------------------------------------------------------------------


@dataclass
class Suite:
    """What the trainings were asked for, and what they answer."""

    requests: list[TableRequest] = field(default_factory=list)
    failed: list[Ended] = field(default_factory=list)
    is_idle: bool = False


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Stands in for the trainings: notes what was asked for, and finishes one run, unless it is idle."""
    found = Suite()

    def finish(request: TableRequest) -> Outcome:
        found.requests.append(request)
        path = request.runs / "trained" / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(seal(result("tfn", 1, preset=request.preset or tables.DEFAULT_PRESET))))
        return Outcome([] if found.is_idle else [path], found.failed)

    def plan(request: TableRequest) -> None:
        found.requests.append(request)
        print("the plan")

    monkeypatch.setattr(tables, "run", finish)
    monkeypatch.setattr(tables, "plan", plan)
    return found


def test_a_table_is_run_and_then_printed(run: Run, suite: Suite) -> None:
    words = ["1", "--run", "--preset", "smoke", "--seeds", "0,2", "--jobs", "2", "data.preset=text", "optim.lr=1e-3"]
    answer = run("table", *words, "--markdown")
    assert answer.status == 0, answer.err
    (request,) = suite.requests
    assert request == TableRequest("1", "smoke", (0, 2), 2, ("data.preset=text", "optim.lr=1e-3"), Path("runs"))
    assert "| TFN | measured, 1 seed |" in answer.out
    assert "| DeepSet | published, not run |" in answer.out


@pytest.mark.parametrize(("words", "preset"), [(["--preset", "smoke"], "smoke"), ([], "reduced")])
def test_where_nothing_finished_the_table_suggests_the_budget_that_was_asked_for(
    run: Run, suite: Suite, words: list[str], preset: str
) -> None:
    suite.is_idle = True
    answer = run("table", "1", "--run", *words, "--markdown")
    assert f"TFN not run: se3t train experiment=nbody model=tfn preset={preset}" in answer.out
    assert f"se3t table 1 --run --preset {preset}" in answer.out
    assert "preset=paper" not in answer.out


def test_the_table_of_egnn_is_run_with_its_own_budget_unless_told(run: Run, suite: Suite) -> None:
    suite.is_idle = True
    answer = run("table", "egnn", "--run", "--markdown")
    assert answer.status == 0, answer.err
    assert "TFN not run: se3t train experiment=nbody model=tfn preset=egnn" in answer.out
    assert "se3t table egnn --run --preset egnn" in answer.out
    refused = run("table", "1", "--run", "--preset", "egnn")
    assert (refused.status, len(suite.requests)) == (2, 1)
    assert "--preset egnn: experiment 'nbody' of table 1 has no such preset" in refused.err


def test_a_plan_is_told_and_no_table(run: Run, suite: Suite) -> None:
    answer = run("table", "3", "--plan", "--target", "homo", "elsewhere=1", "runs=there")
    assert answer.status == 0, answer.err
    assert answer.out == "the plan\n"
    assert suite.requests == [TableRequest("3", None, (), None, ("elsewhere=1", "task=homo"), Path("there"))]


def test_what_failed_makes_the_command_fail_after_the_table(run: Run, suite: Suite) -> None:
    suite.failed.append(Ended(None, "failed", Path("log"), "it diverged"))  # type: ignore[arg-type]
    answer = run("table", "ablations", "--run")
    assert answer.status == 1
    assert "Attention removed" in answer.out


def test_records_lie_in_the_folder_that_is_named(run: Run, suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert run("table", "1", "mine", "--run", "--out", "table.json").status == 0
    assert suite.requests[0].runs == Path("mine")
    assert json.loads((tmp_path / "table.json").read_text())["tables"]


def test_a_target_of_the_output_is_looked_at_before_the_trainings(run: Run, suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "table.md").mkdir()
    answer = run("table", "1", "--run", "--out", "table.md")
    assert answer.status == 2
    assert "table.md: is a folder" in answer.err
    assert suite.requests == []


# --- wrong words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["4"], "4: is not a table (known: 1, 2, 3, ablations, egnn)"),
        (["ablation"], "did you mean 'ablations'?"),
        (["1", "2"], "table 1 2: one table at a time; leave 2 out"),
        ([".", "1"], "write se3t table 1 first, then the folders"),
        (["1", "nowhere"], "nowhere: does not exist; expected a folder of runs"),
        (["runs/nowhere"], "runs/nowhere: does not exist"),
        (["1", "--format", "yaml"], "invalid choice: 'yaml'"),
        (["1", "--format"], "--format: expected one argument"),
        (["1", "--out", "table.doc"], "--out table.doc: its suffix names no format"),
        (["1", "--out="], "--out: is empty"),
        (["1", "--markdown", "--format", "csv"], "--markdown: cannot be combined with --format csv"),
        (["1", "--preset", "fast"], "--preset fast: experiment 'nbody' of table 1 has no such preset; known: paper"),
        (["1", "--run", "--preset", "fast"], "--preset fast: experiment 'nbody' of table 1 has no such preset"),
        (["ablations", "--run", "--preset", "fast"], "experiment 'nbody' of table ablations has no such preset"),
        (["ablations", "--preset", "smok"], "--preset smok: no experiment of table ablations has it; did you mean"),
        (["--preset", "quik"], "did you mean 'quick'?"),
        (["1", "--target", "homo"], "--target: chooses a property of molecules, a column of table 3"),
        (["3", "--target", "hom"], "did you mean 'homo'?"),
        (["1", "--seeds", "0"], "--seeds: belongs to --run or --plan"),
        (["1", "--jobs", "2"], "--jobs: belongs to --run or --plan"),
        (["1", "seed=3"], "seed=3: a setting belongs to --run or --plan"),
        (["1", "--run", "--seeds", "a,b"], "--seeds: got 'a', expected a whole number"),
        (["1", "--run", "--seeds", "-1"], "--seeds"),
        (["1", "--run", "--jobs", "0"], "--jobs: got '0', expected a whole number"),
        (["--run"], "--run: of which table; expected se3t table 1 --run"),
        (["1", "--run", "--plan"], "not allowed with argument"),
        (["1", "--plan", "--format", "csv"], "--plan: tells what would be run and writes no table"),
        (["1", "--run", "--target", "homo"], "--target: chooses a column of table 3, not of table 1"),
        (["--marcdown"], "unrecognized arguments: --marcdown"),
    ],
)
def test_wrong_words_are_named_in_one_sentence(run: Run, suite: Suite, words: list[str], named: str) -> None:
    answer = run("table", *words)
    assert answer.status == 2
    assert named in answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.out == ""
    assert suite.requests == []
    assert answer.files == []


def test_a_changed_record_is_left_out_and_named_and_alone_refused(run: Run, runs: Path) -> None:
    path = runs / "a" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 4}))
    reason = "runs/a/result.json: field 'seed' is 4, but 'config.seed' 0"
    answer = run("table", "1", "--markdown")
    assert answer.status == 0
    assert answer.err.startswith(f"se3t: table: left out: {reason}")
    assert f"- Left out: {reason}" in answer.out
    alone = run("table", "1", "runs/a")
    assert (alone.status, alone.out) == (2, "")
    for told in (answer.err, alone.err):
        assert len(told.splitlines()) == 1
        assert reason in told
