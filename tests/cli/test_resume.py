"""``se3t train resume=<folder>`` continues the run of that folder with its own settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from se3t.config import Config, DeepSetModel
from se3t.runs import RunFolder
from se3t.runs.names import CONFIG

from .conftest import Run

FOLDER = "runs of mine/a [b], c"


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Any]]:
    """A run folder, and what is asked of the trainer."""
    calls: list[tuple[Config, Any]] = []

    def train(config: Config, folder: Path | None = None, **given: object) -> Path:
        calls.append((config, folder))
        return tmp_path / "result.json"

    monkeypatch.setattr("se3t.training.train.train", train)
    monkeypatch.setattr("se3t.reporting.tables.build.render_tables", lambda results: [])
    RunFolder(tmp_path / FOLDER).write_config(stored())
    return calls


def stored() -> Config:
    return Config(seed=3, model=DeepSetModel(width=8), preset="quick")


def test_a_run_goes_on_with_its_own_settings_in_its_folder(run: Run, seen: list[Any]) -> None:
    assert run("train", f"resume={FOLDER}").status == 0
    assert seen == [(replace(stored(), resume=True), Path(FOLDER))]


def test_settings_that_do_not_tell_runs_apart_may_change(run: Run, seen: list[Any]) -> None:
    answer = run("train", f"resume={FOLDER}", "trainer.max_steps=200000", "logger.tags=[a,b]", "trainer.threads=2")
    assert answer.status == 0, answer.err
    ((config, _),) = seen
    assert (config.trainer.max_steps, config.logger.tags, config.trainer.threads) == (200000, ["a", "b"], 2)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("optim.lr=1", "optim.lr: identifies this run"),
        ("model=tfn", "model=tfn: cannot be combined with resume=runs of mine"),
        ("seed=4", "seed=4: cannot be combined with"),
        ("runs=elsewhere", "runs=elsewhere: cannot be combined with"),
        ("-m", "-m: cannot be combined with"),
        ("trainer.steps=4", "trainer.steps: no such setting"),
        ("trainer.max_steps=many", "trainer.max_steps=many: wrong type"),
        ("trainer.max_steps=", "trainer.max_steps=: wrong type"),
        ("logger.tags=[a", "logger.tags=[a: "),
    ],
)
def test_other_words_are_refused(run: Run, seen: list[Any], word: str, says: str) -> None:
    answer = run("train", f"resume={FOLDER}", word)
    assert (answer.status, answer.err.count("\n"), seen) == (2, 1, [])
    assert says in answer.err


def test_an_interpolation_in_a_stored_setting_is_not_resolved(
    run: Run, seen: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    path = tmp_path / FOLDER / CONFIG
    path.write_text(path.read_text().replace("project: se3t", "project: ${oc.env:SECRET}"))
    answer = run("train", f"resume={FOLDER}")
    assert (answer.status, answer.err.count("\n"), seen) == (2, 1, [])
    assert "its setting logger.project is '${oc.env:SECRET}'; expected a plain value" in answer.err


@pytest.mark.parametrize(
    ("text", "says"), [(None, "there is no"), ("a: [", "cannot be read"), ("- a", "holds no settings")]
)
def test_a_folder_without_settings_is_refused(
    run: Run, seen: list[Any], tmp_path: Path, text: str | None, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    if text is not None:
        (tmp_path / "empty" / CONFIG).write_text(text)
    answer = run("train", "resume=empty")
    assert (answer.status, answer.err.count("\n"), seen) == (2, 1, [])
    assert says in answer.err
    assert "empty/config.yaml" in answer.err


def test_true_is_no_folder(run: Run, seen: list[Any]) -> None:
    assert run("train", "resume=true").status == 0
    ((config, folder),) = seen
    assert (config.resume, folder) == (True, None)
