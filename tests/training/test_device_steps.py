"""Training steps on another device, which needs no hardware (other_device.py): where they run, and what they wait for.

The lists of what the host reads are exact, so that nothing is added unseen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from other_device import DEVICE, Elsewhere, here, other_device
from se3t.config import SCHEMAS, Config, QM9Data
from se3t.config import models as settings
from se3t.deploy.predict import load
from se3t.models.auxiliary import AuxiliaryLoss
from se3t.nn.kernels.edge_frame import without_reading_values
from se3t.runs import RunFolder
from se3t.runs.names import RESULT
from se3t.tasks.base import Task
from se3t.training import record
from se3t.training.callbacks import EMAWeights, LossWatch
from se3t.training.cuda_graph import StepGraphs
from se3t.training.evaluation import evaluate_split
from se3t.training.finish import finish
from se3t.training.module import TrainingModule
from se3t.training.run import Run
from se3t.training.state import RunState, Stopwatch

from . import cloud_parts, molecule_parts, parts

NOWHERE = Path("/nowhere")
SMALL: dict[str, Any] = {"num_layers": 2, "num_degrees": 3, "channels": 4, "pool_channels": 8}


def se3_transformer(**changes: Any) -> settings.SE3TransformerModel:
    return settings.SE3TransformerModel(**{**SMALL, "channels_div": 2, "num_heads": 2, **changes})


def tfn(**changes: Any) -> settings.TFNModel:
    return settings.TFNModel(**{**SMALL, **changes})


@pytest.fixture
def found() -> Iterator[list[str]]:
    """The other device, and what the host reads there."""
    with other_device() as listed:
        yield listed


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)


BONDS, COMPLETE, RADIUS = (QM9Data(root="/nowhere", graph=graph) for graph in ("bonds", "complete", "radius"))
PLAIN: dict[str, Any] = {
    "deepset": settings.DeepSetModel(width=8),
    "set_transformer": settings.SetTransformerModel(width=8, num_layers=2),
    "set_transformer, induced": settings.SetTransformerModel(
        width=8, num_layers=2, num_inducing=2, pooling="attention"
    ),
}
FIELDS: dict[str, Any] = {"tfn": tfn(), "se3_transformer": se3_transformer()}
NBODY: dict[str, Any] = {
    "linear": settings.LinearModel(),
    **PLAIN,
    **FIELDS,
    "tfn, mean": tfn(reduce="mean", share_radial="full", norm="layer", parity=True),
    "chunks": se3_transformer(kernel="edge_frame", memory="low", share_radial="degree_out"),
    "vectorised": se3_transformer(kernel="vectorised", skip="sum", self_interaction="linear", fuse_key_value=False),
    "without attention": se3_transformer(ablation="attention"),
    "without radial networks": se3_transformer(ablation="radial"),
    "without equivariance": se3_transformer(ablation="equivariance"),
}
POINTS: dict[str, Any] = {
    "pointnet": settings.PointNetModel(),
    "pointnet2": settings.PointNet2Model(),
    "dgcnn": settings.DGCNNModel(num_neighbors=4),
    "pointcnn": settings.PointCNNModel(),
    "spidercnn": settings.SpiderCNNModel(num_neighbors=4),
    "modified_fisher": settings.ModifiedFisherModel(grid=3),
    "pointglr": settings.PointGLRModel(),
}


def nbody(model: Any, **trainer: Any) -> Config:
    return replace(parts.small_config(NOWHERE, **trainer), model=model)


def clouds(model: Any, **task: Any) -> Config:
    return cloud_parts.config_of(NOWHERE, model, augmentation="so3", jitter=0.01, **task)


CASES: dict[str, Config] = {
    **{f"nbody, {name}": nbody(model) for name, model in NBODY.items()},
    **{f"qm9, {name}": molecule_parts.config_of(NOWHERE, model, BONDS) for name, model in FIELDS.items()},
    "qm9 complete, se3_transformer": molecule_parts.config_of(NOWHERE, se3_transformer(), COMPLETE),
    "qm9 radius, schnet": molecule_parts.config_of(NOWHERE, settings.SchNetModel(channels=8, num_filters=8), RADIUS),
    "qm9, mpnn": molecule_parts.config_of(NOWHERE, settings.MPNNModel(channels=8, edge_hidden=8), BONDS),
    **{
        f"qm9, {name}": molecule_parts.config_of(NOWHERE, model, BONDS, inputs="atoms_positions")
        for name, model in PLAIN.items()
    },
    **{f"clouds, {name}": clouds(model) for name, model in FIELDS.items()},
    "clouds +z, se3_transformer": clouds(se3_transformer(), height=True, sampling="random"),
    **{f"clouds, {name}": clouds(model, inputs="positions") for name, model in {**PLAIN, **POINTS}.items()},
}
BUILD = {"nbody": parts.build, "qm9": molecule_parts.build, "scanobjectnn": cloud_parts.build}

COINCIDENT, SIZES, DRAWS = ["nonzero"], ["to the host"], ["to the host"]
"""Points that coincide are looked for once a step; sizes of molecules are read once; draws of clouds need the numbers
of the objects."""
READ: dict[str, list[str]] = {
    "nbody, linear": [],
    **{f"nbody, {name}": [] for name in PLAIN},
    "nbody, vectorised": [],
    "nbody": COINCIDENT,
    "qm9": [*SIZES, *COINCIDENT],
    "qm9 complete": [*SIZES, *COINCIDENT],
    "qm9 radius, schnet": SIZES,
    "qm9, mpnn": SIZES,
    "qm9, deepset": SIZES,
    **{f"qm9, {name}": [*SIZES, "_local_scalar_dense", "to the device"] for name in PLAIN if name != "deepset"},
    "clouds, tfn": [*DRAWS, *COINCIDENT],
    "clouds, se3_transformer": [*DRAWS, *COINCIDENT],
    "clouds +z": [*DRAWS, *COINCIDENT],
    "clouds": DRAWS,
    "clouds, dgcnn": [*DRAWS, *["bincount"] * 4],
    **{
        f"clouds, {name}": [*DRAWS, *["_local_scalar_dense", "nonzero", *["index by a mask"] * 3] * 2]
        for name in ("pointnet2", "pointglr")
    },
}
"""What the host waits for in a training step, without a capture: by case, or by experiment where all others agree."""


def loss_of(task: Task, model: nn.Module, index: Tensor) -> Tensor:
    samples = task.batch("train", index, 7)
    loss = task.loss(model(task.graph(samples)), samples)
    return loss + model.auxiliary_loss() if isinstance(model, AuxiliaryLoss) else loss


def step(task: Task, model: nn.Module, index: Tensor) -> list[Tensor]:
    """Loss and gradients, with the same random numbers each time."""
    torch.manual_seed(0)
    loss = loss_of(task, model, index)
    wanted = list(model.parameters())
    return [loss, *(torch.autograd.grad(loss, wanted) if wanted else ())]


def placed(case: str) -> tuple[Task, nn.Module]:
    task, model = BUILD[CASES[case].experiment](CASES[case])
    return task.to("cpu", torch.float64), model.double().train()


SLOW = ("clouds, modified_fisher", "clouds, pointglr", "clouds, set_transformer", "qm9, set_transformer", "clouds, tfn")


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES])
def test_a_training_step_runs_where_its_data_lie_and_reads_no_more_than_listed(case: str, found: list[str]) -> None:
    task, model = placed(case)
    index = torch.tensor([2, 0, 3, 1])
    expected = step(task, model, index)
    task.to(DEVICE, torch.float64)
    model.to(DEVICE)
    there = index.to(DEVICE)
    received = step(task, model, there)
    assert all(isinstance(value, Elsewhere) for value in received)
    found.clear()  # what is made once is there
    step(task, model, there)
    assert found == READ.get(case, READ.get(case.split(",")[0]))
    torch.testing.assert_close(here(received), here(expected), rtol=1e-8, atol=1e-10)


def test_every_model_takes_a_step_on_the_device() -> None:
    assert {config.model.name for config in CASES.values()} == set(SCHEMAS["model"])


@pytest.mark.parametrize("model", [name for name in NBODY if name != "linear"])
def test_a_step_to_be_captured_reads_nothing(model: str, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, graph, model, loss and gradients, and how the draw of the step comes in."""
    monkeypatch.setattr(StepGraphs, "_may_record", lambda *_: False)
    config = nbody(NBODY[model], cuda_graph=True)
    task, network = parts.build(config)
    module = TrainingModule(network.double().to(DEVICE), task.to(DEVICE, torch.float64), config)
    module.trainer = MagicMock(global_step=3)
    index = torch.arange(4).to(DEVICE)
    with without_reading_values():
        module.training_step(index)
        found.clear()
        module.training_step(index)
    assert found == []


