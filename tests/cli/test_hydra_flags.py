"""What Hydra offers beside running a job, and the guard for its parser on Python 3.14."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from se3t.cli.hydra_app import _tolerant_help
from se3t.cli.main import main
from se3t.config import to_config
from se3t.config.compose import compose

from .conftest import Run


def test_cfg_job_prints_the_configuration_and_runs_nothing(run: Run) -> None:
    answer = run("train", "model=tfn", "--cfg", "job", "trainer.max_steps=7")
    assert (answer.status, answer.err, answer.files) == (0, "", [])
    config = yaml.safe_load(answer.out)
    assert config["model"]["name"] == "tfn"
    assert config["trainer"]["max_steps"] == 7
    assert "hydra" not in config


def values_and_origins(text: str) -> dict[str, tuple[str, str]]:
    """Value and comment of each setting, as printed, by dotted name."""
    found, group = {}, ""
    for line in text.splitlines():
        name, _, rest = line.strip().partition(":")
        value, _, origin = rest.partition("  # ")
        group = group if line.startswith(" ") else f"{name}."
        found[f"{group}{name}" if line.startswith(" ") else name] = (value.strip(), origin)
    return found


def test_every_value_of_cfg_job_says_where_it_comes_from(run: Run) -> None:
    words = ["experiment=qm9", "task=gap", "seed=1", "optim.weight_decay=0.1", "logger.tags=[a,b]"]
    answer = run("train", *words, "--cfg", "job")
    assert to_config(yaml.safe_load(answer.out)) == to_config(compose("train", words))
    found = values_and_origins(answer.out)
    expected = {
        "experiment": ("qm9", "command line"),
        "preset": ("released", "experiment/qm9.yaml"),
        "seed": ("1", "command line"),
        "data.name": ("qm9", "experiment/qm9.yaml"),
        "data.graph": ("bonds", "default"),
        "task.target": ("gap", "command line"),
        "model.name": ("se3_transformer", "experiment/qm9.yaml"),
        "model.channels": ("32", "recipe/qm9/se3_transformer.yaml"),
        "model.skip": ("cat", "default"),
        "optim.lr": ("0.001", "budget/qm9/released.yaml"),
        "optim.weight_decay": ("0.1", "command line"),
        "optim.clip_norm": ("null", "default"),
        "logger.tags": ("", "command line"),
    }
    assert {name: found[name] for name in expected} == expected
    groups = {name for name, (value, origin) in found.items() if not value and not origin}
    assert groups == {"data", "task", "model", "optim", "trainer", "logger", "logger.- a", "logger.- b"}


def test_origins_follow_a_folder_of_the_user_and_the_settings_of_one_preset_and_model(run: Run, tmp_path: Path) -> None:
    for name, text in {
        "budget/nbody/mine": "trainer:\n  max_steps: 5",
        "recipe/nbody/mine/tfn": "model:\n  channels: 6",
    }.items():
        path = tmp_path / "more" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(f"# @package _global_\n{text}\n")
    more = str(tmp_path / "more")
    found = values_and_origins(run("train", "model=tfn", "preset=mine", "--config-dir", more, "--cfg", "job").out)
    assert found["trainer.max_steps"] == ("5", f"{more}/budget/nbody/mine.yaml")
    assert found["model.channels"] == ("6", f"{more}/recipe/nbody/mine/tfn.yaml")
    assert found["optim.lr"] == ("0.006", "recipe/nbody/tfn.yaml")
    assert found["data.name"] == ("nbody", "experiment/nbody.yaml")
    assert found["model.name"] == ("tfn", "command line")


@pytest.mark.parametrize(
    ("old", "new"), [("tuned", "recipe/<experiment>/<model>"), ("budget/model", "<preset>/<model>")]
)
def test_a_folder_laid_out_as_in_earlier_versions_is_refused_with_the_new_names(
    run: Run, tmp_path: Path, old: str, new: str
) -> None:
    (tmp_path / "more" / old).mkdir(parents=True)
    answer = run("train", "--config-dir", "more", "--cfg", "job")
    assert answer.status == 2
    assert f"{old} is no longer read; rename its files to" in answer.err
    assert new in answer.err


def test_cfg_of_all_and_of_one_package_can_be_read(run: Run) -> None:
    settings = yaml.safe_load(run("train", "--cfg", "all", "seed=2").out)
    assert (settings["seed"], settings["hydra"]["run"]["dir"]) == (2, ".")
    answer = run("eval", "checkpoint=a # b", "--cfg", "job")
    assert yaml.safe_load(answer.out)["checkpoint"] == "a # b"
    long = " ".join(["a long text"] * 20)  # YAML folds it
    answer = run("train", f"logger.group={long}", "--cfg", "job", "-p", "logger")
    assert yaml.safe_load(answer.out)["group"] == long
    assert "  # command line" in answer.out


def test_a_file_that_is_not_yaml_is_named_with_its_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("trainer:\n  max_steps: [1\nseed: 1\n", encoding="utf-8")
    answer = run("train", "--config-dir", "mine", "experiment=mine")
    assert answer.status == 2
    assert f"{file}, line 3: is not valid YAML" in answer.err
    assert len(answer.err.splitlines()) == 1


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
        ("train model=s", {"model=schnet", "model=se3_transformer", "model=set_transformer", "model=spidercnn"}),
        ("train trainer.max", {"trainer.max_steps=", "trainer.max_time="}),
        ("train seed=1 prese", {"preset="}),
        ("eval check", {"checkpoint="}),
    ],
)
def test_hydra_completes_the_settings_of_a_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, line: str, expected: set[str]
) -> None:
    command, _, settings = line.partition(" ")
    monkeypatch.setenv("COMP_LINE", f"se3t {settings}")  # as the script of se3t completion asks
    answer = run(command, "-sc", "query=bash")
    assert set(answer.out.split()) == expected


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
