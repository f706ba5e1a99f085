from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from se3t.nn.kernels import auto


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    auto.choose.cache_clear()
    yield
    auto.choose.cache_clear()


def test_compiled_code_is_chosen_on_a_cpu_where_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.nn.kernels.native.unavailable", lambda device, dtype: None)
    assert auto.choose(torch.device("cpu"), torch.float32) == "native"


def test_the_reason_for_the_next_best_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("se3t.nn.kernels.native.unavailable", lambda device, dtype: "there is no compiler")
    with caplog.at_level(logging.WARNING):
        assert [auto.choose(torch.device("cpu"), torch.float32) for _ in range(3)] == ["edge_frame"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "kernel native is not used: there is no compiler; edge_frame computes the same"
    ]


@pytest.mark.parametrize("device", ["cuda", "meta"])
def test_elsewhere_torch_computes_and_nothing_is_told(device: str, caplog: pytest.LogCaptureFixture) -> None:
    assert auto.choose(torch.device(device), torch.float32) == "edge_frame"
    assert not caplog.records
