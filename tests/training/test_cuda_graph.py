"""Steps as CUDA graphs, as far as this can be tested without a GPU: what they need, when they refuse, what is kept."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn

from other_device import reads
from se3t.config import Config, SE3TransformerModel, TrainerConfig
from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph, fully_connected
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import EquivariantBasis
from se3t.nn.kernels.edge_frame import without_reading_values
from se3t.tasks.base import Task
from se3t.training import cuda_graph
from se3t.training.cuda_graph import Recorded, StepGraphs
from se3t.training.feed import derived_seed
from se3t.training.module import TrainingModule

SIZES = {"num_layers": 3, "num_degrees": 3, "channels": 4, "channels_div": 1, "self_interaction": "linear"}


def graph_and_model(**options: object) -> tuple[Graph, SE3Transformer]:
    batch = torch.arange(3).repeat_interleave(5)
    edges = fully_connected(batch)
    charge = torch.randint(0, 2, (15, 1, 1)) * 2.0 - 1
    scalars = (charge[edges[0]] * charge[edges[1]])[:, 0]
    features = {0: charge, 1: torch.randn(15, 2, 3)}
    graph = Graph(torch.randn(15, 3), features, edges, batch, 3, scalars)
    settings = SE3TransformerModel(**{**SIZES, "kernel": "edge_frame", **options})
    model = SE3Transformer(Fiber("1x0+2x1"), Fiber("2x1"), settings, num_edge_scalars=1)
    return graph, model


def forward(model: SE3Transformer, graph: Graph, geometry: EdgeGeometry) -> Tensor:
    """The model, with the geometry made outside."""
    basis, features = EquivariantBasis(geometry, model.max_degree), graph.features
    for index, layer in enumerate(model.layers):
        features = layer(features, basis)
        features = model.norms[index](features) if index < len(model.norms) else features
    out = model.readout(features, graph.batch, graph.num_graphs)
    return torch.cat([value.flatten() for value in out.values()]).square().mean()


# --- what a step reads ------------------------------------------------------------------------------------------------


def test_the_list_of_reads_is_not_blind() -> None:
    values = torch.randn(4)
    with reads() as found:
        bool((values > 0).all())
        values[values > 0]
        torch.nonzero(values)
        values.repeat_interleave(2)
        torch.equal(values, values)
    assert {"_local_scalar_dense", "index by a mask", "nonzero", "equal"} <= set(found)


@pytest.mark.parametrize("self_interaction", ["linear", "attentive"])
@pytest.mark.parametrize("memory", ["speed", "low"])
def test_a_step_behind_the_geometry_reads_no_values(self_interaction: str, memory: str) -> None:
    graph, model = graph_and_model(self_interaction=self_interaction, memory=memory)
    geometry = EdgeGeometry.of(graph, pair=True)
    assert geometry.repeat == 2
    forward(model, graph, geometry)  # constants are made on first use
    with reads() as found, without_reading_values():
        forward(model, graph, geometry).backward()
    assert found == []


def test_without_being_told_only_coincident_points_are_looked_for() -> None:
    graph, model = graph_and_model()
    geometry = EdgeGeometry.of(graph, pair=True)
    forward(model, graph, geometry)
    with reads() as found:
        forward(model, graph, geometry).backward()
    assert found == ["nonzero"]


def test_the_model_reads_no_values_but_for_what_the_geometry_reads() -> None:
    graph, model = graph_and_model()
    model(graph)
    with reads() as geometry:
        EdgeGeometry.of(graph, pair=True)
    with reads() as whole, without_reading_values():
        torch.cat([value.flatten() for value in model(graph).values()]).sum().backward()
    assert whole == geometry


def test_finding_coincident_points_by_a_mask_gives_the_same_step() -> None:
    graph, model = graph_and_model()
    graph.positions[1] = graph.positions[0]
    geometry, results = EdgeGeometry.of(graph, pair=True), []
    for switch in (without_reading_values, torch.enable_grad):
        with switch():
            loss = forward(model, graph, geometry)
        results.append([loss, *torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)])
    for one, other in zip(*results, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


# --- steps ------------------------------------------------------------------------------------------------------------


def loss_of(model: nn.Module) -> Any:
    return lambda inputs, target: nn.functional.mse_loss(model(inputs), target)


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(size, 3), torch.randn(size, 2)) for size in sizes]


def test_without_a_device_every_step_runs_eagerly_and_the_log_says_why_once(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Linear(3, 2)
    twin = copy.deepcopy(model)
    optimizers = [torch.optim.Adam(part.parameters(), lr=0.1) for part in (model, twin)]
    steps = StepGraphs(loss_of(model), model.parameters())
    with caplog.at_level(logging.WARNING):
        for inputs, target in batches(4, 4, 4, 7):
            received = steps(inputs, target)
            optimizers[0].step()
            optimizers[1].zero_grad()
            expected = loss_of(twin)(inputs, target)
            expected.backward()
            optimizers[1].step()
            assert torch.equal(received, expected.detach())
            assert not received.requires_grad
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), twin.parameters(), strict=True))
    assert [record.getMessage() for record in caplog.records] == [
        "CUDA graphs are not used: the batch is on cpu, a CUDA device is needed"
    ]
    assert steps.recorded == {}


def test_a_step_ends_with_fresh_gradients() -> None:
    model = nn.Linear(3, 2)
    steps = StepGraphs(loss_of(model), model.parameters())
    (batch,) = batches(4)
    steps(*batch)
    first = model.weight.grad
    steps(*batch)
    assert first is not None
    assert model.weight.grad is not None
    assert torch.equal(first, model.weight.grad)  # not added up


def test_a_step_under_autocast_has_the_gradients_of_a_backward_pass_outside() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    steps = StepGraphs(loss_of(model), model.parameters())
    ((inputs, target),) = batches(4)
    with torch.autocast("cpu", torch.bfloat16):
        steps(inputs, target)
        loss = loss_of(model)(inputs, target)
    received = [parameter.grad for parameter in model.parameters()]
    for one, other in zip(received, torch.autograd.grad(loss, list(model.parameters())), strict=True):
        assert one is not None
        assert torch.equal(one, other)


class Recorder:
    """In place of the capture: a recording that computes in its own buffers when it is replayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> None:
        self.captured: list[int] = []
        self.replayed: list[int] = []
        self.fails = fails
        monkeypatch.setattr(cuda_graph, "unavailable", lambda device: None)
        recorder = self
        monkeypatch.setattr(StepGraphs, "_record", lambda steps, batch: recorder.record(steps, batch))

    def record(self, steps: StepGraphs, batch: tuple[Tensor, ...]) -> Recorded:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore words")
        self.captured.append(len(batch[0]))
        inputs = tuple(torch.full_like(value, torch.nan if value.is_floating_point() else -1) for value in batch)
        loss, gradients = torch.zeros(()), tuple(torch.zeros_like(parameter) for parameter in steps.parameters)

        def replay() -> None:
            self.replayed.append(len(inputs[0]))
            found = steps.loss(*inputs)
            loss.copy_(found.detach())
            for place, value in zip(gradients, torch.autograd.grad(found, steps.parameters), strict=True):
                place.copy_(value)

        return Recorded(inputs, loss, gradients, replay)


