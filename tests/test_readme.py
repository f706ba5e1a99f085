"""What README and the pages of docs tell a user to type exists and is understood."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import COMMAND, FLAGS, WHAT
from se3t.cli import bench, check_golden, convert, export, figure, predict, report, sweep, table
from se3t.cli.arguments import split_flags
from se3t.cli.help import COMMANDS, choices, help_text
from se3t.config import TARGETS, to_config, to_eval_config
from se3t.config.compose import compose
from se3t.suite.specification import specify

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = [_ROOT / "README.md", *(page for page in sorted((_ROOT / "docs").glob("*.md")) if "add_a_" not in page.name)]
_TEXT = "\n".join(page.read_text(encoding="utf-8") for page in _PAGES)  # test_docs.py runs the pages "add a …"
_HELP = "\n".join(map(help_text, COMMANDS))


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _TEXT, re.MULTILINE | re.DOTALL)


def _lines() -> list[str]:
    typed = [line for block in _blocks("bash") for line in block.splitlines()]
    # Examples of --help: the command ends where an explanation begins, two spaces further on.
    typed += [line.strip().split("  ")[0] for line in _HELP.split("\n") if line.startswith("  se3t ")]
    return sorted(set(typed))


@pytest.mark.parametrize("line", _lines())
def test_every_command_that_is_shown_is_understood(line: str) -> None:
    words = shlex.split(line)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (_ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "se3t":
        _check(words[1], words[2:])
    elif words[:3] == ["python", "-m", "benchmarks"]:
        bench.parse(words[3:], WHAT, FLAGS, COMMAND)
    else:
        assert os.access(_ROOT / words[0], os.X_OK), f"{words[0]} is not a script of this repository"


def _check(command: str, words: list[str]) -> None:
    assert command in COMMANDS
    if command == "train":
        overrides = split_flags(words)[1]
        for word in overrides:  # one value of each sweep
            key, _, value = word.partition("=")
            overrides[overrides.index(word)] = f"{key}={value.split(',')[0]}"
        overrides = [word for word in overrides if not word.startswith("resume=runs/")]  # of a run that is not there
        to_config(compose("train", overrides))
    elif command == "eval":
        experiments = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
        assert set(experiments) <= set(choices("experiment"))
        rest = [word for word in words if not word.startswith(("experiment=", "task="))]
        to_eval_config(compose("eval", [f"checkpoint={word}" if word.startswith("runs/") else word for word in rest]))
    elif command == "data":
        assert words[0] == "prepare"
        assert words[1] in choices("data")
        to_config(compose("train", [f"data={words[1]}", *words[2:]]))
    elif command == "bench":
        bench.parse(words)
    elif command == "figure":
        figure.parser(words[0]).parse_intermixed_args(words[1:])
    elif command == "table":
        table.parser().parse_intermixed_args(words)
    elif command == "sweep":
        given = sweep.parse(words)
        if given.arguments:
            specify(given.arguments, given.seeds, given.trials)
    elif command == "report":
        report.parser().parse_intermixed_args(words)
    elif command in ("convert", "check-golden"):
        {"convert": convert, "check-golden": check_golden}[command].parser().parse_args(words)
    elif command in ("predict", "export"):
        {"predict": predict, "export": export}[command].parser().parse_intermixed_args(words)


def test_choices_of_the_table_of_settings_are_those_of_conf() -> None:
    for group in ("experiment", "model", "preset"):
        row = re.search(rf"^\| `{group}=` \|(.*)\|$", _TEXT, re.MULTILINE)
        assert row is not None
        assert sorted(set(re.findall(r"`(\w+)`", row[1]))) == choices(group)
    row = re.search(r"^\| `task=` \|(.*)\|$", _TEXT, re.MULTILINE)
    assert row is not None
    assert set(re.findall(r"`(\w+)`", row[1])) == {*TARGETS, "all"}


def _run(word: str) -> dict[str, Any]:
    """What the python block with that word in it leaves behind."""
    (code,) = [block for block in _blocks("python") if word in block]
    names: dict[str, Any] = {}
    exec(compile(code, "page", "exec"), names)
    return names


def test_the_example_of_a_model_runs(capsys: pytest.CaptureFixture[str]) -> None:
    output = _run("equivariance_error")["output"]
    assert isinstance(output, dict)
    assert {degree: tuple(value.shape) for degree, value in output.items()} == {0: (32, 1, 1), 1: (32, 2, 3)}
    errors = re.findall(r"\d: ([\d.e+-]+)", capsys.readouterr().out)
    assert len(errors) == 2
    assert all(float(error) < 1e-5 for error in errors)


def test_the_example_of_a_drop_in_runs() -> None:
    names = _run("se3t.compat.nvidia")
    output, model = names["output"], names["model"]
    assert {degree: tuple(value.shape) for degree, value in output.items()} == {"0": (20, 8, 1), "1": (20, 2, 3)}
    assert "graph_modules.0.to_key_value.conv.0,0.radial_func.net.0.weight" in model.state_dict()
    with torch.no_grad():
        native = names["native"](names["graph_of"])
    for degree, value in output.items():
        torch.testing.assert_close(native[int(degree)], value.detach(), rtol=1e-4, atol=1e-5)
