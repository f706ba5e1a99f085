"""What Hydra offers beside running a job, and the guard for its parser on Python 3.14."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from se3t.cli.hydra_app import _tolerant_help
from se3t.cli.main import main

from .conftest import Run


def test_cfg_job_prints_the_configuration_and_runs_nothing(run: Run) -> None:
    answer = run("train", "model=tfn", "--cfg", "job", "trainer.max_steps=7")
    assert (answer.status, answer.err, answer.files) == (0, "", [])
    config = yaml.safe_load(answer.out)
    assert config["model"]["name"] == "tfn"
    assert config["trainer"]["max_steps"] == 7
    assert "hydra" not in config


def test_cfg_of_one_package(run: Run) -> None:
    answer = run("train", "--cfg", "job", "-p", "model", "model=deepset")
    assert yaml.safe_load(answer.out)["name"] == "deepset"


def test_info_of_hydra_answers(tmp_path: Path) -> None:
    # In a process of its own, because Hydra leaves a handler behind in the logging of this one.
    command = [sys.executable, "-m", "se3t", "train", "--info", "defaults", "model=tfn"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| model/tfn " in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("se3t train model=s", {"model=schnet", "model=se3_transformer", "model=set_transformer", "model=spidercnn"}),
        ("se3t train trainer.max", {"trainer.max_steps=", "trainer.max_time="}),
        ("se3t train seed=1 prese", {"preset="}),
        ("se3t eval check", {"checkpoint="}),
    ],
)
def test_completion_sees_the_line_without_the_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, line: str, expected: set[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    answer = run(line.split()[1], "-sc", "query=bash")
    assert set(answer.out.split()) == expected
    assert os.environ["COMP_LINE"] == line


def test_a_help_text_that_is_no_text_passes_the_check_of_python_3_14(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Any] = []

    def check(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        checked.append(action.help)
        assert "%" not in (action.help or "")  # as Python does: fails for what is not a text

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check, raising=False)
    parser = argparse.ArgumentParser()
    lazy = argparse.Action(["--lazy"], "lazy", help=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        parser._check_help(lazy)  # type: ignore[attr-defined]
    with _tolerant_help():
        parser._check_help(lazy)  # type: ignore[attr-defined]
        parser._check_help(argparse.Action(["--text"], "text", help="a text"))  # type: ignore[attr-defined]
    assert checked[-1] == "a text"
    assert argparse.ArgumentParser._check_help is check  # type: ignore[attr-defined]


def test_the_parser_of_hydra_is_built_under_that_check(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    add = argparse.ArgumentParser.add_argument

    def add_and_check(self: argparse.ArgumentParser, *names: Any, **options: Any) -> argparse.Action:
        action = add(self, *names, **options)
        self._check_help(action)  # type: ignore[attr-defined]
        return action

    def check(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        if action.help is not None:
            "%" in action.help  # noqa: B015  (fails for what is not a text)

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", add_and_check)
    assert main(["train", "--cfg", "job"]) == 0
