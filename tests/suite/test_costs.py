"""What trainings will cost: from records of this machine, else measured."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.suite.parts import job, make_job, with_data

from se3t.config import Config
from se3t.runs import RunFolder
from se3t.runs.names import CHECKPOINTS, CONFIG, PROVENANCE
from se3t.suite import costs, probe
from se3t.suite.costs import Cost, Estimates, estimate, kind, makespan, recorded
from se3t.suite.jobs import Job, job_of
from se3t.suite.probe import measure
from se3t.suite.progress import Clock
from se3t.suite.wording import plan_lines


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "has_gpu", lambda: False)


def leave_record(one: Job, step_seconds: float, eval_seconds: float, evaluations: int = 3, **session: object) -> None:
    """A run record as a training leaves it that is interrupted after some evaluations."""
    every = one.config.trainer.eval_every
    one.folder.mkdir(parents=True)
    RunFolder(one.folder).write_config(one.config)
    here = {"machine": platform.machine(), "system": platform.system(), "cpu_count": os.cpu_count()}
    here |= {"device": "cpu", "torch_threads": 1}
    RunFolder(one.folder).add_session({**here, **session})
    folder = RunFolder(one.folder)
    for number in range(1, evaluations + 1):
        seconds = number * every * step_seconds + (number - 1) * eval_seconds
        values = {"steps_per_second": 1 / step_seconds, "seconds": seconds, "loss": 1.0}
        folder.append_metrics("valid", number * every, values)


def long_job(folder: Path, seed: int = 0, max_steps: int = 1000) -> Job:
    one = make_job(folder, seed)
    trainer = replace(one.config.trainer, max_steps=max_steps, eval_every=100)
    return job_of(one.overrides, replace(one.config, trainer=trainer))


def changed(one: Job, **groups: dict[str, object]) -> Config:
    parts = {group: replace(getattr(one.config, group), **values) for group, values in groups.items()}
    return replace(one.config, **parts)


def test_what_time_does_not_depend_on_is_of_one_kind(tmp_path: Path) -> None:
    one = long_job(tmp_path)
    same = [
        long_job(tmp_path, seed=4, max_steps=50).config,
        changed(one, optim={"lr": 0.5}, data={"preset": "text", "num_train": 5}, trainer={"ema_decay": 0.9}),
        replace(one.config, preset="smoke", resume=True),
    ]
    others = [
        changed(one, trainer={"batch_size": 5}),
        changed(one, model={"width": 65}),
        changed(one, data={"num_particles": 6}),
        changed(one, trainer={"precision": "64"}),
    ]
    assert {kind(config) for config in same} == {kind(one.config)}
    assert kind(one.config) not in {kind(config) for config in others}


def test_estimates_come_from_the_records_of_machines_like_this_one(tmp_path: Path) -> None:
    one = long_job(tmp_path, seed=1)
    leave_record(long_job(tmp_path, seed=0), step_seconds=0.5, eval_seconds=16.0)
    assert recorded(one, threads=1) == pytest.approx(Cost(0.5, 2.0, "records"))  # 8 samples are measured
    found = Estimates({kind(one.config): Cost(0.5, 2.0, "records")}, startup=3.0, threads=1)
    assert found.seconds(one) == pytest.approx(3 + 1000 * 0.5 + (10 * 8 + 8) * 2.0)


@pytest.mark.parametrize(
    "session", [{"torch_threads": 2}, {"cpu_count": 999}, {"machine": "another"}, {"device": "cuda"}]
)
def test_records_of_other_machines_devices_or_threads_do_not_count(tmp_path: Path, session: dict[str, object]) -> None:
    leave_record(long_job(tmp_path), 0.5, 1.0, **session)
    assert recorded(long_job(tmp_path, seed=1), threads=1) is None


def test_records_of_a_gpu_count_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_record(long_job(tmp_path), 0.5, 1.0, device="cuda")
    monkeypatch.setattr(costs, "has_gpu", lambda: True)
    assert recorded(long_job(tmp_path, seed=1), threads=None) is not None


def test_records_that_do_not_tell_their_device_count_where_the_settings_do(tmp_path: Path) -> None:
    one, other = long_job(tmp_path, seed=1), long_job(tmp_path, seed=2)
    one = job_of(one.overrides, changed(one, trainer={"accelerator": "cpu"}))
    for left in (one, other):
        leave_record(left, 0.5, 1.0)
        provenance = left.folder / PROVENANCE
        provenance.write_text(provenance.read_text().replace("device", "another_word"))
    assert recorded(one, threads=1) is not None
    assert recorded(other, threads=1) is None


def test_records_too_short_to_tell_and_damaged_ones_do_not_count(tmp_path: Path) -> None:
    leave_record(long_job(tmp_path, seed=0), 0.5, 1.0, evaluations=1)
    leave_record(long_job(tmp_path, seed=1), 0.5, 1.0)
    (long_job(tmp_path, seed=1).folder / CONFIG).write_text("{")
    leave_record(long_job(tmp_path, seed=2), 0.5, 1.0)
    (long_job(tmp_path, seed=2).folder / PROVENANCE).write_text('{"sessions": []}')
    assert recorded(long_job(tmp_path, seed=3), threads=1) is None


def test_only_what_is_left_of_an_interrupted_training_counts(tmp_path: Path) -> None:
    one = long_job(tmp_path)
    (one.folder / CHECKPOINTS).mkdir(parents=True)
    (one.folder / CHECKPOINTS / "step-0000000750.ckpt").touch()
    found = Estimates({kind(one.config): Cost(1.0, 0.0, "records")}, startup=0.0, threads=1)
    assert found.seconds(one) == pytest.approx(250)


def test_what_has_no_record_is_measured_and_what_has_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def probe(configs: list[Config], data: list[Config], threads: int | None) -> dict[str, object]:
        asked.extend(config.model.name for config in configs)
        found = [{"step": 0.1, "sample": 0.01, "besides": 0.7} for _ in configs]
        return {"startup": 4.0, "costs": found, "preparation": [3.0 for _ in data]}

    monkeypatch.setattr(costs, "_probe", probe)
    leave_record(long_job(tmp_path), 0.5, 1.0)
    words = ["experiment=nbody", "preset=quick", f"runs={tmp_path}/runs"]
    jobs = [long_job(tmp_path, seed=1), *(job([*words, f"model={name}"]) for name in ("tfn", "set_transformer"))]
    found = estimate([*jobs, *jobs], workers=2, threads=1)
    assert sorted(asked) == ["set_transformer", "tfn"]
    assert [found.costs[kind(one.config)].source for one in jobs] == ["records", "measured", "measured"]
    assert found.seconds(jobs[1]) == pytest.approx(4 + 0.7 + 1000 * 0.1 + (4 * 1000 + 1000) * 0.01)


def test_the_preparation_of_data_is_part_of_the_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"startup": 5.0, "costs": [None], "preparation": [10.0, 20.0]}
    monkeypatch.setattr(costs, "_probe", lambda configs, data, threads: {**answer, "preparation": [10.0] * len(data)})
    jobs = [make_job(tmp_path, seed, data_seed=seed % 2) for seed in range(4)]
    found = estimate(jobs, 2, 1)
    assert set(found.preparation) == {jobs[0].store, jobs[1].store}
    assert found.preparing() == [pytest.approx(0.6 * 5 + 10)] * 2
    lines = list(plan_lines("1", jobs, found, 2))
    assert "time: about 23 s (2 at a time, 1 CPU thread each)" in lines  # 13 s of data, and two starts, one by one
    assert sum("first (about 13 s of the time): se3t data prepare nbody" in line for line in lines) == 2
    clock = Clock(jobs, found, 2)
    assert clock.seconds({}) == pytest.approx(13 + 10)
    with_data(*jobs)
    assert clock.seconds({}) == pytest.approx(10)


def test_no_job_takes_longer_than_its_time_and_its_evaluations(tmp_path: Path) -> None:
    one = long_job(tmp_path)
    short = job_of(one.overrides, changed(one, trainer={"max_time": "00:02:00"}))
    long = job_of(one.overrides, changed(one, trainer={"max_time": "01:00:00"}))
    found = Estimates({kind(one.config): Cost(0.5, 2.0, "records")}, startup=3.0, threads=1)
    assert found.last_step(short) == 240  # of half a second
    assert found.seconds(short) == pytest.approx(3 + 120 + (3 * 8 + 8) * 2.0)  # at 100, 200 and the end
    assert found.last_step(long) == 1000
    assert found.seconds(long) == found.seconds(one) == pytest.approx(3 + 500 + (10 * 8 + 8) * 2.0)
    with_data(short)
    assert Clock([short], found, 1).seconds({short.folder: 140}) == found.seconds(short)  # no pace yet
    assert any(" 1,000 steps or 2 min " in line for line in plan_lines("1", [short], found, 1))


def test_the_pace_tells_the_last_step_where_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = long_job(tmp_path)
    one = job_of(one.overrides, changed(one, trainer={"max_time": "00:02:00"}))
    clock = Clock([one], Estimates({}, 0.0, 1), 1)
    now = [100.0]
    monkeypatch.setattr("se3t.suite.progress.time.monotonic", lambda: now[0])
    clock.begin(one)
    now[0] += 30.0
    clock.look(one, 50)  # 0.6 s a step
    assert clock.last_step(one) == 200
    assert clock.seconds({one.folder: 50}) == pytest.approx(90.0)


class Seconds:
    """A clock that stands still but for what is said to take time."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_what_a_training_takes_is_its_steps_and_what_it_takes_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, config = Seconds(), job(["experiment=nbody", "model=deepset", "preset=smoke"]).config
    task = probe.random_task(config)
    model = probe.model_for(config, task)
    run = probe.Run(config, RunFolder(Path()), task, model, torch.device("cpu"))
    model.register_forward_hook(lambda *_: setattr(clock, "now", clock.now + 0.01))

    def trained(*given: object) -> float:
        assert given[-1] == 25  # half a second of steps of which a quarter takes 0.01
        clock.now += 2 * 25 * 0.02 + 1.5
        return 0.02

    monkeypatch.setattr(probe, "time", clock)
    monkeypatch.setattr(probe, "_trained", trained)
    step, besides = probe._step_seconds(run, 1.0)
    assert (step, besides) == (pytest.approx(0.02), pytest.approx(3 * 0.01 + 1.5))
    model.register_forward_hook(lambda *_: setattr(clock, "now", clock.now + 2.0))
    step, besides = probe._step_seconds(run, 1.0)
    assert (step, besides) == (pytest.approx(4 * 2.01), 0.0)  # too long for a training


