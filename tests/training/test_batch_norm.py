"""Batch normalisation and training-only losses in training: what is averaged, shared by processes, copied and added."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn

from se3t.config import (
    Config,
    DGCNNModel,
    ModifiedFisherModel,
    PointCNNModel,
    PointGLRModel,
    PointNet2Model,
    PointNetModel,
    SpiderCNNModel,
)
from se3t.errors import UserError
from se3t.measure.evaluate import evaluate
from se3t.models.auxiliary import AuxiliaryLoss
from se3t.models.pointglr import PointGLR
from se3t.models.pointnet import PointNet
from se3t.runs import read_json
from se3t.runs.names import CHECKPOINTS, RESULT
from se3t.tasks.base import Task
from se3t.tasks.classification import ClassificationTask
from se3t.training import checkpoint as ckpt
from se3t.training.fit import has_unused_parameters
from se3t.training.module import TrainingModule
from se3t.training.train import train

from .cloud_parts import TRAINED, build, config_of, launch_quickly, model_of, moving_config, task_of

# --- averaged weights -------------------------------------------------------------------------------------------------

NORMALISED = (
    DGCNNModel(),
    ModifiedFisherModel(),
    PointCNNModel(),
    PointGLRModel(),
    PointNet2Model(),
    PointNetModel(),
    SpiderCNNModel(),
)


def build_without_memory(config: Config) -> tuple[Task, nn.Module]:
    """The task, and a model of shapes alone: the larger ones have tens of millions of parameters."""
    with torch.device("meta"):
        model = build(config)[1]
    return build(replace(config, model=TRAINED["deepset"]))[0], model


@pytest.mark.parametrize("model", NORMALISED, ids=lambda model: model.name)
def test_weights_are_not_averaged_where_statistics_are_recorded(model: Any, tmp_path: Path) -> None:
    config = config_of(tmp_path / "runs", model, trainer={"ema_decay": 0.9}, inputs="positions")
    assert any(name.endswith("running_mean") for name, _ in build_without_memory(config)[1].named_buffers())
    with pytest.raises(UserError, match=rf"^trainer\.ema_decay: model={model.name} has batch normalisation") as caught:
        train(config, build=build_without_memory)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["se3_transformer", "deepset"])
def test_weights_are_averaged_where_none_are(name: str, tmp_path: Path) -> None:
    config = moving_config(tmp_path, name, {"max_steps": 2, "checkpoint_every": 1, "ema_decay": 0.9})
    folder = train(config, build=build).parent / CHECKPOINTS
    first, second = (ckpt.read_checkpoint(ckpt.step_path(folder, step)).content for step in (1, 2))
    assert any(
        not torch.equal(value, second["current_model_state"][key]) for key, value in second["state_dict"].items()
    )
    for key, value in second["state_dict"].items():
        average = (2 * first["current_model_state"][key] + 9 * second["current_model_state"][key]) / 11
        torch.testing.assert_close(value, average, rtol=1e-5, atol=1e-6)


# --- two processes ----------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_two_processes_measure_with_the_statistics_that_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch_quickly(monkeypatch)
    budget = {"devices": 2, "max_steps": 3, "eval_every": 3, "checkpoint_every": 3}  # one evaluation, in training
    folder = train(moving_config(tmp_path, "pointnet2", budget), build=build).parent
    result = read_json(folder / RESULT)
    found = evaluate(folder, split="valid", build=build)
    assert found["step"] == result["best_step"] == 3
    assert found["metrics"].keys() == result["valid"].keys()
    for name, value in result["valid"].items():
        assert found["metrics"][name] == pytest.approx(value, rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize(
    "model", [TRAINED["se3_transformer"], TRAINED["pointnet2"], PointNetModel(), PointGLRModel()], ids=lambda m: m.name
)
def test_a_trial_pass_leaves_the_model_as_it_was(model: Any, tmp_path: Path) -> None:
    inputs = "edges" if model.name == "se3_transformer" else "positions"
    task, module = build(config_of(tmp_path, model, inputs=inputs))
    before = copy.deepcopy(module.state_dict())
    has_unused_parameters(module, task, "32")
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())


# --- losses of training alone -----------------------------------------------------------------------------------------

WITH_TERM = {"pointnet": PointNetModel(regularization=0.5), "pointglr": PointGLRModel()}


def training_of(name: str, tmp_path: Path) -> tuple[TrainingModule, ClassificationTask, AuxiliaryLoss]:
    """A step with a model whose weights have moved from where a penalty is zero."""
    config, task = config_of(tmp_path, WITH_TERM[name], inputs="positions"), task_of(inputs="positions", num_points=64)
    model = model_of(task, config.model, noise=0.05).train()
    assert isinstance(model, PointNet | PointGLR)
    module = TrainingModule(model, task, config)
    module.trainer = MagicMock(global_step=0)
    return module, task, model


def gradients(model: nn.Module, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(0)  # dropout and centres
    model.zero_grad()
    loss().backward()
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
        for name, value in model.named_parameters()
    }


@pytest.mark.parametrize("name", WITH_TERM)
def test_the_term_of_a_model_is_in_the_gradient_of_a_step(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, model = training_of(name, tmp_path)
    samples = torch.arange(3)

    def term() -> Tensor:
        module.training_step(samples)
        return model.auxiliary_loss()

    together, added = gradients(model, lambda: module.training_step(samples)), gradients(model, term)
    monkeypatch.setattr(model, "auxiliary_loss", lambda: torch.zeros((), dtype=torch.float64))
    alone = gradients(model, lambda: module.training_step(samples))
    scale = max(float(value.abs().max()) for value in added.values())
    assert scale > 1e-3
    for key, value in together.items():
        torch.testing.assert_close(value, alone[key] + added[key], rtol=0, atol=1e-9 * scale, msg=key)


@pytest.mark.parametrize("name", WITH_TERM)
def test_a_model_is_copied_after_a_step_and_has_no_term_when_measured(name: str, tmp_path: Path) -> None:
    module, task, model = training_of(name, tmp_path)
    module.training_step(torch.arange(3))
    twin = copy.deepcopy(model)
    assert twin._auxiliary is None
    assert model.auxiliary_loss().requires_grad  # that of the original is still there
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in model.state_dict().items())
    graph = task.graph(task.batch("valid", torch.arange(3)))
    left, right = (one.eval()(graph)[0] for one in (model, twin))
    assert torch.equal(left, right)
    assert model._auxiliary is None
    with pytest.raises(RuntimeError, match="auxiliary loss"):
        model.auxiliary_loss()
