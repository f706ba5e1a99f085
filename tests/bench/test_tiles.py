"""The search for tile sizes, with a GPU made up of a table of times."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from se3t.bench import tiles
from se3t.bench.options import Options
from se3t.bench.tiles import Launch
from se3t.errors import UserError
from se3t.nn.kernels import tilings
from se3t.nn.kernels.tilings import Case, Tiling, default

CASE = Case("contract", "bfloat16", 4, 32, 64)
SMALL = replace(CASE, kernel="layer_gradients", columns=16)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(tilings.FILE, str(tmp_path / "tiles.json"))
    tilings._measured.cache_clear()
    yield tmp_path / "tiles.json"
    tilings._measured.cache_clear()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer columns and more edges are faster."""

    def seconds(repeat: object, tiling: Tiling, options: Options) -> float:
        return tiling.columns / tiling.edges + 0.01 * tiling.warps

    monkeypatch.setattr(tiles, "_seconds", seconds)


def repeat(tiling: Tiling) -> Tensor:
    """Computes something else with tiles of 128 edges."""
    return torch.full((3,), 1.1 if tiling.edges == 128 else 1.0)


@pytest.mark.usefixtures("timed")
def test_the_fastest_sizes_that_compute_the_same_are_found() -> None:
    ((row, case, best),) = tiles._search({CASE: Launch(repeat, 3, 1)}, Options(), deadline=float("inf"))
    assert (case, best) == (CASE, Tiling(columns=16, edges=64, warps=2, stages=3))
    assert row["ratio"] == pytest.approx((16 / 64 + 0.02) / (1 + 0.08))


@pytest.mark.usefixtures("timed")
def test_what_takes_most_of_the_time_comes_first() -> None:
    launches = {SMALL: Launch(repeat, 3, 1), CASE: Launch(repeat, 3, 9)}
    found = list(tiles._search(launches, Options(), deadline=0.0))
    assert [row["kernel"] for row, _, _ in found] == ["contract", "layer_gradients"]
    assert [(row["ratio"], row["tried"]) for row, _, _ in found] == [(1, 1)] * 2


def test_measured_sizes_are_read_back_and_others_stay_the_default(own_file: Path) -> None:
    measured = Tiling(32, 128, 2, 4)
    assert tilings.tiling_of(CASE, CPU) == default(CASE)
    tilings._measured.cache_clear()
    assert tilings.write("interpreter", {CASE: measured}, {"torch": "2"}) == own_file
    assert tilings.tiling_of(CASE, CPU) == measured
    assert tilings.tiling_of(SMALL, CPU) == default(SMALL)
    assert tilings.source_of("interpreter") == own_file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a file of tile sizes"),
        (json.dumps({"device": "NVIDIA H100", "tilings": []}), "tile sizes of NVIDIA H100, not of interpreter"),
        (
            json.dumps(
                {"device": "interpreter", "tilings": [vars(CASE) | {"tile": vars(default(CASE)) | {"edges": 48}}]}
            ),
            "edges=48: expected one of",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_told_once_and_not_used(
    own_file: Path, content: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    own_file.write_text(content, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert [tilings.tiling_of(CASE, CPU) for _ in range(2)] == [default(CASE)] * 2
    (record,) = caplog.records
    assert str(own_file) in record.getMessage()
    assert message in record.getMessage()


def test_the_defaults_can_be_asked_for(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tilings.write("interpreter", {CASE: Tiling(32, 128, 2, 4)}, {})
    monkeypatch.setenv(tilings.FILE, "0")
    assert tilings.tiling_of(CASE, CPU) == default(CASE)


def test_without_a_gpu_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match=r"bench tiles: .*with TRITON_INTERPRET=1 it can be tried out"):
        tiles.run(Options())
