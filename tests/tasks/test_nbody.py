from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from se3t.config import Config, DeepSetModel, LinearModel, NBodyData, TFNModel, TrainerConfig
from se3t.config import NBodyTask as NBodyTaskConfig
from se3t.data.nbody.dataset import NBodyDataset, NBodySplit, NBodyTrajectories
from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.models import build_model
from se3t.models.tfn import TFN
from se3t.neighbors import fully_connected
from se3t.nn import Readout
from se3t.tasks import build_task
from se3t.tasks.nbody import NBodyTask
from se3t.testing import equivariance_error_per_channel

PARTICLES = 5
SMALL = TFNModel(num_layers=2, num_degrees=2, channels=2)
SIZES = {"train": 12, "valid": 4, "test": 7}


def make_split(count: int, seed: int = 0) -> NBodySplit:
    generator = torch.Generator().manual_seed(seed)

    def draw(channels: int = 3) -> torch.Tensor:
        return torch.randn(count, PARTICLES, channels, generator=generator, dtype=torch.float64)

    return NBodySplit(draw(), draw(), draw(1).sign(), draw(), draw(), horizon=0.5)


@pytest.fixture
def dataset() -> NBodyDataset:
    splits = {name: make_split(size, seed) for seed, (name, size) in enumerate(SIZES.items())}
    return NBodyDataset(splits=splits, horizon=0.5, checksum="c0ffee")


@pytest.fixture
def task(dataset: NBodyDataset) -> NBodyTask:
    return NBodyTask(NBodyTaskConfig(), dataset).to("cpu", torch.float64)


def model_of(task: NBodyTask, config: Any) -> nn.Module:
    torch.set_default_dtype(torch.float64)
    return build_model(
        config,
        fiber_in=task.fiber_in,
        fiber_out=task.fiber_out,
        num_edge_scalars=task.num_edge_scalars,
        horizon=task.horizon,
    )


def test_a_batch_is_the_samples_it_names(task: NBodyTask, dataset: NBodyDataset) -> None:
    index = torch.tensor([5, 0, 5])
    graph = task.graph(task.batch("train", index)).check()
    split = dataset.splits["train"]
    assert (graph.num_graphs, graph.num_nodes) == (3, 15)
    for cloud, sample in enumerate(index.tolist()):
        nodes = graph.batch == cloud
        centred = split.positions[sample] - split.positions[sample].mean(dim=0)
        assert torch.allclose(graph.positions[nodes], centred)
        assert torch.allclose(graph.features[1][nodes, 0], centred)
        assert torch.equal(graph.features[1][nodes, 1], split.velocities[sample])
        assert torch.equal(graph.features[0][nodes, 0], split.charges[sample])


def test_edges_join_all_pairs_of_a_cloud_and_carry_the_product_of_charges(task: NBodyTask) -> None:
    graph = task.graph(task.batch("test", torch.arange(7)))
    assert torch.equal(graph.edge_index, fully_connected(graph.batch))
    charges = graph.features[0][:, 0, 0]
    assert graph.edge_scalars is not None
    assert torch.equal(graph.edge_scalars[:, 0], charges[graph.source] * charges[graph.target])


def test_fibers_and_sizes_are_those_of_the_graphs(task: NBodyTask) -> None:
    graph = task.graph(task.batch("valid", torch.arange(2)))
    task.fiber_in.check(graph.features)
    assert {name: task.size(name) for name in SIZES} == SIZES
    assert graph.edge_scalars is not None
    assert graph.edge_scalars.shape == (2 * PARTICLES * (PARTICLES - 1), task.num_edge_scalars)


def test_edges_of_a_batch_size_are_built_once_and_kept_until_the_data_move(task: NBodyTask) -> None:
    """Captured training steps read them where they lie."""

    def graph(count: int, first: int = 0) -> Graph:
        return task.graph(task.batch("train", first + torch.arange(count)))

    kept = graph(3)
    for count in range(1, 12):
        graph(count)
    later = graph(3, first=4)
    assert later.edge_index is kept.edge_index
    assert later.batch is kept.batch
    assert later.pairing is kept.pairing
    task.to("cpu", torch.float64)
    assert graph(3).edge_index is not kept.edge_index


