"""Searches: proposals, early stops, and going on after every kind of end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from se3t.config import Config
from se3t.errors import UserError
from se3t.reporting.sweep_record import SweepRecord, TrialRun, read_record
from se3t.suite.pool import Watch
from se3t.suite.spaces import Sweep, Values
from se3t.suite.specification import Specification, specify
from se3t.suite.study import Study
from se3t.suite.sweep import run

from .sweep_fakes import WORDS, FakeLauncher, prepare, quick_folder, specified

pytest.importorskip("optuna")
FILE = """
search: tpe
trials: 3
parameters:
  optim.lr: {low: 1e-4, high: 1e-1, log: true}
  model.width: [16, 64]
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with quick_folder(monkeypatch) as path:
        yield path


def search(text: str = FILE, trials: int | None = None, seeds: Sequence[int] | None = None) -> Specification:
    Path("mine.yaml").write_text(text, encoding="utf-8")
    found = specified(("sweep=mine.yaml",), seeds and tuple(seeds), trials, text)
    prepare(found.job({}, 0))
    return found


def execute(
    spec: Specification, launcher: FakeLauncher, workers: int = 1, told: list[str] | None = None
) -> SweepRecord:
    return run(spec, launcher, workers, Watch(), (told if told is not None else []).append)


def outcome(found: SweepRecord) -> list[tuple[Any, ...]]:
    return [(trial.parameters, trial.state, trial.values) for trial in found.trials]


def test_a_search_makes_as_many_trials_as_asked_for_and_finds_a_better_one() -> None:
    spec, told = search(trials=9), list[str]()
    found = execute(spec, FakeLauncher(), told=told)
    assert [trial.number for trial in found.trials] == list(range(9))
    assert {trial.state for trial in found.trials} == {"finished"}
    assert found.trials[0].parameters == {"optim.lr": 0.01, "model.width": 64}  # what stands in conf
    best = found.ranking()[0]
    assert best.value is not None
    assert best.value < 0.5 < (found.trials[0].value or 0)
    assert 0.001 < best.parameters["optim.lr"] < 0.01
    assert len(told) == 9
    assert f"best: trial {best.number}" in told[-1]
    assert read_record(spec.folder) == found


def test_numbers_that_are_proposed_are_short_enough_to_type() -> None:
    found = execute(search(), FakeLauncher())
    assert all(len(f"{trial.parameters['optim.lr']:.10g}") <= 10 for trial in found.trials)


def test_the_same_line_reports_and_more_trials_go_on() -> None:
    first, launcher = execute(search(), FakeLauncher()), FakeLauncher()
    assert outcome(execute(search(), launcher)) == outcome(first)
    assert launcher.started == []
    more = execute(search(trials=5), launcher)
    assert outcome(more)[:3] == outcome(first)
    assert len(launcher.started) == 2
    assert len({trial.parameters["optim.lr"] for trial in more.trials}) == 5  # no proposal is repeated


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outcome(execute(search(), FakeLauncher()))
    for look in (1, 6):
        (folder / str(look)).mkdir()
        monkeypatch.chdir(folder / str(look))
        with pytest.raises(KeyboardInterrupt):
            execute(search(), FakeLauncher(interrupt_at=look))
        rest = FakeLauncher()
        assert outcome(execute(search(), rest)) == whole
        assert len(rest.started) == 3 - (look - 1) // 4  # four looks make a training


def test_a_killed_search_goes_on_as_if_it_had_not_been(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outcome(execute(search(), FakeLauncher()))
    (folder / "other").mkdir()
    monkeypatch.chdir(folder / "other")
    spec = search()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from suite.sweep_fakes import WORDS, FakeLauncher\n"
        "from se3t.suite.pool import Watch\n"
        "from se3t.suite.specification import specify\n"
        "from se3t.suite.sweep import run\n"
        "run(specify([*WORDS, 'sweep=mine.yaml']), FakeLauncher(kill_at=7), 1, Watch(), print)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[1])], capture_output=True, check=False
    )
    assert done.returncode == -9, done.stderr
    assert [trial.state for trial in read_record(spec.folder).trials] == ["finished", "running"]
    rest = FakeLauncher()
    assert outcome(execute(spec, rest)) == whole
    assert len(rest.started) == 2


def test_what_is_lost_of_the_record_is_found_in_the_database() -> None:
    spec = search()
    whole = execute(spec, FakeLauncher())
    (spec.folder / "trials.json").unlink()
    launcher = FakeLauncher()
    assert outcome(execute(spec, launcher)) == outcome(whole)
    assert launcher.started == []


def test_trials_that_do_badly_are_stopped_early() -> None:
    text = FILE + "pruning: {method: median, startup_trials: 3, warmup_evaluations: 2}\n"
    launcher = FakeLauncher()
    found = execute(search(text, trials=7), launcher)
    stopped = [trial for trial in found.trials if trial.state == "pruned"]
    assert stopped
    assert len(launcher.stopped) == len(stopped)
    assert all(2 <= trial.history[-1][0] < 4 for trial in stopped)
    assert all(trial.value is None for trial in stopped)
    assert found.ranking()[0].state == "finished"
    again = FakeLauncher()
    assert outcome(execute(search(text, trials=7), again)) == outcome(found)
    assert again.started == []


