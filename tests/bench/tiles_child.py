"""``python -m benchmarks tiles`` with an interpreted kernel: prints what it finds, and what the kernel does then.

The times are made up, so that sizes other than the default ones win.
"""

import json
import os
import sys
from dataclasses import replace

import torch

from benchmarks import tiles
from se3t.bench import workloads
from se3t.bench.options import Options
from se3t.bench.workloads import Workload, mean_square
from se3t.nn.kernels import tilings, triton_programs, triton_tiles
from se3t.nn.kernels.tilings import Tiling
from se3t.precision import forward_context

CPU = torch.device("cpu")
SMALL = replace(workloads.WORKLOADS["nbody"], name="small", num_layers=1, num_degrees=2, num_graphs=2)


def step(workload: Workload) -> tuple[list[torch.Tensor], list[int]]:
    """Loss and gradients, and the edges of a tile in every launch."""
    tilings._measured.cache_clear()
    triton_tiles._planned.cache_clear()
    edges: list[int] = []
    constants = triton_tiles._constants

    def noted(own: object, tiling: Tiling, *others: object) -> object:
        edges.append(tiling.edges)
        return constants(own, tiling, *others)

    triton_tiles._constants = noted
    model = workload.model("triton")
    with forward_context("32", CPU):
        loss = mean_square(model(workload.graph()))
    loss.backward()
    triton_tiles._constants = constants
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)], edges


class Broken:
    """In place of a kernel that does not compile."""

    def __getitem__(self, grid: object) -> None:
        raise RuntimeError("PassManager::run failed")


def main(failing: str = "") -> None:
    """Search, then one step with the file and one without.

    Args:
        failing: kernel that fails in the search.
    """
    tiles._CHOICES = {"columns": (16,), "edges": (16,)}
    tiles._seconds = lambda repeat, tiling, options: float(tiling.edges)
    tilings.default = lambda case: Tiling(case.columns, 64, 4, 1)
    workloads.WORKLOADS["small"] = SMALL
    whole = getattr(triton_programs, failing, None)
    if failing:
        setattr(triton_programs, failing, Broken())
    report = tiles.run(Options(seconds=1e6), ["small"], ["32"])
    if failing:
        setattr(triton_programs, failing, whole)
    own, own_edges = step(SMALL)
    os.environ[tilings.FILE] = "0"
    others, other_edges = step(SMALL)
    difference = max(float((a - b).norm() / b.norm()) for a, b in zip(own, others, strict=True) if b.any())
    found = {
        "rows": report.rows,
        "failures": report.failures,
        "launches": len(own_edges),
        "edges": sorted({*own_edges}),
        "edges without the file": sorted({*other_edges}),
        "difference": difference,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