def test_each_shape_is_captured_once_when_it_comes_again_and_replayed_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder, model = Recorder(monkeypatch), nn.Linear(3, 2)
    steps = StepGraphs(loss_of(model), model.parameters())
    results = []
    for inputs, target in batches(4, 4, 7, 4, 7, 7, 4):
        results.append((steps(inputs, target), loss_of(model)(inputs, target)))
        expected = torch.autograd.grad(results[-1][1], list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradient)
    assert recorder.captured == [4, 7]
    assert recorder.replayed == [4, 4, 7, 7, 4]
    for received, value in results:  # of former steps too: no buffer of the graph is given away
        torch.testing.assert_close(received, value.detach())


def test_more_shapes_than_there_is_room_for_run_eagerly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, model = Recorder(monkeypatch), nn.Linear(3, 2)
    steps = StepGraphs(loss_of(model), model.parameters(), capacity=1)
    with caplog.at_level(logging.WARNING):
        for inputs, target in batches(4, 5, 5, 5, 6, 4, 4):
            torch.testing.assert_close(steps(inputs, target), loss_of(model)(inputs, target).detach())
    assert recorder.captured == [4]
    assert recorder.replayed == [4, 4]
    assert [record.getMessage() for record in caplog.records] == [
        "CUDA graphs: batches of more than 1 shapes; further ones run eagerly"
    ]


