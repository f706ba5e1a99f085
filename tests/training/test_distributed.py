"""Two processes that share every batch do what one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from se3t.config import Config
from se3t.errors import UserError
from se3t.training import checkpoint as ckpt
from se3t.training import record
from se3t.training.fit import has_unused_parameters
from se3t.training.run import train

from .parts import build, failing_build, small_config


def test_two_processes_train_as_one_and_write_one_record(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_steps": 6, "eval_every": 3, "checkpoint_every": 3, "ema_decay": 0.9}
    alone = train(small_config(tmp_path, **settings), build=build).parent
    config = small_config(tmp_path, devices=2, **settings)
    together = train(config, build=build).parent
    assert alone != together
    left, right = (
        ckpt.read_checkpoint(ckpt.step_path(run / record.CHECKPOINTS, 6)).content for run in (alone, together)
    )
    for name, value in left["state_dict"].items():
        # The gradient is a mean of two means: equal but for rounding, which Adam's first steps amplify.
        assert torch.allclose(value, right["state_dict"][name], rtol=1e-3, atol=1e-4), name
    assert len(right["random"]) == 2
    lines = [record.Metrics(run / record.METRICS).read() for run in (alone, together)]
    assert [(line["kind"], line["step"]) for line in lines[0]] == [(line["kind"], line["step"]) for line in lines[1]]
    for first, second in zip(*lines, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-3)
    assert record.read_json(together / record.RESULT)["budget"]["steps_done"] == 6
    assert not list(together.rglob("*.tmp"))
    with pytest.raises(UserError, match="resume=true"):
        train(replace(config, trainer=replace(config.trainer, max_steps=7)), build=build)


@pytest.mark.slow
def test_two_processes_continue_as_if_never_interrupted(tmp_path: Path) -> None:
    def settings(max_steps: int) -> dict[str, Any]:
        return {"devices": 2, "max_steps": max_steps, "eval_every": 2, "checkpoint_every": 3}

    straight = train(replace(small_config(tmp_path / "a", **settings(6)), preset="noisy"), build=build).parent
    for steps in (3, 6):
        config = replace(small_config(tmp_path / "b", **settings(steps)), preset="noisy", resume=True)
        halted = train(config, build=build).parent
    left, right = (
        ckpt.read_checkpoint(ckpt.step_path(run / record.CHECKPOINTS, 6)).content for run in (straight, halted)
    )
    for name, value in left["state_dict"].items():
        assert torch.equal(value, right["state_dict"][name]), name
    for own, other in zip(left["random"], right["random"], strict=True):
        assert torch.equal(own["torch"], other["torch"])
    assert not torch.equal(left["random"][0]["torch"], left["random"][1]["torch"])


@pytest.mark.slow
def test_an_error_of_a_process_arrives_as_one_sentence(tmp_path: Path) -> None:
    config = small_config(tmp_path, devices=2, max_steps=4)
    with pytest.raises(UserError, match=r"^the training loss became nan in step 2; there is no checkpoint"):
        train(config, build=failing_build)


class Spare(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner, self.spare = model, nn.Linear(2, 2)

    def forward(self, graph: Any) -> Any:
        return self.inner(graph)


def test_parameters_that_the_loss_does_not_reach_are_noticed(tmp_path: Path) -> None:
    config: Config = small_config(tmp_path)
    task, model = build(config)
    assert not has_unused_parameters(model, task, "32")
    assert has_unused_parameters(Spare(model), task, "32")
    assert all(parameter.grad is None for parameter in model.parameters())
