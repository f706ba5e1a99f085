"""The Triton kernel. Here its code is interpreted, in a process of its own; where there is a GPU, tests/gpu runs it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from se3t.nn.kernels import Sources, edge_frame, triton_kernel
from se3t.nn.kernels.triton_plan import Blocks, Plan, plan

from .clouds import COINCIDENT, FIBER, basis_of, make_conv, make_graph

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {"float64": 1e-11, "float32": 2e-6, "bfloat16": 1.5, "float16": 1.5}
"""By dtype; 16 bits in multiples of the error of the kernel ``edge_frame`` under the same autocast."""

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="the package triton is not installed")


def output_of(module: str, *words: str, **environment: str) -> str:
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("src", "tests"))
    own = {**os.environ, **environment, "PYTHONPATH": paths}
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=own, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def interpreted(group: str) -> dict[str, float]:
    """All cases of triton_cases.py, or those of a group of triton_shapes.py."""
    words = ("nn.triton_cases",) if group == "basics" else ("nn.triton_shapes", group)
    found: dict[str, float] = json.loads(output_of(*words, TRITON_INTERPRET="1"))
    return found


def above_limit(group: str, dtype: str, least: int) -> dict[str, float]:
    own = {case: value for case, value in interpreted(group).items() if case.startswith(dtype)}
    assert len(own) >= least
    return {case: value for case, value in own.items() if not value <= LIMITS[dtype]}


@pytest.mark.e2e
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("dtype", [dtype for dtype in LIMITS if dtype != "float16"])
def test_interpreted_kernel_equals_the_reference_with_all_gradients(dtype: str) -> None:
    """Over fibers, sharing of trunks, pairs and single edges, coincident points and second derivatives."""
    assert above_limit("basics", dtype, 6) == {}


@pytest.mark.e2e
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("dtype", LIMITS)
def test_interpreted_kernel_equals_the_reference_in_the_shapes_of_the_workloads(dtype: str) -> None:
    """Channels, degrees, numbers of edges and hidden units, also those that fit no tile."""
    assert above_limit("shapes", dtype, 8) == {}


@pytest.mark.usefixtures("interpreter")
@pytest.mark.slow
@pytest.mark.parametrize("dtype", LIMITS)
def test_interpreted_kernel_equals_the_reference_in_every_shape(dtype: str) -> None:
    assert above_limit("all_shapes", dtype, 50) == {}


@pytest.mark.e2e
@pytest.mark.usefixtures("interpreter")
def test_sums_of_16_bits_are_in_float32_and_may_leave_the_range_of_float16() -> None:
    """The kernel sums what it rounds; a layer computes in float32 under float16 throughout."""
    found = {case: value for case, value in interpreted("shapes").items() if case.startswith("large")}
    assert found["large float16 layer"] < 1e-5
    assert found["large float16 messages"] < 2e-3
    assert found["large bfloat16 layer"] < 2e-2
    assert found["large bfloat16 messages"] < 2e-2


@pytest.mark.e2e
@pytest.mark.usefixtures("interpreter")
def test_interpreted_kernel_of_a_graph_without_edges_is_empty() -> None:
    assert interpreted("basics")["no edges"] == 0


@pytest.mark.e2e
@pytest.mark.usefixtures("interpreter")
def test_interpreted_kernel_needs_no_value_to_find_coincident_points() -> None:
    assert interpreted("basics")["no values read"] < 1e-11


@pytest.mark.e2e
@needs_triton
def test_every_kernel_compiles_for_the_matrix_units_of_a_gpu_without_one(tmp_path: Path) -> None:
    """Forward and backward, in the sizes that occur: shared memory of an Ampere consumer card must do."""
    found = json.loads(output_of("nn.triton_compile", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path)))
    assert len(found) == 18
    for case, (shared, has_matrix_units) in found.items():
        assert shared <= 99 * 2**10, case
        assert has_matrix_units or "ieee" in case, case


def test_where_it_cannot_run_edge_frame_does_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    triton_kernel._say_once.cache_clear()
    reason = triton_kernel.unavailable("cpu")
    assert reason is not None
    layer, graph = make_conv(FIBER, FIBER, 2).double(), make_graph(FIBER)
    basis = basis_of(graph)
    sources = Sources(graph.features, basis.geometry.source)
    with caplog.at_level(logging.WARNING):
        triton_kernel.messages(sources, layer.radial, basis)
        received = triton_kernel.messages(sources, layer.radial, basis)
    assert [record.getMessage() for record in caplog.records if record.name == triton_kernel.__name__] == [
        f"kernel triton: {reason}; kernel edge_frame is used instead"
    ]
    expected = edge_frame.messages(sources, layer.radial, basis)
    assert all(torch.equal(received[degree], expected[degree]) for degree in FIBER)


def test_an_interpreter_that_does_not_work_is_a_reason() -> None:
    assert triton_kernel._interpreter_fault("3.6.0", "2.4.9") is None
    assert triton_kernel._interpreter_fault("3.7.1", "2.5.0") is None
    assert "Triton 3.6.0 does not work with NumPy 2.5.2" in str(triton_kernel._interpreter_fault("3.6.0", "2.5.2"))


def test_dtypes_of_16_bits_are_refused_with_a_reason() -> None:
    assert "float32 or float64" in str(triton_kernel.unavailable("cuda", torch.bfloat16))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kernel, "find_spec", lambda name: None)
    assert "pip install triton" in str(triton_kernel.unavailable("cuda"))


@pytest.mark.parametrize("positions", [None, COINCIDENT], ids=["generic", "coincident"])
def test_coincident_points_chosen_by_a_mask_give_the_same(positions: Tensor | None) -> None:
    layer = make_conv(FIBER, FIBER, 2, reduce="none", kernel="edge_frame").double()
    graph = make_graph(FIBER, positions)
    results = []
    for by_mask in (False, True):
        at = graph.positions.clone().requires_grad_()
        moved = graph.__class__(at, graph.features, graph.edge_index, graph.batch, 2, graph.edge_scalars)
        if by_mask:
            with edge_frame.without_reading_values():
                out = layer(graph.features, basis_of(moved))
        else:
            out = layer(graph.features, basis_of(moved))
        loss = sum(value.square().sum() for value in out.values())
        results.append([*out.values(), *torch.autograd.grad(loss, [at, *layer.parameters()])])
    for expected, received in zip(*results, strict=True):
        torch.testing.assert_close(received, expected, rtol=1e-12, atol=1e-12)


# --- how columns are divided ------------------------------------------------------------------------------------------

CPU = torch.device("cpu")


def planned(depths: tuple[int, ...], widths: tuple[int, ...], trunks: tuple[tuple[int, ...], ...]) -> Plan:
    blocks = Blocks(depths, widths, trunks)
    return plan(blocks, blocks.columns, 4, CPU)


@pytest.mark.parametrize(
    ("depths", "widths", "trunks"),
    [
        ((5,), (7,), ((0,),)),
        ((4, 4, 4, 4), (32, 32, 48), ((0, 1, 2), (3, 4, 5), (0, 1, 2), (3, 4, 5))),
        ((3, 100), (70, 5), ((0, 1), (0, 1))),
        ((3, 100), (70, 5), ((0, 0), (1, 1))),
        ((2, 3, 2, 3), (1, 65), ((0, 1), (1, 0), (0, 1), (2, 2))),
    ],
)
def test_a_plan_covers_every_weight_once_with_its_trunk(
    depths: tuple[int, ...], widths: tuple[int, ...], trunks: tuple[tuple[int, ...], ...]
) -> None:
    made = planned(depths, widths, trunks)
    expected = torch.tensor(trunks).repeat_interleave(torch.tensor(depths), 0)
    expected = expected.repeat_interleave(torch.tensor(widths), 1)
    for table in (made.items, made.blocks):
        found = torch.full_like(expected, -1)
        for (first, last), rows in zip(made.tiles.tolist(), table.tolist(), strict=True):
            assert 0 < last - first <= made.tile
            for begin, end, trunk in rows:
                assert (found[begin:end, first:last] == -1).all()
                found[begin:end, first:last] = trunk
        assert torch.equal(found, expected)
    assert (made.blocks[..., 1] - made.blocks[..., 0]).max() <= 4
    found = torch.full_like(expected, -1)
    for (number, begin, end), trunk in zip(made.slots.tolist(), made.slot_trunks, strict=True):
        first, last = made.tiles[number].tolist()
        for start, stop in made.ranges[begin:end].tolist():
            assert (found[start:stop, first:last] == -1).all()
            found[start:stop, first:last] = trunk
    assert torch.equal(found, expected)


def test_slots_are_summed_by_trunk() -> None:
    made = planned((2, 3, 2, 3), (1, 65), ((0, 1), (1, 0), (0, 1), (2, 2)))
    values = torch.randn(len(made.slots), 2, 3)
    expected = torch.zeros(3, 2, 3).index_add(0, torch.tensor(made.slot_trunks), values)
    torch.testing.assert_close(made.by_trunk(values, 3), expected)


def test_one_trunk_makes_one_item_and_whole_tiles() -> None:
    made = planned((16, 16), (24, 24), ((0, 0), (0, 0)))
    assert made.items.tolist() == [[[0, 32, 0]]] * 3
    assert made.tile == 16
