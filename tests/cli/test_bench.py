"""``se3t bench``: words, files, errors. What is measured is tested in tests/bench."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmarks.__main__ import FLAGS
from benchmarks.__main__ import WHAT as ALL
from se3t.cli import bench
from se3t.cli.bench import WHAT, parse, parser
from se3t.cli.help import help_text

from .conftest import Run

HELP = help_text("bench")
EXAMPLES = re.findall(r"^  se3t bench (.*)$", HELP, re.MULTILINE)


def test_table_and_json_are_written_where_asked(run: Run, tmp_path: Path) -> None:
    words = "bench sh --quick --contenders se3t scipy --max-degree 1 --num-vectors 50 --json out/a.json"
    answer = run(*words.split())
    assert (answer.status, answer.err) == (0, "")
    assert all(word in answer.out for word in ("Spherical harmonics", "scipy", "ratio", "written: out/a.json"))
    content = json.loads((tmp_path / "out/a.json").read_text(encoding="utf-8"))
    assert content["benchmark"] == "sh"
    assert content["settings"]["quick"] is True
    assert len(content["rows"]) == 2 * 2 + 2


def test_files_without_a_name_go_where_results_are_kept(run: Run, tmp_path: Path) -> None:
    answer = run("bench", "sh", "--quick", "--contenders", "se3t", "--max-degree", "0", "--num-vectors", "5", "--json")
    assert answer.status == 0
    assert (tmp_path / "benchmarks/results/sh-cpu.json").is_file()


def test_nothing_is_written_unless_asked(run: Run) -> None:
    assert run("bench", "sh", "--quick", "--contenders", "se3t", "--max-degree", "0", "--num-vectors", "5").files == []


@pytest.mark.parametrize(
    "words",
    [
        "layer --sweep degrees",
        "clouds",
        "tiles --device cuda --seconds 120",
        "step --adapter other.py",
        "step --plot step.png",
        "step --contenders edge_frame e3nn",
        "step --contenders peer",
        "sh --contenders se3t sphericart",
    ],
)
def test_comparisons_with_others_are_answered_with_their_command(run: Run, words: str) -> None:
    answer = run("bench", *words.split())
    assert answer.status == 2
    assert f"from a checkout of the repository: python -m benchmarks {words}" in answer.err
    assert parse(words.split(), ALL, FLAGS).what == words.split()[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "bench: what to measure is missing; known: "),
        ("stpe", "bench: 'stpe' is unknown; did you mean 'step'?"),
        ("step --workload qm8", "workload 'qm8' is not known; did you mean 'qm9'?"),
        ("step --contenders edgeframe", "contender 'edgeframe' is not known; did you mean 'edge_frame'?"),
        ("step --repetition 3", "--repetition is unknown; did you mean '--repetitions'?"),
        ("step --repetitions none", "got 'none', expected a whole number of at least 1"),
        ("scaling --stores x", "bench scaling: --stores is unknown"),
        ("scaling --sweep pints", "sweep 'pints' is not known; did you mean 'points'?"),
        ("sh --contenders scify", "implementation 'scify' is not known; did you mean 'scipy'?"),
        ("data --stores nbdy", "store 'nbdy' is not known; did you mean 'nbody'?"),
        ("memory --contenders nativ", "contender 'nativ' is not known"),
        ("step --device gpu", "device 'gpu': expected cpu or cuda"),
        ("step --seed 9223372036854775808", "seed=9223372036854775808: expected a whole number between"),
        ("step --json ..", "..: is a folder; expected the name of a file"),
        ("scaling --max-edges 9", "max_edges=9: expected at least 1000"),
        ("memory --contenders native-low", "contender 'native-low': only edge_frame and auto have the endings"),
    ],
)
def test_what_is_wrong_is_one_sentence(run: Run, words: str, message: str) -> None:
    answer = run("bench", *words.split())
    assert answer.status == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert answer.files == []


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "note").touch()
    monkeypatch.setattr(bench, "measure", lambda *arguments: pytest.fail("it was measured"))
    answer = run("bench", "sh", "--json", "note/a.json")
    assert (answer.status, answer.files) == (2, ["note"])
    assert "note/a.json: cannot be written" in answer.err


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_of_the_help_are_understood(line: str) -> None:
    assert parse(shlex.split(line)).what in WHAT


def test_help_names_every_benchmark_and_every_flag() -> None:
    assert set(WHAT) <= set(re.findall(r"^  (\w+) ", HELP, re.MULTILINE))
    flags = {flag for what in WHAT for action in parser(what)._actions for flag in action.option_strings}
    assert flags == set(re.findall(r"--[a-z-]+", HELP.split("flags of all:")[1]))
