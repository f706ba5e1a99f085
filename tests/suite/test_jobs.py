"""A training as a job: its line, its folder, how far it is."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.suite.parts import job, make_job

from se3t.errors import UserError
from se3t.runs import RunFolder
from se3t.runs.names import CHECKPOINTS
from se3t.suite.jobs import Job


def finish(one: Job, steps: int | None = None, **changed: object) -> None:
    one.folder.mkdir(parents=True, exist_ok=True)
    done = one.config.trainer.max_steps if steps is None else steps
    content = {"config": asdict(one.config), "budget": {"max_steps": done, "steps_done": done}, "parameters": 1}
    one.result.write_text(json.dumps({**content, **changed}))
    RunFolder(one.folder).write_config(one.config)


def test_a_job_is_the_line_that_trains_it(tmp_path: Path) -> None:
    words = ["experiment=nbody", "preset=smoke", "model=tfn", "seed=3", f"runs={tmp_path}/my-runs"]
    found = job(words)
    assert found.command == "se3t train " + " ".join(words)
    assert (found.config.seed, found.config.model.name, found.steps) == (3, "tfn", 4)
    assert found.folder == RunFolder.of(found.config).path
    assert found.folder.parent.parent.parent == tmp_path / "my-runs"


def test_a_job_is_finished_only_where_its_result_covers_all_steps(tmp_path: Path) -> None:
    one = make_job(tmp_path)
    assert one.state == "new"
    RunFolder(one.folder).write_config(one.config)
    assert one.state == "interrupted"
    finish(one, steps=3)
    assert one.state == "interrupted"
    finish(one)
    assert one.state == "finished"


def test_a_model_without_parameters_is_finished_whatever_the_steps(tmp_path: Path) -> None:
    one = job(["experiment=nbody", "preset=smoke", "model=linear", f"runs={tmp_path}"])
    finish(one, steps=0, parameters=0)
    assert (one.steps, one.state) == (0, "finished")


def test_a_result_of_other_settings_is_refused(tmp_path: Path) -> None:
    one = make_job(tmp_path)
    finish(one, config=asdict(make_job(tmp_path, lr=0.5).config))
    with pytest.raises(UserError, match=r"holds another run, with another optim\.lr"):
        _ = one.state


def test_a_finished_run_of_more_steps_is_refused(tmp_path: Path) -> None:
    one = make_job(tmp_path)
    finish(one, steps=9)
    with pytest.raises(UserError, match=r"trainer\.max_steps=4: the run in .* has 9 steps already"):
        _ = one.state


def test_the_saved_step_is_that_of_the_newest_checkpoint(tmp_path: Path) -> None:
    one = make_job(tmp_path)
    assert one.saved_step == 0
    (one.folder / CHECKPOINTS).mkdir(parents=True)
    for name in (
        "step-0000000002.ckpt",
        "step-0000000010.ckpt",
        "best.ckpt",
        ".step-0000000012.ckpt.tmp",
        "step-x.ckpt",
    ):
        (one.folder / CHECKPOINTS / name).touch()
    assert one.saved_step == 10


def test_settings_that_no_data_can_have_are_told_when_the_job_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.num_train"):
        job(["experiment=nbody", "data.num_train=0", f"runs={tmp_path}"])


def test_jobs_of_the_same_settings_share_their_folder(tmp_path: Path) -> None:
    one = make_job(tmp_path)
    more = replace(one.config, trainer=replace(one.config.trainer, threads=3), resume=True)
    assert RunFolder.of(more).path == one.folder
    assert make_job(tmp_path, seed=1).folder != one.folder