@pytest.fixture
def wandering(dataset: NBodyDataset) -> NBodyDataset:
    """With whole trajectories of 9 frames, 6 of them starts."""
    frames = torch.randn(SIZES["train"], 9, PARTICLES, 2, 3, generator=torch.Generator().manual_seed(3))
    return replace(dataset, trajectories=NBodyTrajectories(frames, horizon_frames=3))


def test_a_training_step_sees_frames_one_horizon_apart(wandering: NBodyDataset) -> None:
    task, index = NBodyTask(NBodyTaskConfig(), wandering).to("cpu", torch.float64), torch.arange(12)
    assert wandering.trajectories is not None
    seen = set()
    for draw in range(20):
        batch = task.batch("train", index, draw)
        for sample, frames in enumerate(wandering.trajectories.frames.double()):
            velocity = batch.vectors[sample, :, 1]
            (start,) = (i for i in range(6) if torch.equal(frames[i, :, 1], velocity))
            centred = frames[start, :, 0] - frames[start, :, 0].mean(dim=0)
            assert torch.allclose(batch.vectors[sample, :, 0], centred, atol=1e-14)
            assert torch.allclose(batch.targets[sample], frames[start + 3] - frames[start], atol=1e-14)
            seen.add((sample, start))
    assert len(seen) > 0.9 * 12 * 6


def test_starts_depend_on_draw_and_trajectory_alone(wandering: NBodyDataset) -> None:
    task = NBodyTask(NBodyTaskConfig(reflect=True), wandering).to("cpu", torch.float64)
    whole = task.batch("train", torch.arange(12), 5)
    for index in (torch.tensor([7]), torch.tensor([11, 0, 11, 4])):
        part = task.batch("train", index, torch.tensor(5))
        assert torch.equal(part.vectors, whole.vectors[index])
        assert torch.equal(part.targets, whole.targets[index])
        assert torch.equal(part.charges, whole.charges[index])
    assert not torch.equal(task.batch("train", torch.arange(12), 6).vectors, whole.vectors)


def test_without_a_draw_every_split_has_its_fixed_samples(wandering: NBodyDataset, task: NBodyTask) -> None:
    drawing, index = NBodyTask(NBodyTaskConfig(reflect=True), wandering).to("cpu", torch.float64), torch.arange(4)
    for split in SIZES:
        assert torch.equal(drawing.batch(split, index).vectors, task.batch(split, index).vectors)
        assert torch.equal(drawing.batch(split, index).targets, task.batch(split, index).targets)


def test_reflection_inverts_half_of_the_samples_with_their_targets(task: NBodyTask, dataset: NBodyDataset) -> None:
    reflecting, index = NBodyTask(NBodyTaskConfig(reflect=True), dataset).to("cpu", torch.float64), torch.arange(12)
    plain, signs = task.batch("train", index, 0), []
    for draw in range(50):
        batch = reflecting.batch("train", index, draw)
        sign = (batch.vectors[:, 0, 1, 0] / plain.vectors[:, 0, 1, 0]).round()
        assert torch.equal(batch.vectors, sign[:, None, None, None] * plain.vectors)
        assert torch.equal(batch.targets, sign[:, None, None, None] * plain.targets)
        assert torch.equal(batch.charges, plain.charges)
        assert torch.equal(batch.products, plain.products)
        signs.append(sign)
    assert abs(float(torch.cat(signs).mean())) < 0.15  # 600 signs: four standard deviations


def test_the_weight_of_velocities_is_that_of_loss_and_metric(dataset: NBodyDataset) -> None:
    weighted = NBodyTask(NBodyTaskConfig(velocity_weight=0.1), dataset).to("cpu", torch.float64)
    batch = weighted.batch("valid", torch.arange(4))
    prediction = {1: torch.zeros(4 * PARTICLES, 2, 3, dtype=torch.float64)}
    found = weighted.metrics(prediction, batch)
    expected = (found["mse_x"] + 0.1 * found["mse_v"]) / 1.1
    assert torch.allclose(found["loss"], expected, rtol=1e-14)
    assert float(weighted.loss(prediction, batch)) == pytest.approx(float(expected.mean()), rel=1e-14)