def test_what_follows_a_step_reads_nothing_unless_the_loss_is_logged(found: list[str], tmp_path: Path) -> None:
    """Averages of the weights, and the watch on the loss."""
    config = nbody(PLAIN["deepset"], eval_every=10**6, checkpoint_every=10**6)
    task, model = parts.build(config)
    module = TrainingModule(model, task, config).to(DEVICE)
    averages, trainer = EMAWeights(0.9, DEVICE), MagicMock(spec=Trainer)
    trainer.world_size, trainer.should_stop = 1, False
    watch = LossWatch(Run(config, RunFolder(tmp_path), task, model, DEVICE), Stopwatch(RunState()))
    averages.setup(trainer, module, "fit")
    expected, outputs = [here(value) for value in module.parameters()], {"loss": torch.ones((), device=DEVICE)}
    found.clear()
    for step in range(1, 4):
        trainer.global_step = step
        with torch.no_grad():
            for value in module.parameters():
                value.add_(step)
        for callback in (averages, watch):
            callback.on_train_batch_end(trainer, module, outputs, None, step)
    assert found == []
    share = [0.0, 2 / 11, 3 / 12]  # of the old average
    moved = 1.0
    for number, total in ((1, 3), (2, 6)):
        moved = share[number] * moved + (1 - share[number]) * total
    averaged = averages._average_model
    assert averaged is not None
    assert int(averaged.n_averaged) == 3
    for value, before in zip(averaged.module.parameters(), expected, strict=True):
        torch.testing.assert_close(here(value), before + moved, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "case",
    [
        "nbody, se3_transformer",
        "qm9, tfn",
        "clouds +z, se3_transformer",
        pytest.param("clouds, se3_transformer", marks=pytest.mark.slow),
    ],
)
def test_evaluation_runs_where_the_data_lie(case: str, found: list[str]) -> None:
    """Metrics, equivariance errors and what is kept of every sample."""
    task, model = placed(case)
    results = []
    for device in (DEVICE, torch.device("cpu")):
        task.to(device, torch.float64)
        model.to(device)
        kept: dict[str, list[Any]] = {}
        options: dict[str, Any] = {"batch_size": 5, "num_equivariance_samples": 1, "seed": 0, "keep": kept}
        results.append((evaluate_split(model, task, "test", device=device, **options), kept))
    (received, listed), (expected, other) = results
    assert listed == other
    assert received == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_batch_may_lie_elsewhere_than_the_data_it_was_taken_from(found: list[str]) -> None:
    """As rotated samples do, which are made in double precision on the CPU."""
    task, _ = placed("nbody, linear")
    batch = task.batch("test", torch.arange(3))
    expected = task.graph(batch)
    graph = task.graph(batch.to(DEVICE, torch.float64)).check()
    assert all(isinstance(value, Elsewhere) for value in (graph.edge_index, graph.batch, graph.positions))
    assert torch.equal(here(graph.edge_index), expected.edge_index)
    assert task.graph(batch).edge_index is expected.edge_index


@pytest.mark.parametrize("case", ["nbody, deepset", "qm9, se3_transformer"])
def test_what_is_measured_at_the_end_of_a_run_is_written_wherever_it_was(
    case: str, found: list[str], tmp_path: Path
) -> None:
    config = CASES[case]
    task, model = BUILD[config.experiment](config)
    folder = tmp_path / "run"
    RunFolder(folder).write_config(config)
    RunFolder(folder).add_session(record.provenance())
    finish(Run(config, RunFolder(folder), task, model, DEVICE))
    assert json.loads((folder / RESULT).read_text())["status"] == "finished"
    assert next(folder.rglob("best.ckpt")).is_file()


def test_molecules_are_predicted_where_the_model_is(found: list[str], tmp_path: Path) -> None:
    folder = molecule_parts.finished_run(tmp_path / "run")
    molecules = molecule_parts.molecules("test")
    received, expected = (load(folder, device)(molecules) for device in (DEVICE, "cpu"))
    assert type(received) is Tensor
    torch.testing.assert_close(received, expected, rtol=1e-5, atol=1e-3)
