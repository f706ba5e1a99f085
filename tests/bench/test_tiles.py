"""The search for tile sizes, with a GPU made up of a table of times."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import tiles
from benchmarks.tiles import Launch
from se3t.bench import options
from se3t.bench.options import Options
from se3t.bench.report import Report
from se3t.errors import UserError
from se3t.nn.kernels import tilings, triton_kernel
from se3t.nn.kernels.tilings import Case, Tiling, default
from se3t.signals import Interrupted

CASE = Case("contract", "bfloat16", 4, 32, 64)
SMALL = replace(CASE, kernel="layer_gradients", columns=16)
BEST = Tiling(columns=16, edges=64, warps=2, stages=3)
"""What the times of ``timed`` favour."""
SEARCHED = 8  # timings, at least, of a search without failures
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


def search(launches: Mapping[Case, Launch], deadline: float = float("inf")) -> tuple[list[Any], list[str]]:
    failures: list[str] = []
    return list(tiles._search({**launches}, Options(), deadline, failures)), failures


@pytest.mark.usefixtures("timed")
def test_the_fastest_sizes_that_compute_the_same_are_found() -> None:
    ((row, case, best),), failures = search({CASE: Launch(repeat, 3, 1)})
    assert (case, best) == (CASE, BEST)
    assert row["ratio"] == pytest.approx((16 / 64 + 0.02) / (1 + 0.08))
    assert failures == []


@pytest.mark.usefixtures("timed")
def test_what_takes_most_of_the_time_comes_first() -> None:
    found, _ = search({SMALL: Launch(repeat, 3, 1), CASE: Launch(repeat, 3, 9)}, deadline=0.0)
    assert [row["kernel"] for row, _, _ in found] == ["contract", "layer_gradients"]
    assert [(row["ratio"], row["tried"]) for row, _, _ in found] == [(1, 1)] * 2


class CompilationError(Exception):
    """As of Triton: of no built-in kind."""


ERRORS = (
    CompilationError("at 3:4:\nstatic assertion failed"),
    RuntimeError("PassManager::run failed"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    torch.cuda.OutOfMemoryError("CUDA out of memory"),
    ZeroDivisionError(),
)


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_sizes_that_do_not_run_for_whatever_reason_are_passed_over(error: Exception) -> None:
    def fails_in_narrow_tiles(tiling: Tiling) -> Tensor:
        if tiling.columns == 16:
            raise error
        return repeat(tiling)

    ((row, _, best),), failures = search({CASE: Launch(fails_in_narrow_tiles, 3, 1)})
    assert best == replace(BEST, columns=32)
    assert row["tried"] > 5
    assert any(
        f"columns=16, edges=64, warps=8, stages=3): {type(error).__name__}" in line for line in row["passed_over"]
    )
    assert any("edges=128" in line and line.endswith("computes something else") for line in row["passed_over"])
    assert failures == []


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("good_launches", [0, 1])
def test_a_case_whose_default_sizes_do_not_run_is_left_out_with_a_line(error: Exception, good_launches: int) -> None:
    """At once, or when the search has begun."""

    def fails(tiling: Tiling) -> Tensor:
        raise error

    def seconds(repeat: Any, tiling: Tiling, options: Options) -> float:
        if repeat is fails and not good_launches:
            raise error
        return 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_seconds", seconds)
        found, failures = search({SMALL: Launch(fails, 3, 9), CASE: Launch(repeat, 3, 1)})
    assert [case for _, case, _ in found] == [CASE]
    (line,) = failures
    words = "layer_gradients in bfloat16, 4 rows, 32 units, 16 columns: left out, the default sizes do not run: "
    assert line.startswith(words + type(error).__name__)
    assert "\n" not in line


def timed_as(monkeypatch: pytest.MonkeyPatch, default_seconds: Iterator[float], others: Iterator[float]) -> None:
    def seconds(repeat: object, tiling: Tiling, options: Options) -> float:
        return next(default_seconds if tiling == default(CASE) else others)

    monkeypatch.setattr(tiles, "_seconds", seconds)


def test_an_improvement_within_the_noise_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often one is drawn."""
    timed_as(monkeypatch, (1.0 for _ in count()), (1 - 0.019 * (n % 2) for n in count()))
    ((row, _, best),), _ = search({CASE: Launch(repeat, 3, 1)})
    assert (best, row["ratio"]) == (default(CASE), 1)


@pytest.mark.parametrize(("second", "is_kept"), [(0.97, True), (1.0, False), (1.1, False)])
def test_the_default_stays_where_the_winner_is_not_faster_in_turns(
    second: float, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = (0.5 if n == 0 else 1.0 if n < SEARCHED else second for n in count())
    timed_as(monkeypatch, (1.0 for _ in count()), others)
    ((row, _, best),), _ = search({CASE: Launch(repeat, 3, 1)})
    assert (best != default(CASE)) is is_kept
    assert row["time"] == (second if is_kept else 1.0)
    assert row["tried"] > SEARCHED


@pytest.mark.usefixtures("timed")
def test_a_search_begins_with_the_sizes_that_were_found_earlier() -> None:
    """One try is enough to find them again."""
    tilings.write("interpreter", {CASE: BEST}, {})
    clock = count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles.time, "perf_counter", lambda: next(clock))
        ((row, _, best),), _ = search({CASE: Launch(repeat, 3, 1)}, deadline=0.5)
    assert (best, row["tried"]) == (BEST, 2)


