from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from se3t.bench import peer, step
from se3t.bench.step import FIBER_IN, FIBER_OUT, PEER, SEPARATE, Settings
from se3t.errors import UserError
from se3t.fiber import Fiber

TINY = Settings(
    num_graphs=2, num_points=3, num_layers=3, num_degrees=2, channels=4, channels_div=2, repetitions=1, warmup=0
)
needs_peer = pytest.mark.skipif(not peer.is_installed(), reason=f"{peer.PACKAGE} is not installed (extra: bench)")


def run_command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    options = [
        f"--{name.replace('_', '-')}={value}" for name, value in dataclasses.asdict(TINY).items() if value is not None
    ]
    status = step.main([*options, *arguments])
    return status, capsys.readouterr().out


def test_default_settings_are_those_of_table_1():
    graph = step.random_graph(Settings())
    assert graph.check().edge_index.shape == (2, 2560)
    assert Fiber.of(graph.features) == FIBER_IN
    assert graph.edge_scalars.shape == (2560, 1)
    assert set(graph.edge_scalars.unique().tolist()) == {-1.0, 1.0}


def test_same_seed_gives_every_kernel_the_same_weights():
    first, second = step.build_model(TINY, "vectorised"), step.build_model(TINY, "reference")
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("name", [name for name in step.CONTENDERS if name != PEER])
def test_every_kernel_agrees_with_the_reference(name: str):
    assert step.difference_from_reference(TINY, name) <= step.TOLERANCE


def test_a_kernel_that_disagrees_is_not_timed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step, "difference_from_reference", lambda settings, name: 1e-3)
    with pytest.raises(ValueError, match="vectorised: differs from the reference kernel by"):
        step.run(TINY, ["vectorised"], with_memory=False)


def test_command_prints_a_table_and_writes_json(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    file = tmp_path / "step.json"
    status, printed = run_command(capsys, "--no-memory", "--contenders", "vectorised", "reference", "--json", str(file))
    assert status == 0
    assert all(word in printed for word in ("vectorised", "reference", "ratio", "Equal outputs"))
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["settings"]["num_points"] == 3
    first, second = content["results"]
    assert [first["name"], second["name"]] == ["vectorised", "reference"]
    assert first["parameters"] == second["parameters"] > 0
    assert 0 < first["time"]["forward"]["median"] < first["time"]["total"]["median"]


def test_peak_memory_is_measured_in_another_process():
    (result,) = step.run(TINY, ["vectorised"])
    assert result.peak_memory is not None
    assert result.peak_memory > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--contenders", "vectorized"), "did you mean 'vectorised'"),
        (("--device", "cuda"), "no CUDA device"),
        (("--contenders", PEER, "--num-layers", "2"), "give 3 or more"),
    ],
)
def test_bad_input_is_one_clear_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
):
    monkeypatch.setattr(peer, "is_installed", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, printed = run_command(capsys, *arguments)
    assert status == 2
    assert message in " ".join(printed.split())


def test_missing_peer_is_left_out_or_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peer, "is_installed", lambda: False)
    assert PEER not in step.available()
    with pytest.raises(UserError, match=r"se3t\[bench\]"):
        step.run(TINY, [PEER])


@needs_peer
def test_peer_does_equal_work():
    """Radial output per edge, the measure of the dominant cost, differs by a few per cent at the benchmark's sizes."""
    settings = Settings(num_graphs=2)
    sizes = [step._weights_per_edge(step.build_step(settings, name).module, name) for name in ("vectorised", PEER)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
    assert sizes[1] <= sizes[0]


@needs_peer
def test_peer_computes_a_differentiable_loss_and_sees_the_edge_feature():
    contender = step.build_step(TINY, PEER)
    torch.autograd.backward(contender.loss())
    assert all(parameter.grad is not None for parameter in contender.module.parameters())
    graph = step.random_graph(TINY)
    features, positions, edges = peer._dense(graph)
    assert (features["1"].shape, positions.shape, edges.shape) == ((2, 3, 2, 3), (2, 3, 3), (2, 3, 3, 1))
    charge = features["0"][..., 0, 0]
    off_diagonal = ~torch.eye(3, dtype=torch.bool)
    assert torch.equal(edges[..., 0][:, off_diagonal], (charge[:, :, None] * charge[:, None, :])[:, off_diagonal])


@needs_peer
def test_peer_appears_in_the_table_with_what_is_equal_and_what_not(capsys: pytest.CaptureFixture[str]):
    status, printed = run_command(capsys, "--no-memory", "--contenders", "vectorised", f"vectorised{SEPARATE}", PEER)
    assert status == 0
    assert all(text in printed for text in ("se3-transformer-pytorch", "Peer, equal", "Peer, not equal"))


def test_output_is_of_the_task():
    FIBER_OUT.check(step.build_model(TINY, "vectorised")(step.random_graph(TINY)))
