"""Memory of a training step. On the CPU what autograd keeps is counted; not yet run on a GPU."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from se3t.bench.workloads import Workload, mean_square

from .conftest import DEVICE, MARKS, ON_GPU
from .test_1_kernels import kernel_of

pytestmark = MARKS

WORKLOAD = Workload.of("qm9_complete", 8) if ON_GPU else Workload.of("pointcloud_deg3", 1, 8)
MOST = 0.7
"""Of the memory of ``edge_frame-speed``, which keeps 180 kB of radial weights for each edge and layer on a GPU."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In proportion to the smaller workload."""
    if not ON_GPU:
        monkeypatch.setattr("se3t.nn.kernels.chunked.CHUNK_BYTES", {"cpu": 2**14})


def needed(name: str) -> int:
    """Bytes of a step: its peak; on a CPU, what is kept for the gradients."""
    kernel_of(name)  # skips where it cannot run
    kernel, _, memory = name.partition(" ")
    model, graph = WORKLOAD.model(kernel, memory or "auto").to(DEVICE), WORKLOAD.graph(device=DEVICE)
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return value

    def step() -> None:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            loss = mean_square(model(graph))
        loss.backward()

    if not ON_GPU:
        step()
        return sum(kept.values())
    step()  # constants, libraries, gradients
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return torch.cuda.max_memory_allocated() - before


def test_radial_weights_that_are_not_kept_need_no_memory() -> None:
    speed, low, triton = (needed(name) for name in ("edge_frame speed", "edge_frame low", "triton"))
    what = "peak of a step" if ON_GPU else "kept for the gradients"
    shares = f"edge_frame-low {low / speed:.2f} of it, triton {triton / speed:.2f}"
    print(f"\n{WORKLOAD.name}, {DEVICE}, {what}: edge_frame-speed {speed / 2**20:,.1f} MiB, {shares}")
    assert low < MOST * speed
    assert triton < MOST * speed
