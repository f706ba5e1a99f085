"""Throughput on the QM9 recipe, by kernel and precision. Not run yet: it was written where there is no GPU.

``pytest -m gpu -s tests/gpu/test_measure.py`` prints molecules per millisecond of a training step (forward, backward;
synthetic molecules of 18 atoms, batch 240) and the share of the matrix product peak measured in the same run. Counted
is the least work of the weights-first order, whatever the kernel does.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator

import pytest
import torch

from se3t.bench.counting import step_work
from se3t.bench.workloads import Workload
from se3t.nn.kernels import KERNELS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
    pytest.mark.filterwarnings("ignore:The usage of `scatter"),  # a maximum over points, by torch-geometric
]

BATCH = 240
ON_GPU = [name for name in ("edge_frame", "vectorised", "triton") if name in KERNELS]


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def milliseconds(work: Callable[[], object], repetitions: int = 20, warm_up: int = 5) -> float:
    """Median time, measured on the device."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repetitions):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def peak(dtype: torch.dtype, size: int = 8192) -> float:
    """Operations per millisecond of a large product."""
    left, right = torch.randn(2, size, size, device="cuda", dtype=dtype)
    return 2 * size**3 / milliseconds(lambda: left @ right)


@pytest.mark.parametrize("low", [True, False], ids=["bf16", "tf32"])
@pytest.mark.parametrize("kernel", ON_GPU)
def test_throughput_of_the_qm9_recipe(kernel: str, low: bool) -> None:
    workload = dataclasses.replace(Workload.of("qm9", num_graphs=BATCH), device="cuda")
    graph, model = workload.graph(), workload.model(kernel).cuda()
    dtype = torch.bfloat16 if low else torch.float32

    def step() -> torch.Tensor:
        model.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=low):
            out = model(graph)
        loss = torch.cat([value.flatten().float() for value in out.values()]).square().mean()
        loss.backward()
        return loss.detach()

    torch.cuda.reset_peak_memory_stats()
    time = milliseconds(step)
    share = step_work(workload).flop / time / peak(dtype)
    print(
        f"\nQM9 recipe, {torch.cuda.get_device_name()}, {'bf16' if low else 'tf32'}, kernel {kernel}: "
        f"{BATCH / time:.2f} molecules/ms, {100 * share:.1f} % of the measured product peak, "
        f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"
    )
    assert step().isfinite()
