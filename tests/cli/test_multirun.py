"""``-m``: jobs one after another; a failed one stops no other; failures are listed at the end."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from se3t.config import Config
from se3t.errors import UserError

from .conftest import Run

_LINE = ["experiment=nbody", "model=tfn", "model.num_degrees=3", "seed=1,2,3"]
_PAIR = ["model=tfn", "seed=1,2"]


class Recorder:
    """Stands in for training and for its tables: notes what it was asked to do, and fails for chosen seeds."""

    def __init__(self) -> None:
        self.configs: list[Config] = []
        self.argv: list[list[str]] = []
        self.folders: list[Path] = []
        self.errors: dict[int, Exception] = {}
        self.tabulated: list[Path] = []

    def train(self, config: Config, **given: object) -> Path:
        self.configs.append(config)
        self.argv.append(list(sys.argv))
        self.folders.append(Path.cwd())
        if config.seed in self.errors:
            raise self.errors[config.seed]
        return Path(f"{config.seed}/result.json")

    def render_tables(self, results: list[Path]) -> list[Any]:
        self.tabulated += results
        return []


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr("se3t.training.train.train", recorder.train)
    monkeypatch.setattr("se3t.reporting.tables.build.render_tables", recorder.render_tables)
    return recorder


@pytest.mark.parametrize("place", [0, 3])
def test_the_flag_works_wherever_it_stands(run: Run, train: Recorder, place: int) -> None:
    answer = run("train", *_LINE[:place], "-m", *_LINE[place:])
    assert answer.status == 0, answer.err
    assert [config.seed for config in train.configs] == [1, 2, 3]
    assert all(config.model.name == "tfn" and config.model.num_degrees == 3 for config in train.configs)
    assert [str(path) for path in train.tabulated] == ["1/result.json", "2/result.json", "3/result.json"]


def test_hydra_leaves_no_files_and_the_process_as_it_was(run: Run, train: Recorder, tmp_path: Path) -> None:
    before = dict(os.environ)
    assert run("train", *_PAIR, "-m").files == []
    assert run("train").files == []
    assert set(train.folders) == {tmp_path}
    assert dict(os.environ) == before
    assert sys.argv == ["/somewhere/bin/se3t"]


def test_argv_inside_a_job_is_the_line_as_typed(run: Run, train: Recorder) -> None:
    run("train", "seed=1", "model=tfn")
    run("train", *_PAIR, "-m")
    assert train.argv[0] == ["/somewhere/bin/se3t", "train", "seed=1", "model=tfn"]
    assert train.argv[1:] == [["/somewhere/bin/se3t", "train", *_PAIR, "-m"]] * 2


@pytest.mark.parametrize(
    ("error", "status"), [(UserError("no luck"), 2), (OSError("disk full"), 1), (TypeError("a fault"), 1)]
)
def test_a_failed_job_stops_no_other(run: Run, train: Recorder, error: Exception, status: int) -> None:
    train.errors = {2: error}
    answer = run("train", *_LINE, "-m")
    assert answer.status == status
    assert [config.seed for config in train.configs] == [1, 2, 3]
    assert "se3t: 1 of 3 jobs failed\n  seed=2: " in answer.err
    assert str(error) in answer.err.splitlines()[-1]
    assert ("Traceback" in answer.err) == isinstance(error, TypeError)
    assert [str(path) for path in train.tabulated] == ["1/result.json", "3/result.json"]


def test_failures_of_one_cause_share_a_line(run: Run, train: Recorder) -> None:
    train.errors = {1: UserError("no luck"), 3: UserError("no luck")}
    answer = run("train", *_LINE, "-m")
    assert answer.err.splitlines()[-2:] == ["se3t: 2 of 3 jobs failed", "  seed=1, seed=3: no luck"]


def test_a_signal_stops_all_jobs_and_says_which_are_left(run: Run, train: Recorder, monkeypatch: Any) -> None:
    def interrupted(config: Config, **given: object) -> Path:
        if config.seed == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        return train.train(config)

    monkeypatch.setattr("se3t.training.train.train", interrupted)
    train.errors = {2: UserError("no luck")}
    answer = run("train", "model=tfn", "-m", "seed=1,2,3,4,5")
    assert answer.status == 143
    assert answer.err.splitlines()[-1] == (
        "se3t: ended by SIGTERM; finished: seed=1; failed: seed=2; interrupted: seed=3; not started: seed=4, seed=5; "
        "continue with: se3t train model=tfn -m seed=1,2,3,4,5 resume=true"
    )
    assert [str(path) for path in train.tabulated] == ["1/result.json"]


def test_a_job_out_of_range_fails_alone(run: Run, train: Recorder) -> None:
    answer = run("train", "-m", "trainer.max_steps=0,5")
    assert answer.status == 2
    assert [config.trainer.max_steps for config in train.configs] == [5]


def test_a_time_is_taken_as_typed_alone_as_one_of_several_and_from_a_preset(
    run: Run, train: Recorder, tmp_path: Path
) -> None:
    for folder, text in {"budget/nbody": "trainer:\n  max_time: 00:10:00"}.items():
        (tmp_path / "more" / folder).mkdir(parents=True)
        (tmp_path / "more" / folder / "brief.yaml").write_text(f"# @package _global_\n{text}\n")
    assert run("train", "trainer.max_time=00:10:00").status == 0
    assert run("train", "-m", "trainer.max_time=00:10:00,01:00:00").status == 0
    assert run("train", "--config-dir", str(tmp_path / "more"), "preset=brief").status == 0
    times = [config.trainer.max_time for config in train.configs]
    assert times == ["00:10:00", "00:10:00", "01:00:00", "00:10:00"]


def test_a_folder_with_a_file_of_its_own_for_the_preset_is_taken_as_well(
    run: Run, train: Recorder, tmp_path: Path
) -> None:
    for folder, text in {"preset": "preset: word\nseed: 5", "budget/nbody": "trainer:\n  max_steps: 3"}.items():
        (tmp_path / "more" / folder).mkdir(parents=True)
        (tmp_path / "more" / folder / "word.yaml").write_text(f"# @package _global_\n{text}\n")
    assert run("train", "--config-dir", str(tmp_path / "more"), "preset=word").status == 0
    (config,) = train.configs
    assert (config.preset, config.seed, config.trainer.max_steps) == ("word", 5, 3)


def test_devices_of_a_preset_are_refused_as_well(run: Run, train: Recorder, tmp_path: Path) -> None:
    for folder, text in {"budget/nbody": "trainer:\n  devices: 2"}.items():
        (tmp_path / "more" / folder).mkdir(parents=True)
        (tmp_path / "more" / folder / "two.yaml").write_text(f"# @package _global_\n{text}\n")
    answer = run("train", "--config-dir", str(tmp_path / "more"), "preset=two", "-m", "seed=1,2")
    assert answer.status == 2
    assert train.configs == []
    assert "trainer.devices=2 cannot be combined with -m" in answer.err


def test_eval_takes_several_checkpoints(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def evaluate(checkpoint: str, *given: object, **options: object) -> None:
        seen.append(checkpoint)
        raise UserError(f"{checkpoint}: missing")

    monkeypatch.setattr("se3t.measure.evaluate.evaluate", evaluate)
    assert run("eval", "checkpoint=a,b", "-m").status == 2
    assert seen == ["a", "b"]
