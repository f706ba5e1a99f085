"""``python -m benchmarks step``: the codes of others beside ours, the least work and the machine's roofs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import peer, step
from benchmarks.peer import PEER
from benchmarks.roofs import Peaks
from benchmarks.step import collect
from benchmarks.twin import E3NN
from se3t.bench.contenders import SEPARATE, Ours
from se3t.bench.options import Options
from se3t.bench.workloads import Workload, weights_per_edge
from se3t.errors import UserError

pytestmark = pytest.mark.e2e  # comparisons with other codes

QUICK = Options(quick=True, threads=1, repetitions=1)
NBODY = Workload.of("nbody", 2)
needs_peer = pytest.mark.skipif(not peer.is_installed(), reason=f"{peer.PACKAGE} is not installed (extra: bench)")


@pytest.fixture(scope="module", autouse=True)
def known_peaks() -> Iterator[None]:
    """Roofs that take no time to measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "measure_peaks", lambda device, quick, precision: Peaks(flop=1e11, bandwidth=1e10, side=8))
        yield


@pytest.mark.parametrize("name", ["nbody", "qm9", "pointcloud"])
@pytest.mark.usefixtures("e3nn")
@pytest.mark.parametrize("ending", ["", SEPARATE])
def test_the_twin_made_of_e3nn_computes_the_same_values_and_gradients(name: str, ending: str) -> None:
    workload = dataclasses.replace(Workload.of(name, 1, 6), num_layers=2, num_degrees=3, channels=8)
    difference = Ours.parse(E3NN + ending).difference(workload).check(E3NN)
    assert max(difference.value, difference.gradient) <= 1e-12


def test_every_contender_runs_in_every_precision_and_the_fastest_is_told_as_words_to_train_with() -> None:
    report = step.run(QUICK, ["qm9"], ["edge_frame-low", "vectorised"], num_graphs=1, precisions=("32", "bf16", "32"))
    names = ["edge_frame-low", "vectorised", "edge_frame-low bf16", "vectorised bf16"]
    assert [row["name"] for row in report.rows] == names
    assert all(row["per_ms"] == pytest.approx(1e-3 / row["step"]) for row in report.rows)
    best = min(report.rows, key=lambda row: row["step"])
    kernel, memory, precision = report.facts["fastest_settings"]["qm9"]
    assert kernel == f"model.kernel={best['contender'].removesuffix('-low')}"
    assert memory == f"model.memory={'low' if best['contender'].endswith('-low') else 'auto'}"
    assert precision == f"trainer.precision={best['precision']}"
    beside = [note for note in report.notes if "NVIDIA" in note]
    assert [note.split(":")[0] for note in beside] == [
        f"qm9, {word}" for word in (("float32", "bfloat16 autocast")[:: 1 if best["precision"] == "32" else -1])
    ]


@pytest.mark.usefixtures("e3nn")
def test_what_knows_float32_alone_is_measured_in_it(tmp_path: Path) -> None:
    (tmp_path / "idle.py").write_text("def build(workload):\n    return lambda: None, workload.title")
    names, files = ["edge_frame", E3NN], [str(tmp_path / "idle.py")]
    report = step.run(QUICK, ["nbody"], names, files, num_graphs=1, precisions=("bf16",))
    assert [(row["name"], row["precision"]) for row in report.rows] == [
        ("edge_frame bf16", "bf16"),
        (E3NN, "32"),
        ("idle", "32"),
    ]
    assert report.failures == []


def test_report_states_the_counted_work_and_what_share_of_the_peak_a_step_reaches() -> None:
    report = step.run(QUICK, ["nbody", "pointcloud"], ["edge_frame", "vectorised"], num_graphs=1)
    peak_flop, peak_bytes = report.facts["peak_flop_per_second"], report.facts["peak_bytes_per_second"]
    for row in report.rows:
        assert row["share_of_flop"] == pytest.approx(row["least_flop"] / row["step"] / peak_flop)
        assert row["share_of_bandwidth"] == pytest.approx(row["least_bytes"] / row["step"] / peak_bytes)
        assert row["share_of_roof"] == pytest.approx(max(row["share_of_flop"], row["share_of_bandwidth"]))
        assert row["share_of_roof"] > 0
    assert any("GFLOP" in note for note in report.notes)
    assert any("synthetic" in text for text in (report.title, *report.notes))


def test_an_adapter_stands_in_the_table_without_a_share_of_our_work(tmp_path: Path) -> None:
    file = tmp_path / "idle.py"
    file.write_text("def build(workload):\n    return lambda: None, 'does nothing'")
    report = step.run(QUICK, ["nbody"], ["edge_frame"], [str(file)], num_graphs=1)
    own = report.rows[1]
    assert (own["name"], own["share_of_roof"], own["difference"]) == ("idle", None, None)
    assert any(note.startswith("idle: does nothing") for note in report.notes)


def test_missing_peer_is_left_out_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "is_installed", lambda: False)
    contenders, notes = collect(NBODY, [], [])
    assert PEER not in [contender.name for contender in contenders]
    assert any(note.startswith("nbody: peer is left out: ") for note in notes)
    with pytest.raises(UserError, match=r"se3t\[bench\]"):
        collect(NBODY, [PEER], [])


@needs_peer
def test_peer_does_equal_work() -> None:
    """Radial output per edge, the measure of the dominant cost, differs by a few per cent at the benchmark's sizes."""
    ours = weights_per_edge(NBODY.model())
    theirs = peer.make(NBODY).weights_per_edge
    assert theirs is not None
    assert ours * 0.95 <= theirs <= ours


@needs_peer
def test_peer_computes_a_differentiable_loss_and_sees_the_edge_feature() -> None:
    model, loss = peer.build_peer(NBODY)
    loss().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    features, positions, edges = peer._dense(NBODY.graph())
    assert (features["1"].shape, positions.shape, edges.shape) == ((2, 5, 2, 3), (2, 5, 3), (2, 5, 5, 1))
    charge = features["0"][..., 0, 0]
    off_diagonal = ~torch.eye(5, dtype=torch.bool)
    assert torch.equal(edges[..., 0][:, off_diagonal], (charge[:, :, None] * charge[:, None, :])[:, off_diagonal])


@needs_peer
def test_peer_is_left_out_of_workloads_that_it_is_not_set_up_for() -> None:
    found, notes = collect(Workload.of("qm9", 1, 6), ["edge_frame", PEER], [])
    assert [contender.name for contender in found] == ["edge_frame"]
    assert "complete graphs" in notes[0]
