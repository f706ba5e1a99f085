"""``memory``, ``data``, ``sh`` and the machine's roofs."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch

from benchmarks import roofs
from benchmarks import sh as peers_sh
from data.molecules.parts import crowd, write
from se3t.bench import data, memory, sh
from se3t.bench.child import Peak
from se3t.bench.equality import DisagreementError
from se3t.bench.options import Options
from se3t.config import TARGETS, QM9Data
from se3t.data.qm9.prepare import store_path
from se3t.errors import UserError
from se3t.so3 import spherical_harmonics

QUICK = Options(quick=True, threads=1, repetitions=1)


@pytest.mark.parametrize("degree", [0, 1, 5])
def test_scipys_harmonics_are_brought_to_our_order_and_signs(degree: int) -> None:
    vectors = torch.randn(20, 3, dtype=torch.float64)
    found = sh.scipy_harmonics(degree, vectors.roll(1, -1))
    torch.testing.assert_close(found, spherical_harmonics(degree, vectors), rtol=0, atol=1e-13)


@pytest.mark.e2e
def test_every_implementation_stands_beside_its_error() -> None:
    report = peers_sh.run(QUICK, max_degree=2, num_vectors=100)
    present = [name for name in peers_sh.IMPLEMENTATIONS if importlib.util.find_spec(name)]
    forward = [row for row in report.rows if row["what"] == sh.FORWARD]
    assert [(row["degree"], row["name"]) for row in forward] == [(J, name) for J in range(3) for name in present]
    assert all(0 <= row["difference"] < 1e-5 for row in report.rows)
    assert all(row["per_second"] == pytest.approx(100 / row["time"] / 1e6) for row in report.rows)
    assert not any(row["name"] == "scipy" for row in report.rows if row["what"] == sh.BOTH)


def test_an_implementation_of_another_convention_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = sh.Implementation(lambda J: lambda vectors: spherical_harmonics(J, vectors.roll(1, -1)))
    with pytest.raises(DisagreementError, match="se3t, J ≤ 1: differs by"):
        sh.run(QUICK, max_degree=1, num_vectors=10, implementations={"se3t": turned})


@pytest.mark.e2e
@pytest.mark.parametrize("what", [sh.FORWARD, sh.BOTH])
def test_another_implementation_is_left_out_where_it_loses_its_digits(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Worse(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, value: torch.Tensor) -> torch.Tensor:
            return value * (1.1 if what == sh.FORWARD else 1)

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * 1.1

    def make(degree: int) -> sh.Evaluate:
        return lambda vectors: (Worse.apply if degree == 2 else torch.clone)(spherical_harmonics(degree, vectors))

    both = {"se3t": sh.IMPLEMENTATIONS["se3t"], "e3nn": sh.Implementation(make)}
    report = sh.run(QUICK, max_degree=3, num_vectors=10, implementations=both)
    found = {
        degree: {row["what"] for row in report.rows if row["name"] == "e3nn" and row["degree"] == degree}
        for degree in range(4)
    }
    left = set() if what == sh.FORWARD else {sh.FORWARD}
    assert found == {0: {sh.FORWARD, sh.BOTH}, 1: {sh.FORWARD, sh.BOTH}, 2: left, 3: {sh.FORWARD, sh.BOTH}}
    assert sum(note.startswith("left out: e3nn, J ≤ 2: differs by") for note in report.notes) == 1
    assert len([row for row in report.rows if row["name"] == "se3t"]) == 8


def test_scipy_alone_has_no_gradients_to_time() -> None:
    assert {row["what"] for row in sh.run(QUICK, ["scipy"], max_degree=0, num_vectors=5).rows} == {sh.FORWARD}


def test_a_missing_package_is_left_out_with_a_line_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(peers_sh, "find_spec", lambda name: None if name == "sphericart" else find(name))
    report = peers_sh.run(QUICK, max_degree=0, num_vectors=10)
    assert "sphericart" not in {row["name"] for row in report.rows}
    assert any("sphericart is left out: the package sphericart-torch is missing" in note for note in report.notes)
    with pytest.raises(UserError, match="sphericart needs the package sphericart-torch"):
        peers_sh.run(QUICK, ["sphericart"])


def few(name: str) -> dict[str, data.Store]:
    """One store of which only batches of 32 are made."""
    return {name: dataclasses.replace(data.STORES[name], batch_sizes=(32,))}


def test_random_samples_stand_for_data_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "STORES", few("nbody"))
    report = data.run(QUICK, ["nbody"], root=str(tmp_path / "data"))
    flat, single = report.rows
    assert (flat["name"], single["name"]) == ("flat arrays", "sample by sample")
    assert (flat["store"], flat["ratio"]) == ("nbody", 1)
    assert flat["samples_per_second"] == pytest.approx(flat["batch_size"] * flat["per_second"])
    root = tmp_path / "data"
    assert f"nbody: no prepared data in {root}: 32 random samples of the same sizes, in memory." in report.notes
    assert not list(tmp_path.iterdir())


def test_molecules_are_timed_by_kind_of_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "STORES", few("qm9"))
    report = data.run(QUICK, ["qm9"], root=str(tmp_path / "data"))
    assert [row["store"] for row in report.rows[::2]] == ["qm9, bonds", "qm9, complete", "qm9, radius"]
    assert [row["ratio"] for row in report.rows[::2]] == [1, 1, 1]
    assert len([note for note in report.notes if note.startswith("qm9: ")]) == 1


def test_prepared_molecules_are_the_ones_that_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = dataclasses.replace(data.STORES["qm9"], graphs={"radius": ["data.graph=radius"]})
    monkeypatch.setattr(data, "STORES", {"qm9": store})
    count = 40
    columns = {name: [float(number) for number in range(count)] for name in TARGETS}
    words = ["train"] * 36 + ["valid"] * 4
    write(store_path(QM9Data(root=str(tmp_path))), crowd(count), words, columns)
    report = data.run(QUICK, ["qm9"], root=str(tmp_path))
    assert {row["batch_size"] for row in report.rows} == {32}
    assert any(note.startswith(f"qm9: prepared data in {tmp_path / 'qm9'}.") for note in report.notes)


def test_ways_to_assemble_a_batch_that_differ_are_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "STORES", few("nbody"))
    monkeypatch.setattr(data, "_single", lambda task, index: data._flat(task, index.flip(0)))
    with pytest.raises(AssertionError, match="differ in positions"):
        data.run(QUICK, ["nbody"], root=str(tmp_path))


def test_memory_is_weighed_in_a_process_for_every_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def measure_peak(self: Options, maker: str, arguments: dict[str, object], rounds: int = 3) -> Peak:
        asked.append(arguments)
        return Peak(None, "ended by SIGKILL") if arguments["name"] == "vectorised" else Peak(2**20 * len(asked))

    monkeypatch.setattr(Options, "measure_peak", measure_peak)
    options = dataclasses.replace(QUICK, seed=3)
    report = memory.run(options, ["nbody"], ["edge_frame", "vectorised", "edge_frame-low", "edge_frame"])
    assert {arguments["spec"]["seed"] for arguments in asked} == {3}  # type: ignore[index]
    assert [arguments["name"] for arguments in asked] == ["edge_frame", "vectorised", "edge_frame-low"]
    assert [row.get("ratio") for row in report.rows] == [1, None, 3]
    assert any("vectorised is missing: its process ended by SIGKILL" in note for note in report.notes)
    with pytest.raises(UserError, match="nothing could be measured"):
        memory.run(QUICK, ["nbody"], ["vectorised"])


def test_what_holds_gigabytes_is_weighed_where_it_is_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Options, "measure_peak", lambda self, *arguments: Peak(1))
    everything = memory.run(QUICK, ["qm9_complete"], num_graphs=32)
    names = {row["name"] for row in everything.rows}
    assert "edge_frame-low" in names
    assert not {"reference", "vectorised", "edge_frame-speed"} & names
    assert any("vectorised is left out: it holds" in note for note in everything.notes)
    assert len(memory.run(QUICK, ["qm9_complete"], ["vectorised"], num_graphs=32).rows) == 1


def test_roofs_are_those_of_a_product_and_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofs, "_fastest", lambda work, device: 0.5)
    peaks = roofs.measure_peaks("cpu", quick=True)
    assert peaks.flop == 2 * peaks.side**3 / 0.5
    assert peaks.bandwidth == 2 * 2**26 / 0.5
    assert peaks.roof(flop=int(peaks.flop), num_bytes=0) == pytest.approx(1)
    assert peaks.roof(flop=0, num_bytes=2 * int(peaks.bandwidth)) == pytest.approx(2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "gpu"}, "device 'gpu': expected cpu or cuda"),
        ({"device": "cuda"}, "torch sees no CUDA device"),
        ({"threads": 0}, "threads=0: expected a number above 0"),
        ({"seed": 2**63}, "seed=9223372036854775808: expected a whole number between"),
        ({"seconds": -1.0}, "seconds=-1.0: expected a number above 0"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    given: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        Options(**given)  # type: ignore[arg-type]
