from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from se3t.nn.kernels import auto, edge_frame, vectorised
from se3t.nn.kernels.auto import Rule

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    auto._usable.cache_clear()
    yield
    auto._usable.cache_clear()


def test_compiled_code_is_chosen_on_a_cpu_where_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.nn.kernels.native.unavailable", lambda device, dtype: None)
    assert auto.choose(CPU, torch.float32) == "native"
    assert auto.describe(CPU) == "native"


def test_the_reason_for_the_next_best_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("se3t.nn.kernels.native.unavailable", lambda device, dtype: "there is no compiler")
    with caplog.at_level(logging.WARNING):
        assert [auto.choose(CPU, torch.float32) for _ in range(3)] == ["edge_frame"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "kernel native is not used: there is no compiler; edge_frame computes the same"
    ]
    assert auto.describe(CPU) == "edge_frame; native is not used: there is no compiler"


@pytest.mark.parametrize(
    ("device", "reason", "advice"),
    [
        ("cuda", None, "; model.kernel=triton takes the Triton kernel"),
        ("cuda", "it needs another GPU", ""),
        ("meta", None, ""),
    ],
)
def test_where_nothing_was_measured_torch_computes_and_no_warning_is_given(
    device: str, reason: str | None, advice: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("se3t.nn.kernels.triton_kernel.unavailable", lambda device, dtype: reason)
    assert auto.choose(torch.device(device), torch.float32) == "edge_frame"
    assert not caplog.records
    assert auto.describe(torch.device(device)) == f"edge_frame (no kernel was timed on {device} yet{advice})"


def test_rules_go_by_the_number_of_radial_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(auto.RULES, "cuda", (Rule("vectorised", 10), Rule("reference", 1_000)))
    chosen = [auto.choose(CUDA, torch.float32, size) for size in (0, 9, 10, 999, 1_000, 10**9)]
    assert chosen == ["edge_frame", "edge_frame", "vectorised", "vectorised", "reference", "reference"]
    assert auto.describe(CUDA) == (
        "edge_frame, vectorised from 10 radial weights on, reference from 1,000 radial weights on"
    )


def test_a_kernel_that_cannot_run_leaves_its_sizes_to_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(auto.RULES, "cuda", (Rule("vectorised"), Rule("triton", 100)))
    monkeypatch.setattr("se3t.nn.kernels.triton_kernel.unavailable", lambda device, dtype: "no triton")
    assert [auto.choose(CUDA, torch.float32, size) for size in (0, 100)] == ["vectorised"] * 2
    assert auto.describe(CUDA) == "vectorised; triton is not used: no triton"


def test_messages_are_those_of_the_kernel_of_their_size(monkeypatch: pytest.MonkeyPatch) -> None:

    from .clouds import FIBER, basis_of, make_conv, make_graph

    seen: list[str] = []
    for name, module in (("edge_frame", edge_frame), ("vectorised", vectorised)):
        right = module.messages
        monkeypatch.setattr(module, "messages", lambda *a, n=name, f=right: seen.append(n) or f(*a))
    graph = make_graph(FIBER, symmetric=True)
    layer = make_conv(FIBER, FIBER, 2, kernel="auto").double()
    basis = basis_of(graph, pair=True)
    size = graph.edge_index.shape[1] // basis.geometry.repeat * layer.radial.weights_per_edge
    for least in (size, size + 1):
        auto._usable.cache_clear()
        monkeypatch.setitem(auto.RULES, "cpu", (Rule("vectorised", least),))
        layer(graph.features, basis)
    assert seen == ["vectorised", "edge_frame"]
