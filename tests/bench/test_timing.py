from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from se3t.bench import timing
from se3t.bench.child import peak_memory_elsewhere
from se3t.bench.timing import Call, Spread, Step, Timed, time_all

ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")


def counting_step(log: list[str], name: str) -> Step:
    module = nn.Linear(2, 1)

    def loss() -> torch.Tensor:
        assert module.weight.grad is None
        log.append(name)
        return module(torch.ones(1, 2)).sum()

    return Step(module, loss)


def holding(count: int) -> Timed:
    """A step that needs ``count`` numbers, which are freed before it ends."""
    return Call(lambda: torch.ones(count).sum())


def failing(reason: str) -> Timed:
    raise ValueError(reason)


def killed() -> Timed:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_work_takes_turns_in_rotated_order() -> None:
    log: list[str] = []
    steps = {name: counting_step(log, name) for name in "abc"}
    times = time_all(steps, repetitions=2, warmup=1, device="cpu")
    assert "".join(log[::2]) == "abcbcacab"
    assert log[::2] == log[1::2]  # everything is done twice in a turn
    assert list(times) == ["a", "b", "c"]


def test_forward_and_backward_are_parts_of_the_step() -> None:
    times = time_all({"a": counting_step([], "a")}, repetitions=1, warmup=0, device="cpu")["a"]
    forward, backward = times.parts
    assert times.total.median == pytest.approx(forward.median + backward.median)
    assert min(forward.median, backward.median) > 0


def test_a_call_has_no_parts() -> None:
    calls: list[int] = []
    times = time_all({"a": Call(lambda: calls.append(1))}, repetitions=3, warmup=2, device="cpu")["a"]
    assert times.parts == ()
    assert (times.rounds, len(calls)) == (3, 2 * 5)


def test_no_garbage_is_collected_in_a_turn() -> None:
    collects: list[bool] = []
    time_all({"a": Call(lambda: collects.append(gc.isenabled()))}, repetitions=2, warmup=1, device="cpu")
    assert collects == [False] * 2 * 3
    assert gc.isenabled()


def test_clearing_the_gradients_is_a_part_of_the_step() -> None:
    log: list[str] = []

    class Logged(nn.Linear):
        def zero_grad(self, set_to_none: bool = True) -> None:
            log.append("cleared")
            super().zero_grad(set_to_none)

    module = Logged(2, 1)

    def clock() -> float:
        log.append("clock")
        return float(len(log))

    Step(module, lambda: module(torch.ones(1, 2)).sum()).run(clock)
    assert log == ["clock", "cleared", "clock", "clock"]


def test_turns_end_when_the_time_is_up_but_never_before_the_third() -> None:
    calls: list[int] = []
    times = time_all({"a": Call(lambda: calls.append(1))}, repetitions=100, warmup=2, device="cpu", seconds=1e-9)["a"]
    assert (times.rounds, len(calls)) == (3, 2 * 4)  # one of the two to warm up


def test_who_is_slow_ends_before_who_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]

    def takes(seconds: float) -> Timed:
        return Call(lambda: passed.__setitem__(0, passed[0] + seconds))

    monkeypatch.setattr(timing, "clock_of", lambda device: lambda: passed[0])
    work = {"slow": takes(1.0), "quick": takes(0.01), "between": takes(0.5)}
    times = time_all(work, repetitions=11, warmup=1, device="cpu", seconds=18.0)
    assert {name: own.rounds for name, own in times.items()} == {"slow": 3, "quick": 11, "between": 6}
    assert times["slow"].total.median == pytest.approx(1.0)


def test_nothing_to_time_gives_no_times() -> None:
    assert time_all({}, repetitions=2, warmup=1, device="cpu") == {}


def test_spread_is_median_and_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0)


@ON_LINUX
def test_peak_memory_sees_what_is_freed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SE3T_KEEP_MEMORY", "0")  # an aligned block that was kept does not always take the next one
    peak = peak_memory_elsewhere(f"{__name__}:holding", {"count": 64_000_000}, device="cpu", threads=1)
    assert peak.bytes is not None
    # 256 MB once, not twice; large against what the libraries of that process page in meanwhile, some tens of MB.
    assert 240e6 < peak.bytes < 400e6


@pytest.mark.parametrize(
    ("maker", "arguments", "reason"),
    [(failing, {"reason": "no such thing"}, "no such thing"), (killed, {}, "SIGKILL, most likely out of memory")],
)
def test_a_process_that_dies_leaves_a_reason(
    maker: Callable[..., Timed], arguments: dict[str, str], reason: str
) -> None:
    peak = peak_memory_elsewhere(f"{__name__}:{maker.__name__}", arguments, device="cpu")
    assert peak.bytes is None
    assert reason in peak.reason
