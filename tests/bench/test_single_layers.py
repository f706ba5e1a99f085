"""``layer`` and ``scaling``: one layer by kernel over sizes."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import torch

from benchmarks import layer
from benchmarks.counting import Work
from benchmarks.layer import Convolution, work_of
from benchmarks.roofs import Peaks
from se3t.bench import scaling
from se3t.bench.contenders import usable_kernels
from se3t.bench.options import Options
from se3t.bench.single import Single
from se3t.errors import UserError
from se3t.nn import EquivariantConv, SE3AttentionBlock
from se3t.nn.kernels import vectorised

pytestmark = pytest.mark.e2e  # comparisons with other codes

QUICK = Options(quick=True, threads=1, repetitions=1)
SIZES = {"num_graphs": 2, "num_points": 8, "num_neighbors": 3, "num_degrees": 2, "channels": 4}
SMALL = Single(**SIZES)


@pytest.mark.parametrize(("single", "kind"), [(SMALL, SE3AttentionBlock), (Convolution(**SIZES), EquivariantConv)])
def test_a_layer_gives_gradients_to_its_parameters_and_its_input(single: Single, kind: type) -> None:
    step = single.step("edge_frame")
    assert any(isinstance(part, kind) for part in step.module.modules())
    step.loss().backward()
    assert all(parameter.grad is not None for parameter in step.module.parameters())
    assert single.graph().check().edge_index.shape == (2, single.num_edges)


@pytest.mark.parametrize("name", ["edge_frame", "vectorised", "edge_frame-low", "e3nn"])
@pytest.mark.parametrize("single", [SMALL, Convolution(**SIZES)])
@pytest.mark.usefixtures("e3nn")
def test_a_layer_with_any_kernel_equals_the_reference(name: str, single: Single) -> None:
    difference = single.difference(name).check(name)
    assert max(difference.value, difference.gradient) <= 1e-12


def test_counted_work_of_a_layer_is_linear_in_its_clouds_but_for_the_parameters() -> None:
    one, two, three = (work_of(dataclasses.replace(Convolution(**SIZES), num_graphs=count)) for count in (1, 2, 3))
    assert Work(three.flop - two.flop, three.bytes - two.bytes) == Work(two.flop - one.flop, two.bytes - one.bytes)


def test_layer_report_varies_one_size_and_compares_kernels_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "measure_peaks", lambda device, quick: Peaks(flop=1e11, bandwidth=1e10, side=8))
    report = layer.run(QUICK, ["edge_frame", "vectorised"], ["degrees"])
    assert [row["num_degrees"] for row in report.rows] == [1, 1, 2, 2, 3, 3]
    assert {(row["channels"], row["num_edges"]) for row in report.rows} == {(8, 320)}
    assert [row["ratio"] for row in report.rows[::2]] == [1, 1, 1]
    for row in report.rows:
        assert row["gflops"] == pytest.approx(row["least_flop"] / row["step"] / 1e9)


@pytest.mark.parametrize("run", [layer.run, scaling.run])
def test_an_unknown_kernel_is_refused_before_any_work(run: object) -> None:
    with pytest.raises(UserError, match="did you mean 'vectorised'"):
        run(QUICK, ["vectorized"])  # type: ignore[operator]


@pytest.mark.parametrize("run", [layer.run, scaling.run])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("peer", "contender 'peer' is not known"),
        ("edge_frame-separate", "the ending -separate is for bench step and bench memory only"),
        ("native-low", "only edge_frame and auto have the endings"),
    ],
)
def test_what_has_no_meaning_for_a_layer_is_refused(run: object, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(QUICK, [name])  # type: ignore[operator]


def test_a_kernel_that_cannot_run_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectorised, "unavailable", lambda device: f"not on {device.type}", raising=False)
    with pytest.raises(UserError, match="contender 'vectorised' cannot run here: not on cpu"):
        usable_kernels(["edge_frame", "vectorised"], "cpu")
    assert "vectorised is left out: not on cpu." in usable_kernels([], "cpu")[1]


@pytest.mark.parametrize(("sweeps", "least"), [(scaling.SWEEPS, 640), (["points"], 1000), (["degree"], 5120)])
def test_fewer_edges_than_any_case_has_is_an_error_with_the_smallest(sweeps: list[str], least: int) -> None:
    with pytest.raises(UserError, match=f"max_edges=9: expected at least {least}, the edges of the smallest case"):
        scaling.run(QUICK, ["edge_frame"], sweeps, max_edges=9)


@pytest.mark.parametrize("power", [0.9, 1.0, 1.3])
def test_the_exponent_of_a_power_law_is_found(power: float) -> None:
    rows = [{"num_edges": edges, "step": 3e-6 * edges**power} for edges in (1_000, 10_000, 200_000)]
    assert scaling.exponent(rows) == pytest.approx(power)
    assert scaling.exponent(rows[:1]) is None


def test_fits_tell_small_sizes_from_large_ones_and_give_bytes_of_one_more_edge() -> None:
    """A fixed cost of a millisecond and 50 MB beside 1 µs and 200 bytes an edge."""
    rows = [
        {
            "name": "a",
            "sweep": "points",
            "num_edges": edges,
            "step": 1e-3 + 1e-6 * edges,
            "peak_memory": 5e7 + 200 * edges,
        }
        for edges in (1_000, 10_000, 100_000, 1_000_000)
    ]
    found = scaling.fits(rows)["a"]
    assert found["exponent"] < 0.95 < found["exponent_large"] < 1
    assert found["bytes_per_edge"] == pytest.approx(200)
    assert found["exponent_neighbors"] is None


def test_sizes_reach_from_a_thousand_to_a_million_edges_and_types_from_0_to_6() -> None:
    options = Options(threads=1)
    edges = [one.num_edges for one in scaling.cases("points", scaling.MOST_EDGES, options)]
    assert (edges[0], edges[-1]) == (1_000, 1_000_000)
    assert all(2 < after / before < 4 for before, after in pairwise(edges))
    degrees = scaling.cases("degree", scaling.MOST_EDGES, options)
    assert [one.num_degrees - 1 for one in degrees] == list(range(7))
    assert {one.num_edges for one in degrees} == {51_200}
    assert max(one.num_edges for one in scaling.cases("neighbors", 30_000, options)) <= 30_000


def test_scaling_report_fits_every_kernel() -> None:
    report = scaling.run(QUICK, ["edge_frame"], ["points", "degree"], max_edges=3_200)
    assert [row["num_edges"] for row in report.rows if row["sweep"] == "points"] == [1_000, 3_000]
    first, second = (row["step"] for row in report.rows[:2])
    assert report.facts["fits"]["edge_frame"]["exponent"] == pytest.approx(math.log(second / first) / math.log(3))
    assert any("edges to the power" in note for note in report.notes)
    assert "sweep degree is left out: its smallest case has 5,120 edges." in report.notes


def test_threads_are_set_for_the_measurement_alone() -> None:
    before = torch.get_num_threads()
    with Options(threads=before + 1).in_force():
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