def test_frames_that_are_not_finite_are_refused(wandering: NBodyDataset) -> None:
    assert wandering.trajectories is not None
    wandering.trajectories.frames[3, 2, 1] = float("nan")
    with pytest.raises(UserError, match="frames of the train data"):
        NBodyTask(NBodyTaskConfig(), wandering)


def test_loss_is_the_mean_of_both_errors(task: NBodyTask, dataset: NBodyDataset) -> None:
    batch = task.batch("train", torch.arange(12))
    prediction = {1: torch.randn(60, 2, 3, dtype=torch.float64)}
    split = dataset.splits["train"]
    x, v = prediction[1].unflatten(0, (12, 5)).unbind(dim=2)
    mse_x = (x - split.target_positions).square().mean()
    mse_v = (v - split.target_velocities).square().mean()
    assert torch.allclose(task.loss(prediction, batch), (mse_x + mse_v) / 2)
    metrics = task.metrics(prediction, batch)
    assert torch.allclose(metrics["mse_x"].mean(), mse_x)
    assert torch.allclose(metrics["mse_v"].mean(), mse_v)
    assert torch.allclose(metrics["loss"].mean(), task.loss(prediction, batch))
    assert {value.dtype for value in metrics.values()} == {torch.float64}
    assert {value.shape for value in metrics.values()} == {(12,)}


def test_the_truth_has_no_error(task: NBodyTask) -> None:
    batch = task.batch("valid", torch.arange(4))
    assert float(task.loss({1: batch.targets.flatten(0, 1)}, batch)) == 0


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_linear_model_is_the_unit_of_relative_errors(task: NBodyTask, split: str) -> None:
    model = model_of(task, LinearModel())
    batch = task.batch(split, torch.arange(task.size(split)))
    means = {name: float(value.mean()) for name, value in task.metrics(model(task.graph(batch)), batch).items()}
    assert task.relative(means, split) == pytest.approx({"relative_mse_x": 1, "relative_mse_v": 1})


@pytest.mark.parametrize(
    ("config", "scale"), [(TFNModel(num_layers=2, num_degrees=2, channels=2), 1e-12), (DeepSetModel(width=8), 10)]
)
def test_equivariance_error_agrees_with_the_public_tool(task: NBodyTask, config: Any, scale: float) -> None:
    model = model_of(task, config).eval()
    graph = task.graph(task.batch("test", torch.arange(7)))
    samples = 40
    with torch.no_grad():
        prediction, generator = model(graph), torch.Generator().manual_seed(0)
        errors = [task.equivariance(model, graph, prediction, generator) for _ in range(samples)]
    names = ("equivariance_error_x", "equivariance_error_v")
    own = torch.stack([torch.stack([error[name].mean() for error in errors]).mean() for name in names])
    public = equivariance_error_per_channel(model, graph, samples, torch.Generator().manual_seed(1))[1]
    assert bool((own < scale).all())
    if scale > 1:  # a random estimate on both sides
        assert torch.allclose(own, public, rtol=0.25)
    else:
        assert bool((public < scale).all())


class Fixed(nn.Module):
    """Adds a vector that does not turn to an output that does."""

    def __init__(self, vector: float) -> None:
        super().__init__()
        self.vector = vector

    def forward(self, graph: Graph) -> Features:
        return {1: graph.features[1] + self.vector * torch.tensor([1.0, 0.0, 0.0])}


def test_equivariance_error_is_the_relative_size_of_what_does_not_turn(task: NBodyTask) -> None:
    graph = task.graph(task.batch("test", torch.arange(7)))
    model = Fixed(1e-3)
    prediction, generator = model(graph), torch.Generator().manual_seed(0)
    errors = [task.equivariance(model, graph, prediction, generator)["equivariance_error_v"] for _ in range(60)]
    # For a unit vector c the mean of ‖Rc − c‖ over all rotations is 4/3.
    size = graph.features[1][:, 1].unflatten(0, (7, PARTICLES)).square().sum(dim=(1, 2)).sqrt()
    measured = torch.stack(errors) * size / (1e-3 * PARTICLES**0.5)
    assert float(measured.mean()) == pytest.approx(4 / 3, rel=0.08)