def test_short_trainings_are_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        costs, "_probe", lambda configs, data, threads: {"startup": 4.0, "costs": [None for _ in configs]}
    )
    short = make_job(tmp_path)
    assert estimate([short], 1, 1).seconds(short) == 4.0
    assert estimate([short], 1, 1, always=False).seconds(short) is None
    unknown = long_job(tmp_path)  # its measurement failed
    assert estimate([unknown], 1, 1).seconds(unknown) is None


@pytest.mark.parametrize(
    ("status", "told", "reason"),
    [
        (-9, "", "ended by SIGKILL, perhaps out of memory"),
        (1, "Traceback …\nMemoryError\n", "MemoryError"),
        (3, "", "exit status 3"),
        (0, "", "Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_a_measurement_that_fails_leaves_the_time_unknown_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, told: str, reason: str
) -> None:
    failed = SimpleNamespace(returncode=status, stdout="", stderr=told)
    monkeypatch.setattr(costs.subprocess, "run", lambda *_, **__: failed)
    one = long_job(tmp_path)
    found = estimate([one], workers=1, threads=1)
    assert (found.seconds(one), found.startup, found.trouble) == (None, 0.0, reason)
    lines = list(plan_lines("1", [one], found, 1))
    assert "time: unknown (1 at a time, 1 CPU thread each)" in lines
    assert f"some times are unknown, because their measurement failed: {reason}" in lines


def test_each_free_worker_takes_the_next() -> None:
    assert makespan([5.0, 1.0, 1.0, 1.0, 1.0], workers=2) == 5
    assert makespan([1.0, 1.0, 5.0], workers=2) == 6
    assert makespan([], workers=3) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=nbody", "model=linear", "preset=smoke"],
        ["experiment=nbody", "model=se3_transformer", "preset=smoke"],
        ["experiment=qm9", "task=gap", "model=schnet", "preset=smoke"],
        ["experiment=scanobjectnn", "model=pointnet", "preset=smoke"],
    ],
)
def test_steps_are_measured_before_there_are_data(words: list[str], tmp_path: Path) -> None:
    config = job([*words, f"data.root={tmp_path}/data", "trainer.accelerator=cpu"]).config
    found = measure(config, seconds=0.0)
    assert (found["step"] == 0) == (config.model.name == "linear")
    assert found["sample"] > 0
    assert not (tmp_path / "data").exists()


def test_planning_loads_no_torch() -> None:
    code = (
        "import sys, se3t.suite.tables, se3t.suite.progress; print({'torch', 'lightning', 'hydra'} & set(sys.modules))"
    )
    done = costs.subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
