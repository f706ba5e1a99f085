"""Help, version, unknown commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import se3t
from se3t import signals
from se3t.cli.help import COMMANDS, choices

from .conftest import Run

SE3T = [sys.executable, "-m", "se3t"]
_HELP_OF_EVERYTHING = """
import sys
import time
from se3t.cli.main import main
for words in (["--help"], [], ["--version"], *([command, "--help"] for command in sys.argv[1:])):
    assert main(words) == 0, words
slow = {"torch", "lightning", "hydra", "omegaconf", "numpy", "rich"} & set(sys.modules)
assert not slow, slow
"""


def test_help_and_version_import_nothing_slow(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HELP_OF_EVERYTHING, *COMMANDS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_help_lists_every_command_with_examples(run: Run) -> None:
    answer = run("--help")
    assert answer.status == 0
    assert "examples:" in answer.out
    assert all(f"\n  {name} " in answer.out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(run: Run, command: str) -> None:
    for flag in ("--help", "-h"):
        answer = run(command, "seed=1", flag)
        assert answer.status == 0
        assert answer.out.startswith("usage: se3t ")
        assert "examples:\n" in answer.out
        assert "{" not in answer.out


def test_help_of_train_lists_the_choices_of_every_group(run: Run) -> None:
    out = run("train", "--help").out
    for group in ("experiment", "model", "preset", "data"):
        assert f"{group}={' | '.join(choices(group))}" in out


def test_help_of_eval_names_its_settings(run: Run) -> None:
    out = run("eval", "--help").out
    assert all(setting in out for setting in ("split=", "data.root=", "trainer.precision="))


def test_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").out == f"se3t {se3t.__version__}\n"


@pytest.mark.parametrize(("word", "near"), [("trian", "train"), ("evla", "eval"), ("docter", "doctor")])
def test_unknown_command_suggests_the_nearest(run: Run, word: str, near: str) -> None:
    answer = run(word, "seed=1")
    assert answer.status == 2
    assert f"{word!r} is not a command; did you mean {near!r}?" in answer.err
    assert answer.err.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(config: object, **given: object) -> None:
        raise TypeError("a fault")

    monkeypatch.setattr("se3t.training.train.train", fault)
    with pytest.raises(TypeError, match="a fault"):
        run("train")


def test_an_error_of_a_library_says_how_to_find_its_place(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(config: object, **given: object) -> None:
        raise ValueError("shapes differ")

    monkeypatch.setattr("se3t.training.train.train", fault)
    assert run("train").err == "se3t: shapes differ (SE3T_DEBUG=1 shows where)\n"


def test_debug_shows_the_traceback_of_a_user_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SE3T_DEBUG", "1")
    with pytest.raises(se3t.errors.UserError, match="max_steps=0"):
        run("train", "trainer.max_steps=0")


def test_interrupt_says_how_to_continue(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(config: object, **given: object) -> None:
        with signals.advice(lambda: "continue with: se3t train resume=here"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    monkeypatch.setattr("se3t.training.train.train", interrupt)
    answer = run("train")
    assert answer.status == 130
    assert answer.err == "\nse3t: interrupted; continue with: se3t train resume=here\n"


def test_an_interrupt_without_advice_is_one_word(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(words: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("se3t.cli.doctor.run", interrupt)
    answer = run("doctor")
    assert answer.status == 130
    assert answer.err.strip() == "se3t: interrupted"


@pytest.mark.parametrize("settings", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "LC_ALL": "C"}])
def test_a_terminal_of_few_characters_gets_others(settings: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run([*SE3T, "table", "1"], capture_output=True, cwd=tmp_path, env={**os.environ, **settings})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?_EQ" in done.stdout


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    for command in ([*SE3T, "table", "1"], [*SE3T, "--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path)
        os.close(writing)
        assert done.stderr == b""
