from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from se3t.bench.timing import Spread, Step, time_steps


def counting_step(log: list[str], name: str) -> Step:
    module = nn.Linear(2, 1)

    def loss() -> torch.Tensor:
        assert module.weight.grad is None
        log.append(name)
        return module(torch.ones(1, 2)).sum()

    return Step(module, loss)


def test_steps_take_turns_in_rotated_order():
    log: list[str] = []
    steps = {name: counting_step(log, name) for name in "abc"}
    times = time_steps(steps, repetitions=2, warmup=1, device="cpu")
    assert "".join(log) == "abcbcacab"
    assert list(times) == ["a", "b", "c"]


def test_forward_and_backward_are_parts_of_the_step():
    times = time_steps({"a": counting_step([], "a")}, repetitions=1, warmup=0, device="cpu")["a"]
    assert times.total.median == pytest.approx(times.forward.median + times.backward.median)
    assert min(times.forward.median, times.backward.median) > 0


def test_spread_is_median_and_quartiles():
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from Linux's /proc")
def test_peak_memory_sees_what_is_freed_again():
    """In a process of its own, as the benchmark does it: 64 MB that live only within the step."""
    code = (
        "import torch; from se3t.bench.timing import Step, peak_memory; module = torch.nn.Linear(1, 1)\n"
        "def loss(): return module(torch.ones(16_000_000, 1)[:1]).sum()\n"
        "print(peak_memory(Step(module, loss), 'cpu'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 60e6 < int(done.stdout) < 120e6
