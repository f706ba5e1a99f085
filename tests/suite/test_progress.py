"""One view of many trainings."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from tests.suite.parts import job, make_job

from se3t.experiments import task
from se3t.runs import RunFolder
from se3t.runs.names import CHECKPOINTS, METRICS
from se3t.suite.costs import Cost, Estimates, kind
from se3t.suite.jobs import Job
from se3t.suite.pool import Ended
from se3t.suite.progress import Bars, Clock, Lines, Reading, duration, headline, read, title, view

NOTHING = Estimates({}, 0.0, 1)


def left(job: Job, step: int, loss: float) -> None:
    """What a training has written after some steps."""
    (job.folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    RunFolder(job.folder).append_metrics("valid", step, {"loss": loss, "relative_mse_x": loss})
    (job.folder / CHECKPOINTS / f"step-{step:010d}.ckpt").touch()


def test_how_far_a_run_is_stands_in_its_metrics(tmp_path: Path) -> None:
    one = make_job(tmp_path, max_steps=400)
    assert read(one) == Reading(0, "")
    left(one, 100, 0.5)
    folder = RunFolder(one.folder)
    folder.append_metrics("train", 150, {"loss": 0.4, "lr": 1e-3})
    with folder.metrics.open("a") as file:
        file.write('{"kind": "train", "st')  # what a killed process leaves
    assert read(one) == Reading(150, "MSE x / Linear 0.5")


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    one = make_job(tmp_path, max_steps=400)
    left(one, 100, 0.5)
    with (one.folder / METRICS).open("ab") as file:
        file.write(b'{"kind": "valid", "st\0\xff\n[1]\n{"kind": "valid"}\n{"step": "x"}\n')
    assert read(one) == Reading(100, "MSE x / Linear 0.5")


def test_the_end_of_long_metrics_is_enough(tmp_path: Path) -> None:
    one = make_job(tmp_path, max_steps=10**6)
    one.folder.mkdir(parents=True)
    lines = [f'{{"kind": "valid", "step": {step}, "loss": 0.25}}\n' for step in range(5000)]
    (one.folder / METRICS).write_text("".join(lines))
    assert read(one) == Reading(4999, "loss 0.25")


def test_the_number_that_tells_most_is_shown() -> None:
    assert headline(task("classification"), {"loss": 1.0, "accuracy": 0.6123}) == "accuracy 61.2 %"
    assert headline(task("property"), {"loss": 1.0, "mae": 53.84}) == "MAE 53.8"
    assert headline(task("property"), {"mae": None}) == ""


def test_trainings_are_called_as_in_the_paper() -> None:
    words = ["experiment=scanobjectnn", "model=tfn", "task.height=true", "seed=2"]
    assert title(job(words)) == "TFN +z, seed 2"
    assert title(job(["experiment=qm9", "task=gap", "model=mpnn"])) == "NMP gap, seed 0"
    ablation = ["experiment=nbody", "model.ablation=radial", "data.preset=text"]
    assert title(job(ablation)) == "SE(3)-Transformer without radial text, seed 0"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5, "5 s"),
        (80, "80 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (7200, "2.0 h"),
        (90_000, "25 h"),
        (259_200, "3.0 days"),
    ],
)
def test_durations_are_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert duration(float(seconds)) == words


def test_what_is_left_follows_the_estimates_and_then_the_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("se3t.suite.progress.time.monotonic", lambda: now[0])
    jobs = [make_job(tmp_path, seed, max_steps=100) for seed in range(4)]
    assert Clock(jobs, NOTHING, 2).seconds({}) is None
    clock = Clock(jobs, Estimates({kind(jobs[0].config): Cost(2.0, 0.0, "records")}, 0.0, 1), 2)
    assert clock.seconds({}) == pytest.approx(400)
    clock.begin(jobs[0])
    now[0] += 40
    clock.look(jobs[0], 10)  # four seconds a step
    assert clock.seconds({jobs[0].folder: 10}) == pytest.approx(800)
    clock.end(jobs[0])
    clock.end(jobs[1])
    assert clock.seconds({}) == pytest.approx(400)


def test_what_a_killed_process_has_left_past_its_checkpoint_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("se3t.suite.progress.time.monotonic", lambda: now[0])
    one = make_job(tmp_path, max_steps=100)
    left(one, 50, 0.5)
    folder = RunFolder(one.folder)
    folder.append_metrics("train", 90, {"loss": 0.4})
    clock = Clock([one], NOTHING, 1)
    shown = Lines(Console(file=io.StringIO()), [one], clock)
    shown.started(one)
    shown.tick([one])
    assert shown.steps == {one.folder: 50}
    assert clock.seconds(shown.steps) is None
    folder.rewind_metrics(50)  # as the training does when it goes on
    shown.tick([one])
    folder.append_metrics("train", 60, {"loss": 0.45})
    now[0] += 20
    shown.tick([one])
    assert shown.steps == {one.folder: 60}
    assert clock.seconds(shown.steps) == pytest.approx(80)  # two seconds a step
    folder.append_metrics("train", 90, {"loss": 0.4})  # the same line again, and now it counts
    shown.tick([one])
    assert shown.steps == {one.folder: 90}


def test_without_a_terminal_there_is_a_line_at_each_start_and_end(tmp_path: Path) -> None:
    text = io.StringIO()
    jobs = [make_job(tmp_path, seed) for seed in (0, 1)]
    shown = view(Console(file=text, width=80), jobs, Clock(jobs, NOTHING, 2))
    assert type(shown) is Lines
    left(jobs[1], 2, 0.5)
    with shown:
        shown.preparing(Path("data/store.h5"))
        for one in jobs:
            shown.started(one)
        shown.tick(jobs)
        shown.ended(Ended(jobs[0], "finished", Path("log")))
        shown.blocked(jobs[1])
        shown.ended(Ended(jobs[1], "failed", Path("log"), "no [space] left"))
    lines = text.getvalue().splitlines()
    assert lines[:3] == ["preparing data/store.h5", "started: DeepSet, seed 0", "continued at step 2: DeepSet, seed 1"]
    assert lines[3].startswith("finished: DeepSet, seed 0  (1 of 2 done")
    assert lines[4].startswith("waiting: DeepSet, seed 1: another process is training this run (")
    assert lines[5] == "failed: DeepSet, seed 1: no [space] left  (2 of 2 done)"


def test_in_a_terminal_there_is_a_bar_for_all_and_one_for_each(tmp_path: Path) -> None:
    text = io.StringIO()
    jobs = [make_job(tmp_path, seed) for seed in (0, 1)]
    shown = view(Console(file=text, width=120, force_terminal=True, color_system=None), jobs, Clock(jobs, NOTHING, 2))
    assert type(shown) is Bars
    with shown:
        for one in jobs:
            shown.started(one)
            left(one, 2, 0.5)
        shown.tick(jobs)
        shown._bars.refresh()
        shown.ended(Ended(jobs[0], "failed", Path("log"), "no space left"))
        shown.ended(Ended(jobs[1], "finished", Path("log")))
        shown.tick([])
    last = text.getvalue()
    assert "2/4  MSE x / Linear 0.5" in last
    assert "DeepSet, seed 1" in last
    assert "failed: DeepSet, seed 0: no space left" in last
    assert "2 of 2 done" in last


def test_the_bar_of_all_is_what_has_ended_what_runs_and_what_is_saved(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path, seed, max_steps=100) for seed in range(4)]
    left(jobs[0], 50, 0.5)
    left(jobs[3], 30, 0.5)
    shown = Bars(Console(file=io.StringIO(), force_terminal=True), jobs, Clock(jobs, NOTHING, 2))

    def done(*running: Job) -> float:
        shown.tick(running)
        return shown._bars.tasks[0].completed

    assert (done(), shown._bars.tasks[0].total) == (80, 400)
    shown.started(jobs[0])
    assert done(jobs[0]) == 80
    left(jobs[0], 70, 0.4)
    assert done(jobs[0]) == 100
    shown.started(jobs[1])
    left(jobs[0], 100, 0.3)
    left(jobs[1], 20, 0.5)
    assert done(jobs[0], jobs[1]) == 150
    shown.ended(Ended(jobs[0], "finished", Path("log")))
    assert done(jobs[1]) == 150
    shown.ended(Ended(jobs[1], "failed", Path("log"), "no space left"))
    assert done() == 230  # nothing is left to do of it
    shown.started(jobs[3])
    shown.started(jobs[3])  # another process was faster, and has ended
    assert len(shown._bars.tasks) == 2
    assert done(jobs[3]) == 230
    shown.ended(Ended(jobs[3], "finished", Path("log")))
    shown.ended(Ended(jobs[2], "finished", Path("log")))  # by another process, without a start
    assert done() == 400
