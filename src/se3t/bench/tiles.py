"""``se3t bench tiles``: tile sizes of the Triton kernel, tried on this GPU; the fastest are used from then on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from se3t.bench.machine import describe
from se3t.bench.options import Options
from se3t.bench.report import RATIO, Column, Report, Row, until_stopped
from se3t.bench.workloads import Workload, mean_square
from se3t.errors import UserError
from se3t.nn.kernels import tilings, triton_kernel
from se3t.nn.kernels.tilings import Case, Tiling
from se3t.precision import forward_context, require_device

_SECONDS, _QUICK_SECONDS = 120.0, 10.0
_CHOICES = {"columns": (16, 32, 64), "edges": (16, 32, 64, 128), "warps": (2, 4, 8), "stages": (1, 2, 3, 4)}
_TOLERANCE = {"bfloat16": 2e-2, "float16": 5e-3, "tf32": 2e-3, "float32": 1e-5, "float64": 1e-12}
COLUMNS = (
    Column("kernel", "kernel"),
    Column("precision", "products"),
    Column("rows", "rows", "count"),
    Column("units", "units", "count"),
    Column("before", "default ms", "ms"),
    Column("time", "best ms", "ms"),
    RATIO,
    Column("tile", "columns × edges, warps, stages"),
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
    size: int
    count: int = 0


def run(
    options: Options,
    workloads: Sequence[str] = ("qm9",),
    precisions: Sequence[str] = ("bf16",),
    num_graphs: int | None = None,
) -> Report:
    """Try tile sizes on the largest launches of training steps, those first that take most of the time, and write the
    fastest to the file that the kernel reads (:func:`se3t.nn.kernels.tilings.own_file`).

    Sizes that compute something else than the default ones, or do not fit the GPU, are passed over.

    Args:
        options: how; ``seconds`` is the limit of all.
        workloads: whose training steps.
        precisions: of the steps: ``32``, ``tf32`` or ``bf16``.
        num_graphs: graphs of a batch, in place of the workload's.

    Raises:
        UserError: where the kernel cannot run, or for unknown names.
    """
    reason = triton_kernel.unavailable(options.device)
    if reason is not None:
        raise UserError(f"bench tiles: {reason}; with TRITON_INTERPRET=1 it can be tried out, slowly, on a CPU")
    device = torch.device(options.device)
    deadline = time.perf_counter() + (options.seconds or (_QUICK_SECONDS if options.quick else _SECONDS))
    with options.in_force():
        launches: dict[Case, Launch] = {}
        for workload in options.workloads(workloads, num_graphs):
            for precision in precisions:
                _observe(workload, precision, device, launches)
        rows: list[Row] = []
        failures: list[str] = []
        found: dict[Case, Tiling] = {}
        with until_stopped(rows, failures):
            for row, case, tiling in _search(launches, options, deadline):
                rows.append(row)
                if row["tried"] > 1:
                    found[case] = tiling
        machine = describe(options.device)
    path = tilings.write(tilings.name_of(device), found, {"torch": machine["torch"], "triton": _version()})
    return Report(
        benchmark="tiles",
        title="Tile sizes of the Triton kernel on the largest launches of a training step",
        columns=COLUMNS,
        rows=rows,
        notes=[
            "ratio: best over default. Lines in the order of the time that they take in a step; sizes were changed one "
            "at a time, as long as there was time.",
            f"Kernel triton reads {path} on this kind of GPU ({tilings.FILE} names another file).",
        ],
        settings={**options.record, "workloads": [*workloads], "precisions": [*precisions]},
        machine=machine,
        facts={"file": str(path)},
        failures=failures,
    )


def _observe(workload: Workload, precision: str, device: torch.device, launches: dict[Case, Launch]) -> None:
    """Do one training step and keep the largest launch of every case."""
    from se3t.nn.kernels import triton_tiles

    def seen(case: Case, repeat: Callable[[Tiling], Tensor]) -> None:
        size = repeat(tilings.default(case)).numel()
        launch = launches.setdefault(case, Launch(repeat, size))
        launch.count += 1
        if size > launch.size:
            launch.repeat, launch.size = repeat, size

    require_device(precision, device)
    model, graph = workload.model("triton").to(device), workload.graph()
    triton_tiles.on_launch = seen
    try:
        with forward_context(precision, device):
            loss = mean_square(model(graph))
        loss.backward()
    finally:
        triton_tiles.on_launch = None


def _search(launches: dict[Case, Launch], options: Options, deadline: float) -> Iterator[tuple[Row, Case, Tiling]]:
    before = {case: _seconds(launch.repeat, tilings.default(case), options) for case, launch in launches.items()}
    for case in sorted(launches, key=lambda case: -before[case] * launches[case].count):
        best, seconds, tried = _descend(case, launches[case].repeat, before[case], options, deadline)
        text = f"{best.columns} × {best.edges}, {best.warps}, {best.stages}"
        measured = {"before": before[case], "time": seconds, "ratio": seconds / before[case], "tried": tried}
        row = {**asdict(case), **measured, "launches": launches[case].count, "tile": text, "tiling": asdict(best)}
        yield row, case, best


def _descend(
    case: Case, repeat: Callable[[Tiling], Tensor], before: float, options: Options, deadline: float
) -> tuple[Tiling, float, int]:
    """Change one size at a time while it helps; the best sizes, their time, and how many were tried."""
    best, seconds, tried = tilings.default(case), before, 1
    expected = repeat(best)
    for name in _CHOICES:
        for candidate in _neighbors(case, best, name):
            if time.perf_counter() > deadline:
                return best, seconds, tried
            tried += 1
            if not _agrees(repeat, candidate, expected, _TOLERANCE[case.precision]):
                continue
            own = _seconds(repeat, candidate, options)
            if own < seconds:
                best, seconds = candidate, own
    return best, seconds, tried


def _neighbors(case: Case, tiling: Tiling, name: str) -> Iterator[Tiling]:
    for value in _CHOICES[name]:
        too_wide = name == "columns" and value > case.columns
        if value != getattr(tiling, name) and not too_wide:
            changed: dict[str, Any] = {name: value}
            yield replace(tiling, **changed)


def _agrees(repeat: Callable[[Tiling], Tensor], tiling: Tiling, expected: Tensor, tolerance: float) -> bool:
    """Whether sizes compute what the default ones do; not where they need more than the GPU has."""
    from triton.runtime.errors import OutOfResources, PTXASError

    try:
        found = repeat(tiling)
    except (OutOfResources, PTXASError):
        return False
    return bool((found - expected).norm() <= tolerance * expected.norm())


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
