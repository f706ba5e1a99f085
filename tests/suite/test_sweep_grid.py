"""Grids: all combinations, once each, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from se3t.config import Config
from se3t.errors import UserError
from se3t.reporting.sweep_record import SweepRecord, read_record
from se3t.runs import RunFolder
from se3t.suite.pool import Watch
from se3t.suite.specification import Specification, specify
from se3t.suite.sweep import kept, plan, run

from .sweep_fakes import WORDS, FakeLauncher, prepare, quick_folder, specified, write_result


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with quick_folder(monkeypatch) as path:
        yield path


def grid(*words: str, seeds: Sequence[int] = (0, 1)) -> Specification:
    found = specified(words or ("sweep=lr",), tuple(seeds), None, "")
    prepare(found.job(next(found.combinations()), 0))
    return found


def execute(spec: Specification, launcher: FakeLauncher) -> SweepRecord:
    return run(spec, launcher, 2, Watch(), print)


def test_a_grid_trains_every_combination_with_every_seed() -> None:
    spec, launcher = grid(), FakeLauncher()
    found = execute(spec, launcher)
    assert [trial.parameters for trial in found.trials] == [{"optim.lr": lr} for lr in (0.0003, 0.001, 0.003, 0.01)]
    assert {trial.state for trial in found.trials} == {"finished"}
    assert [len(trial.values) for trial in found.trials] == [2] * 4
    assert len(launcher.started) == 8
    best = found.ranking()[0]
    assert best.parameters == {"optim.lr": 0.003}
    assert best.value == pytest.approx(0.255)
    assert best.spread == pytest.approx(0.005 * 2**0.5)
    assert read_record(spec.folder) == found == plan(spec)


def test_the_same_line_again_reports() -> None:
    spec = grid()
    first, launcher = execute(spec, FakeLauncher()), FakeLauncher()
    assert execute(spec, launcher) == first
    assert launcher.started == []


def test_a_run_that_is_finished_elsewhere_is_taken_as_it_is() -> None:
    spec, launcher = grid(), FakeLauncher()
    write_result(spec.job({"optim.lr": 0.01}, 1), {"loss": 0.0078125})
    found = execute(spec, launcher)
    assert len(launcher.started) == 7
    assert 0.0078125 in found.trials[3].values


def test_a_run_that_another_process_finishes_after_the_first_look_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = grid()

    @contextmanager
    def slow(spec: Specification) -> Iterator[None]:
        with kept(spec):
            write_result(spec.job({"optim.lr": 0.01}, 1), {"loss": 0.0078125})
            yield

    monkeypatch.setattr("se3t.suite.sweep.kept", slow)
    found = execute(spec, FakeLauncher())
    assert {trial.state for trial in found.trials} == {"finished"}
    assert 0.0078125 in found.trials[3].values
    assert read_record(spec.folder) == found


def test_an_interrupted_grid_goes_on_and_ends_alike() -> None:
    spec = grid()
    whole = [trial.values for trial in execute(grid(seeds=(0, 1)), FakeLauncher()).trials]
    for path in Path("runs").glob("nbody/**/result.json"):
        path.unlink()
    for path in Path("runs").glob("nbody/**/metrics.jsonl"):
        path.unlink()
    broken = FakeLauncher(interrupt_at=11)
    with pytest.raises(KeyboardInterrupt):
        execute(spec, broken)
    assert broken.stopped
    assert all(run.state != "running" for trial in read_record(spec.folder).trials for run in trial.runs)
    done = {job.folder for job in broken.finished}
    assert done
    rest = FakeLauncher()
    found = execute(spec, rest)
    assert not done & {job.folder for job in rest.started}
    assert [trial.values for trial in found.trials] == whole


def test_failures_stop_nothing_and_are_tried_again() -> None:
    spec = grid()
    found = execute(spec, FakeLauncher(fails=lambda config: config.optim.lr == 0.01 and config.seed == 1))
    assert [trial.state for trial in found.trials] == ["finished"] * 3 + ["failed"]
    (failed,) = [run for run in found.trials[3].runs if run.state == "failed"]
    assert failed.seed == 1
    assert "the training loss became nan" in failed.reason
    assert Path(failed.log).exists()
    assert found.ranking()[0].state == "finished"
    again = FakeLauncher()
    assert {trial.state for trial in execute(spec, again).trials} == {"finished"}
    assert len(again.started) == 1


def test_a_combination_that_is_refused_is_a_failed_trial() -> None:
    spec = grid("optim.lr=0.001,-1")
    found = execute(spec, FakeLauncher())
    assert [trial.state for trial in found.trials] == ["finished", "failed"]
    assert "optim.lr=-1.0 is out of range" in found.trials[1].reason


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["optim.lr=-1,-2"], "optim.lr=-1.0 is out of range"),
        (["optim.lr=1,1.0"], "optim.lr=1.0 and optim.lr=1 are the same run"),
        (["optim.lr=a,b"], "optim.lr=a: wrong type; expected a number"),
    ],
)
def test_a_grid_that_cannot_be_trained_writes_nothing(words: list[str], named: str) -> None:
    with pytest.raises(UserError, match=named):
        execute(specify([*WORDS, *words]), FakeLauncher())
    assert not Path("runs").exists()


def test_a_metric_that_validation_lacks_is_named() -> None:
    Path("mine.yaml").write_text("objective: mea\nparameters: {optim.lr: [0.1]}\n")
    found = execute(grid("sweep=mine.yaml"), FakeLauncher())
    assert found.trials[0].state == "failed"
    assert "no metric 'mea'; objective.metric is one of loss, mse_x" in found.trials[0].runs[0].reason


def test_a_sweep_is_run_by_one_process_at_a_time() -> None:
    spec = grid()
    with RunFolder(spec.folder).exclusive(), pytest.raises(UserError, match="another process runs this sweep"):
        execute(spec, FakeLauncher())


def test_a_plan_writes_nothing() -> None:
    found = plan(specify([*WORDS, "sweep=lr"]))
    assert {trial.state for trial in found.trials} == {"waiting"}
    assert list(Path().iterdir()) == []


def test_groups_of_settings_are_parameters_too() -> None:
    def fails(config: Config) -> bool:
        return config.model.name == "tfn"

    found = execute(grid("model=tfn,deepset", seeds=(0,)), FakeLauncher(fails=fails))
    assert [trial.state for trial in found.trials] == ["failed", "finished"]


def test_trials_that_are_damaged_are_named() -> None:
    spec = grid()
    execute(spec, FakeLauncher())
    path = spec.folder / "trials.json"
    for text in ("{", "[]", json.dumps({"title": 1}), json.dumps({"trials": [{}]})):
        path.write_text(text)
        with pytest.raises(UserError, match=r"trials\.json"):
            read_record(spec.folder)
    assert len(execute(spec, FakeLauncher()).trials) == 4  # made anew from the run records