def test_an_output_of_zero_counts_as_no_error(task: NBodyTask) -> None:
    graph = task.graph(task.batch("test", torch.arange(7)))
    model = model_of(task, LinearModel())
    errors = task.equivariance(model, graph, model(graph), torch.Generator().manual_seed(0))
    assert bool((errors["equivariance_error_v"] == 0).all())
    assert bool((errors["equivariance_error_x"] < 1e-14).all())


def test_a_change_of_dtype_starts_from_the_exact_data(task: NBodyTask, dataset: NBodyDataset) -> None:
    single = task.to("cpu", torch.float32).batch("test", torch.arange(7))
    assert single.targets.dtype == torch.float32
    double = task.to("cpu", torch.float64).batch("test", torch.arange(7))
    assert torch.equal(double.vectors[:, :, 1], dataset.splits["test"].velocities)


@pytest.mark.parametrize("field", ["positions", "velocities", "charges", "target_positions", "target_velocities"])
def test_data_that_are_not_finite_are_refused(dataset: NBodyDataset, field: str) -> None:
    values = getattr(dataset.splits["valid"], field).clone()
    values[2, 1] = float("nan")
    splits = {**dataset.splits, "valid": replace(dataset.splits["valid"], **{field: values})}
    with pytest.raises(UserError, match=rf"the valid data hold a {field} that is not a finite number, in trajectory 2"):
        NBodyTask(NBodyTaskConfig(), replace(dataset, splits=splits))


def test_copies_of_a_task_share_its_data(task: NBodyTask) -> None:
    assert copy.deepcopy(task) is task


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    config = Config()
    with pytest.raises(UserError, match="task=nbdy: unknown; did you mean 'nbody'"):
        build_task(replace(config, task=replace(config.task, name="nbdy")))


def test_newly_made_data_are_summed_up_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = NBodyData(root=str(tmp_path), num_train=4, num_valid=2, num_test=3, num_steps=100, sample_every=10)
    data = replace(data, start="first", horizon_frames=5)
    config = Config(data=data, trainer=TrainerConfig(progress=False))
    with caplog.at_level(logging.INFO, logger="se3t"):
        NBodyTask.from_config(config)
        first = caplog.text
        NBodyTask.from_config(config)
    for word in ("4 train", "constant velocity", "constant position", "least squares", "energy drift", "force clip"):
        assert first.count(word) == 1
    assert caplog.text == first  # the same data again need no words


@pytest.mark.parametrize(
    ("fiber", "channels"),
    [("1x1", {1: [1]}), ("1x0+1x1", {0: [0], 1: [1]}), ("1x0+2x1", {0: [0], 1: [0, 1]})],
)
def test_a_model_from_elsewhere_gets_the_inputs_it_takes(
    task: NBodyTask, fiber: str, channels: dict[int, list[int]]
) -> None:
    everything = task.graph(task.batch("test", torch.arange(3)))
    task.select_inputs(TFN(Fiber(fiber), Fiber("2x1"), SMALL, num_edge_scalars=1))
    graph = task.graph(task.batch("test", torch.arange(3)))
    assert Fiber.of(graph.features) == task.fiber_in == Fiber(fiber)
    for degree, kept in channels.items():  # of type 1: position, velocity
        assert torch.equal(graph.features[degree], everything.features[degree][:, kept])


def test_a_model_that_pools_is_refused(task: NBodyTask) -> None:
    model = TFN(Fiber("1x1"), Fiber("2x1"), SMALL, num_edge_scalars=1)
    model.readout = Readout(Fiber("2x1"), Fiber("2x1"), pooling="mean")
    with pytest.raises(UserError, match="an output for each cloud; task nbody needs one for each node"):
        task.select_inputs(model)


def test_a_model_of_other_inputs_is_refused_and_changes_nothing(task: NBodyTask) -> None:
    for fiber_in, fiber_out in (("3x0", "2x1"), ("1x1", "1x0")):
        model = TFN(Fiber(fiber_in), Fiber(fiber_out), SMALL)
        with pytest.raises(UserError, match=f"the model maps {fiber_in} to {fiber_out}; task nbody has inputs"):
            task.select_inputs(model)