def test_a_trial_that_was_to_be_stopped_when_all_ended_is_stopped_the_next_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = FILE + "pruning: {method: median, startup_trials: 3, warmup_evaluations: 2}\n"
    whole = execute(search(text, trials=7), FakeLauncher())
    first = next(trial for trial in whole.trials if trial.state == "pruned")
    (folder / "other").mkdir()
    monkeypatch.chdir(folder / "other")

    def ends(study: Study, number: int) -> bool:
        if should_stop(study, number):
            raise KeyboardInterrupt
        return False

    should_stop = Study.should_stop
    with monkeypatch.context() as patch:
        patch.setattr(Study, "should_stop", ends)
        with pytest.raises(KeyboardInterrupt):
            execute(search(text, trials=7), FakeLauncher())
    rest = FakeLauncher()
    found = execute(search(text, trials=7), rest)
    assert outcome(found) == outcome(whole)
    assert found.trials[first.number].history == first.history
    assert len(rest.started) == 6 - first.number


def test_hyperband_stops_trials_too() -> None:
    text = FILE + "pruning: {method: hyperband, warmup_evaluations: 1, reduction: 2}\n"
    assert execute(search(text, trials=7), FakeLauncher()).count("pruned") > 0


@pytest.mark.parametrize("own", ["", "  trainer.max_time: ['00:01:00', '00:02:00']\n"])
def test_hyperband_needs_to_know_the_steps_of_a_training(own: str) -> None:
    Path("mine.yaml").write_text(FILE + own + "pruning: {method: hyperband}\n", encoding="utf-8")
    words = [*WORDS, "sweep=mine.yaml", *([] if own else ["trainer.max_time=00:01:00"])]
    with pytest.raises(
        UserError, match=r"method=hyperband compares runs by the steps .* under trainer\.max_time; leave"
    ):
        specify(words)
    Path("mine.yaml").write_text(FILE + own + "pruning: {method: median}\n", encoding="utf-8")
    specify(words)


def test_every_seed_of_a_trial_is_trained_and_only_the_first_is_watched() -> None:
    launcher = FakeLauncher()
    found = execute(search(trials=2, seeds=(0, 1)), launcher)
    assert [job.config.seed for job in launcher.started] == [0, 1] * 2
    assert all(len(trial.values) == 2 and trial.spread is not None for trial in found.trials)
    assert all([step for step, _ in trial.history] == [1, 2, 3, 4] for trial in found.trials)


def test_trials_at_a_time_are_different_ones() -> None:
    found = execute(search(trials=6), FakeLauncher(), workers=3)
    assert found.count("finished") == 6
    assert len({tuple(trial.parameters.values()) for trial in found.trials}) == 6


def test_the_same_run_is_never_trained_twice() -> None:
    text = "search: tpe\ntrials: 5\nparameters: {model.width: [16, 64]}\n"
    launcher = FakeLauncher()
    found = execute(search(text), launcher, workers=3)
    assert found.count("finished") == 5
    assert len(launcher.started) == 2
    assert len({trial.value for trial in found.trials}) <= 2


def test_failures_are_told_and_tried_again_and_refusals_are_not() -> None:
    def fails(config: Config) -> bool:
        return config.optim.lr > 0.01

    text = FILE.replace("[16, 64]", "[16, 0]")
    found = execute(search(text, trials=6), FakeLauncher(fails=fails))
    failed = {trial.number: trial for trial in found.trials if trial.state == "failed"}
    refused = [trial for trial in failed.values() if trial.parameters["model.width"] == 0]
    trained = [trial for trial in failed.values() if trial not in refused]
    assert refused
    assert trained
    assert all("model.width=0 is out of range" in trial.reason for trial in refused)
    assert all("loss became nan" in trial.reason for trial in trained)
    launcher = FakeLauncher()
    again = execute(search(text, trials=6), launcher)
    assert len(again.trials) == 6
    assert len(launcher.started) == len(trained)
    assert again.count("failed") == len(refused)


def test_a_metric_is_maximised_where_larger_is_better() -> None:
    found = execute(search(FILE + "objective: {metric: mse_x, direction: maximize}\n", trials=4), FakeLauncher())
    values = [trial.value for trial in found.ranking()]
    assert values == sorted(values, key=lambda value: -(value or 0))


def test_settings_that_no_training_has_are_refused_before_anything_is_written() -> None:
    Path("mine.yaml").write_text(FILE, encoding="utf-8")
    with pytest.raises(UserError, match=r"trainer\.batch_size=0 is out of range"):
        execute(specify([*WORDS, "sweep=mine.yaml", "trainer.batch_size=0"]), FakeLauncher())
    assert not Path("runs").exists()


def test_a_database_that_is_damaged_is_named() -> None:
    spec = search()
    execute(spec, FakeLauncher())
    (spec.folder / "study.db").write_bytes(b"nothing of that kind" * 100)
    with pytest.raises(UserError, match=r"study\.db: cannot be used") as error:
        execute(spec, FakeLauncher())
    assert "\n" not in str(error.value)


def test_a_database_that_is_lost_on_the_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def full(*_: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    spec = search()
    monkeypatch.setattr("optuna.trial.Trial.report", full)
    with pytest.raises(UserError, match=r"study\.db: cannot be used \(.*disk is full\); fix this") as error:
        execute(spec, FakeLauncher())
    assert "\n" not in str(error.value)
    monkeypatch.undo()


def test_folders_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a?b #c%20 {d}&e=f"
    folder.mkdir()
    study = Study(folder, "one", Sweep("one", parameters={"a": Values((1, 2))}), eval_every=1, max_steps=2)
    trial = study.ask()
    trial.state, trial.runs = "finished", [TrialRun(0, "", "finished", 0.5)]
    study.end(trial)
    assert [path.name for path in folder.iterdir()] == ["study.db"]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_without_optuna_the_line_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = search()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'se3t\[sweep\]'"):
        execute(spec, FakeLauncher())
