"""One view of many trainings."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from tests.suite.parts import make_job

from se3t.suite.costs import Cost, Estimates, kind
from se3t.suite.jobs import Ended, Job, job
from se3t.suite.progress import Bars, Clock, Lines, Reading, duration, in_words, read, title, view
from se3t.training import record

NOTHING = Estimates({}, 0.0, 1)


def left(job: Job, step: int, loss: float) -> None:
    """What a training has written after some steps."""
    (job.folder / record.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    record.Metrics(job.folder / record.METRICS).append("valid", step, {"loss": loss, "relative_mse_x": loss})
    (job.folder / record.CHECKPOINTS / f"step-{step:010d}.ckpt").touch()


def test_how_far_a_run_is_stands_in_its_metrics(tmp_path: Path) -> None:
    one = make_job(tmp_path, max_steps=400)
    assert read(one) == Reading(0, "")
    left(one, 100, 0.5)
    metrics = record.Metrics(one.folder / record.METRICS)
    metrics.append("train", 150, {"loss": 0.4, "lr": 1e-3})
    with metrics.path.open("a") as file:
        file.write('{"kind": "train", "st')  # what a killed process leaves
    assert read(one) == Reading(150, "MSE x / Linear 0.5")


def test_the_end_of_long_metrics_is_enough(tmp_path: Path) -> None:
    one = make_job(tmp_path, max_steps=10**6)
    one.folder.mkdir(parents=True)
    lines = [f'{{"kind": "valid", "step": {step}, "loss": 0.25}}\n' for step in range(5000)]
    (one.folder / record.METRICS).write_text("".join(lines))
    assert read(one) == Reading(4999, "loss 0.25")


def test_the_number_that_tells_most_is_shown() -> None:
    assert in_words({"loss": 1.0, "accuracy": 0.6123}) == "accuracy 61.2 %"
    assert in_words({"loss": 1.0, "mae": 53.84}) == "MAE 53.8"
    assert in_words({"mae": None}) == ""


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