def test_a_step_that_cannot_be_captured_runs_eagerly_from_then_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Recorder(monkeypatch, fails=True)
    model = nn.Linear(3, 2)
    steps = StepGraphs(loss_of(model), model.parameters())
    with caplog.at_level(logging.WARNING):
        for inputs, target in batches(4, 4, 4):
            torch.testing.assert_close(steps(inputs, target), loss_of(model)(inputs, target).detach())
    assert steps.reason == "the step cannot be captured: operation not permitted when stream is capturing"
    assert len(caplog.records) == 1


def test_after_a_clear_every_shape_is_captured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, model = Recorder(monkeypatch), nn.Linear(3, 2)
    steps = StepGraphs(loss_of(model), model.parameters(), capacity=1)
    for inputs, target in batches(4, 4, 5):
        steps(inputs, target)
    steps.clear()
    for inputs, target in batches(5, 5, 5):
        torch.testing.assert_close(steps(inputs, target), loss_of(model)(inputs, target).detach())
    assert recorder.captured == [4, 5]
    assert recorder.replayed == [4, 5, 5]


def test_a_clear_forgets_why_nothing_could_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, model = Recorder(monkeypatch, fails=True), nn.Linear(3, 2)
    steps = StepGraphs(loss_of(model), model.parameters())
    for inputs, target in batches(4, 4):
        steps(inputs, target)
    steps.clear()
    assert steps.reason is None
    recorder.fails = False
    for inputs, target in batches(4, 4):
        steps(inputs, target)
    assert recorder.captured == [4]


class Streams:
    """In place of CUDA's streams: which one is the current one, and a capture that keeps its own when it cannot end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current: Any = MagicMock(name="stream of the caller")
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: MagicMock(name="side stream"))
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.current)
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(self, "current", stream))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", MagicMock)
        monkeypatch.setattr(torch.cuda, "graph", self.capture)
        monkeypatch.setattr(cuda_graph, "unavailable", lambda device: None)

    @contextmanager
    def capture(self, graph: object) -> Iterator[None]:
        self.current = MagicMock(name="stream of the capture")
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")


def test_a_capture_that_fails_leaves_the_caller_on_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    streams, model = Streams(monkeypatch), nn.Linear(3, 2)
    before = streams.current
    steps = StepGraphs(loss_of(model), model.parameters())
    for inputs, target in batches(4, 4, 4):
        torch.testing.assert_close(steps(inputs, target), loss_of(model)(inputs, target).detach())
    assert steps.reason == "the step cannot be captured: operation failed due to a previous error during capture"
    assert streams.current is before


def test_every_replay_of_a_training_step_has_the_draw_of_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, model, draws = Recorder(monkeypatch), nn.Linear(3, 1), []
    task = MagicMock(spec=Task)

    def batch(split: str, index: Tensor, draw: Tensor) -> Tensor:
        draws.append(int(draw))
        return index[:, None] + (draw % 1000) / torch.tensor([1.0, 2.0, 3.0])

    task.batch.side_effect, task.graph.side_effect = batch, lambda samples: samples
    task.loss.side_effect = lambda prediction, samples: prediction.square().mean()
    module = TrainingModule(model, task, Config(seed=3, trainer=TrainerConfig(cuda_graph=True)))
    module.trainer = MagicMock()
    for step in range(5):
        module.trainer.global_step = step
        module.training_step(torch.arange(4))
    assert recorder.replayed == [4] * 4
    assert draws == [derived_seed(3, step) for step in range(5)]


def test_captures_are_forgotten_when_the_data_move() -> None:
    task = MagicMock(spec=Task)
    config = Config(trainer=TrainerConfig(cuda_graph=True))
    module = TrainingModule(nn.Linear(3, 2), task, config)
    module.trainer = MagicMock()
    assert module.graphs is not None
    module.graphs.recorded[(((4,), torch.int64, torch.device("cpu")),)] = MagicMock(spec=Recorded)
    module.setup("fit")
    task.to.assert_called_once()
    assert module.graphs.recorded == {}
