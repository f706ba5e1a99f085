"""``python -m benchmarks tiles``: search for the fastest tile sizes of the Triton kernel on this GPU."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from se3t.bench.options import Options
from se3t.bench.report import RATIO, Column, Report, Row, until_stopped
from se3t.bench.workloads import QM9, Workload, mean_square
from se3t.errors import UserError
from se3t.files import check_writable
from se3t.nn.kernels import tilings, triton_kernel
from se3t.nn.kernels.tilings import Case, Tiling
from se3t.precision import forward_context, require_device

_SECONDS, _QUICK_SECONDS = 120.0, 10.0
_CHOICES = {"columns": (16, 32, 64), "edges": (16, 32, 64, 128), "warps": (2, 4, 8), "stages": (1, 2, 3, 4)}
_TOLERANCE = {"bfloat16": 2e-2, "float16": 5e-3, "tf32": 2e-3, "float32": 1e-5, "float64": 1e-12}
_GAIN = 0.02  # of the time: less may be noise
_TURNS = 3
COLUMNS = (
    Column("kernel", "kernel"),
    Column("precision", "products"),
    Column("rows", "rows", "count"),
    Column("units", "units", "count"),
    Column("columns", "columns", "count"),
    Column("before", "default ms", "ms"),
    Column("time", "best ms", "ms"),
    RATIO,
    Column("tile", "best: columns × edges, warps, stages"),
    Column("tried", "tried", "count"),
)


@dataclass
class Launch:
    """The largest launch of a case in a training step.

    Attributes:
        repeat: does it again with other tile sizes.
        size: of its result, for choosing the largest.
        count: launches of the case in all steps.
    """

    repeat: Callable[[Tiling], Tensor]
    size: int = 0
    count: int = 0


def run(
    options: Options,
    workloads: Sequence[str] = (QM9,),
    precisions: Sequence[str] = ("bf16",),
    num_graphs: int | None = None,
) -> Report:
    """Try tile sizes on the largest launches of training steps, those first that take most of the time, and write the
    fastest to the file that the kernel reads (:func:`se3t.nn.kernels.tilings.own_file`). What that file holds of other
    cases stays.

    Sizes that compute something else than the default ones, or do not run, are skipped; a case whose default sizes
    do not run is left out.

    Args:
        options: how; ``seconds`` is the limit of all.
        workloads: whose training steps.
        precisions: of the steps: ``32``, ``tf32`` or ``bf16``.
        num_graphs: graphs of a batch, in place of the workload's.

    Raises:
        UserError: where the kernel cannot run or the file cannot be written, or for unknown names.
    """
    device, path = _require_usable(options, precisions)
    deadline = time.perf_counter() + (options.seconds or (_QUICK_SECONDS if options.quick else _SECONDS))
    rows: list[Row] = []
    failures: list[str] = []
    tiles: dict[Case, Tiling] = {}
    with options.in_force() as machine:  # described first: an error of a kernel can leave CUDA unusable
        launches: dict[Case, Launch] = {}
        for workload in options.workloads(workloads, num_graphs):
            for precision in precisions:
                _observe(workload, precision, device, launches, failures)
        try:
            with until_stopped(rows, failures):
                for row, case, tiling in _search(launches, options, deadline, failures):
                    rows.append(row)
                    if row["tried"] > 1:
                        tiles[case] = tiling
        finally:
            if tiles:
                tilings.write(tilings.name_of(device), tiles, {"torch": machine["torch"], "triton": _version()})
    return Report(
        benchmark="tiles",
        title="Tile sizes of the Triton kernel on the largest launches of a training step",
        columns=COLUMNS,
        rows=rows,
        notes=_notes(path if tiles else None),
        settings={**options.record, "workloads": [*workloads], "precisions": [*precisions]},
        machine=machine,
        facts={"file": str(path) if tiles else None},
        failures=failures,
    )


def _require_usable(options: Options, precisions: Sequence[str]) -> tuple[torch.device, Path]:
    """The device and the file to write, before any work.

    Raises:
        UserError: where the kernel cannot run or the file cannot be written.
    """
    device = torch.device(options.device)
    reason = triton_kernel.unavailable(device)
    if reason is not None:
        advice = "; with TRITON_INTERPRET=1 it can be tried out, slowly, on a CPU"
        raise UserError(f"tiles: {reason}{'' if os.environ.get('TRITON_INTERPRET') == '1' else advice}")
    for precision in precisions:
        require_device(precision, device)
    path = tilings.file_to_write(tilings.name_of(device))
    check_writable(path)
    return device, path


def _notes(path: Path | None) -> list[str]:
    return [
        "ratio: best over default, timed once more in turns. Lines in the order of the time that they take in a "
        f"step; sizes were changed one at a time, as long as there was time, where it saved {100 * _GAIN:.0f} %.",
        "No other sizes were tried: no file was written." if path is None else _where(path),
    ]


def _where(path: Path) -> str:
    if os.environ.get(tilings.FILE):
        return f"Kernel triton reads {path} as long as {tilings.FILE} names it."
    return f"Kernel triton reads {path} on this kind of GPU ({tilings.FILE} names another file)."


def _observe(
    workload: Workload, precision: str, device: torch.device, launches: dict[Case, Launch], failures: list[str]
) -> None:
    """Do one training step with the default sizes and keep the largest launch of every case."""
    from se3t.nn.kernels import triton_tiles

    def seen(case: Case, repeat: Callable[[Tiling], Tensor]) -> Tensor:
        launch = launches.setdefault(case, Launch(repeat))
        launch.count += 1
        result = repeat(tilings.default(case))
        if result.numel() > launch.size:
            launch.repeat, launch.size = repeat, result.numel()
        return result

    triton_tiles.on_launch = seen
    try:
        model, graph = workload.model("triton").to(device), workload.graph()
        with forward_context(precision, device):
            loss = mean_square(model(graph))
        loss.backward()
    except Exception as error:
        failures.append(
            f"{workload.name} in {precision}: the training step failed, what would have followed was not seen: "
            f"{_first_line(error)}"
        )
    finally:
        triton_tiles.on_launch = None


def _search(
    launches: dict[Case, Launch], options: Options, deadline: float, failures: list[str]
) -> Iterator[tuple[Row, Case, Tiling]]:
    before: dict[Case, float] = {}
    for case, launch in launches.items():
        try:
            before[case] = _seconds(launch.repeat, tilings.default(case), options)
        except Exception as error:
            failures.append(_left_out(case, error))
    for case in sorted(before, key=lambda case: -before[case] * launches[case].count):
        try:
            best, measured = _measure(case, launches[case].repeat, before[case], options, deadline)
        except Exception as error:
            failures.append(_left_out(case, error))
            continue
        text = f"{best.columns} × {best.edges}, {best.warps}, {best.stages}"
        row = {**asdict(case), **measured, "launches": launches[case].count, "tile": text, "tiling": asdict(best)}
        yield row, case, best


def _measure(
    case: Case, repeat: Callable[[Tiling], Tensor], before: float, options: Options, deadline: float
) -> tuple[Tiling, Row]:
    """The best sizes, and what was measured: the default ones where others are not faster when timed in turns."""
    default = tilings.default(case)
    passed_over: list[str] = []
    best, tried = _descend(case, _trial(case, repeat, options, passed_over), before, options, deadline)
    seconds = before
    if best != default:
        turns = [[_seconds(repeat, tiling, options) for tiling in (default, best)] for _ in range(_TURNS)]
        before, seconds = map(statistics.median, zip(*turns, strict=True))
        if not seconds < before:
            best, seconds = default, before
    return best, {
        "before": before,
        "time": seconds,
        "ratio": seconds / before,
        "tried": tried,
        "passed_over": passed_over,
    }


def _descend(
    case: Case, trial: Callable[[Tiling], float], seconds: float, options: Options, deadline: float
) -> tuple[Tiling, int]:
    """Try what was found earlier, then change one size at a time while it helps; the best and how many were tried."""
    default = best = tilings.default(case)
    earlier, tried = tilings.tiling_of(case, torch.device(options.device)), 1
    for name in ("", *_CHOICES):
        for candidate in _neighbors(case, best, name) if name else [earlier]:
            if time.perf_counter() > deadline:
                return best, tried
            if candidate == default:
                continue
            tried += 1
            own = trial(candidate)
            if own < (1 - _GAIN) * seconds:
                best, seconds = candidate, own
    return best, tried


def _neighbors(case: Case, tiling: Tiling, name: str) -> Iterator[Tiling]:
    for value in _CHOICES[name]:
        too_wide = name == "columns" and value > case.columns
        if value != getattr(tiling, name) and not too_wide:
            changed: dict[str, Any] = {name: value}
            yield replace(tiling, **changed)


def _trial(
    case: Case, repeat: Callable[[Tiling], Tensor], options: Options, passed_over: list[str]
) -> Callable[[Tiling], float]:
    """Seconds with other sizes; infinite, with the reason in ``passed_over``, where they fail or compute something
    else than the default ones.
    """
    expected = repeat(tilings.default(case))
    largest = _TOLERANCE[case.precision] * expected.norm()

    def trial(tiling: Tiling) -> float:
        try:
            if bool((repeat(tiling) - expected).norm() <= largest):
                return _seconds(repeat, tiling, options)
            reason = "computes something else"
        except Exception as error:  # of Triton, its compilers, the assembler or the driver: each has its own
            reason = _first_line(error)
        passed_over.append(f"{tiling}: {reason}")
        return math.inf

    return trial


def _left_out(case: Case, error: Exception) -> str:
    words = f"{case.kernel} in {case.precision}, {case.rows} rows, {case.units} units, {case.columns} columns"
    return f"{words}: left out, the default sizes do not run: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def _seconds(repeat: Callable[[Tiling], Tensor], tiling: Tiling, options: Options) -> float:
    if torch.device(options.device).type == "cuda":
        from triton.testing import do_bench

        return 1e-3 * float(do_bench(lambda: repeat(tiling), warmup=5, rep=20, return_mode="median"))
    begin = time.perf_counter()
    repeat(tiling)
    return max(time.perf_counter() - begin, math.ulp(1.0))


def _version() -> str:
    import triton

    return str(triton.__version__)