# --- the whole benchmark ----------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, launches: Mapping[Case, Launch], **options: Any) -> Report:
    """With launches in place of those of a training step."""
    monkeypatch.setattr(triton_kernel, "unavailable", lambda device: None)
    monkeypatch.setattr(tiles, "_version", lambda: "3")
    monkeypatch.setattr(tiles, "_observe", lambda workload, precision, device, found, failures: found.update(launches))
    return tiles.run(Options(**options), ["nbody"])


@pytest.mark.usefixtures("timed")
def test_what_was_measured_earlier_of_other_cases_stays(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = Tiling(16, 128, 2, 4)
    tilings.write("interpreter", {SMALL: earlier, CASE: earlier}, {"torch": "1"})
    report = run(monkeypatch, {CASE: Launch(repeat, 3, 1)})
    assert tilings._read("interpreter") == {SMALL: earlier, CASE: BEST}
    assert report.facts == {"file": str(own_file)}
    assert report.notes[-1] == f"Kernel triton reads {own_file} as long as SE3T_TILES names it."


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("is_there", [True, False])
def test_where_nothing_was_tried_nothing_is_written(
    is_there: bool, own_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_there:
        tilings.write("interpreter", {SMALL: Tiling(16, 128, 2, 4)}, {"torch": "1"})
    before = own_file.read_bytes() if is_there else None
    report = run(monkeypatch, {CASE: Launch(repeat, 3, 1)}, seconds=1e-9)
    assert [row["tried"] for row in report.rows] == [1]
    assert (own_file.read_bytes() if own_file.exists() else None) == before
    assert report.facts == {"file": None}
    assert report.notes[-1] == "No other sizes were tried: no file was written."


@pytest.mark.usefixtures("timed")
def test_what_was_found_before_a_signal_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(tiling: Tiling) -> Tensor:
        raise Interrupted(2)

    report = run(monkeypatch, {CASE: Launch(repeat, 3, 9), SMALL: Launch(ends, 3, 1)})
    assert report.failures == ["interrupted before everything was measured"]
    assert tilings._read("interpreter") == {CASE: BEST}


@pytest.mark.usefixtures("timed")
def test_what_was_found_is_written_also_where_cuda_is_unusable_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    describe, is_broken = options.describe, list[bool]()

    def breaks(tiling: Tiling) -> Tensor:
        is_broken.append(True)
        raise RuntimeError("an illegal memory access was encountered")

    def described(device: str) -> dict[str, Any]:
        assert not is_broken
        return describe(device)

    monkeypatch.setattr(options, "describe", described)
    report = run(monkeypatch, {CASE: Launch(repeat, 3, 9), SMALL: Launch(breaks, 3, 1)})
    assert len(report.failures) == 1
    assert tilings._read("interpreter") == {CASE: BEST}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("0", r"SE3T_TILES=0: no file of tile sizes is read; unset it, or name the file to write"),
        ("other.json", r"other\.json: holds tile sizes of NVIDIA H100, not of interpreter; name another file"),
        ("folder", r"folder: is a folder"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_the_search(
    file: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(tilings.FILE, "other.json")
    tilings.write("NVIDIA H100", {CASE: BEST}, {})
    monkeypatch.setenv(tilings.FILE, file)
    with pytest.raises(UserError, match=message):
        run(monkeypatch, {})
    assert "NVIDIA H100" in Path("other.json").read_text(encoding="utf-8")


def test_lines_that_differ_in_the_case_differ_in_the_table() -> None:
    assert set(vars(CASE)) <= {column.key for column in tiles.COLUMNS}


needs_interpreter = pytest.mark.skipif(
    triton_kernel.unavailable("cpu") is not None and "not installed" in str(triton_kernel.unavailable("cpu")),
    reason="the package triton is not installed",
)


def interpreted(own_file: Path, *words: str) -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join(str(root / folder) for folder in ("src", "tests", "."))
    own = {**os.environ, "PYTHONPATH": paths, "TRITON_INTERPRET": "1", tilings.FILE: str(own_file)}
    command = [sys.executable, "-m", "bench.tiles_child", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=own, cwd=own_file.parent, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.e2e
@needs_interpreter
def test_the_kernel_computes_the_same_with_the_sizes_that_a_search_of_a_training_step_wrote(own_file: Path) -> None:
    found = interpreted(own_file)
    assert found["failures"] == []
    assert {row["kernel"] for row in found["rows"]} == {"contract", "hidden_gradients", "layer_gradients"}
    assert sum(row["launches"] for row in found["rows"]) == found["launches"]
    assert (found["edges"], found["edges without the file"]) == ([16], [64])
    assert found["difference"] < 1e-6
    content = json.loads(own_file.read_text(encoding="utf-8"))
    assert [entry["tile"] for entry in content["tilings"]] == [row["tiling"] for row in found["rows"]]


@pytest.mark.e2e
@needs_interpreter
def test_a_training_step_that_fails_is_told_and_what_was_seen_before_is_searched(own_file: Path) -> None:
    found = interpreted(own_file, "hidden_gradients")
    step, case = found["failures"]
    assert step.startswith("small in 32: the training step failed, what would have followed was not seen: RuntimeError")
    assert case.startswith("hidden_gradients in float32")
    assert {row["kernel"] for row in found["rows"]} == {"contract"}
    assert {entry["kernel"] for entry in json.loads(own_file.read_text(encoding="utf-8"))["tilings"]} == {"contract"}


# --- the file ---------------------------------------------------------------------------------------------------------


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
    with pytest.raises(UserError, match=r"tiles: .*with TRITON_INTERPRET=1 it can be tried out"):
        tiles.run(Options())
