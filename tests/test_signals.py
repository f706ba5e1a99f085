"""Signals end the work by one exception, and within seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from se3t import signals
from se3t.cli.failures import guarded
from se3t.signals import Interrupted, interrupted_by_signals


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_each_signal_is_an_interruption_with_its_status(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        with interrupted_by_signals(), signals.advice(lambda: "run it again"):
            send(number)
        return 0

    before = [signal.getsignal(each) for each in signals.NUMBERS]
    assert guarded(work) == 128 + number
    assert capsys.readouterr().err.strip().endswith("; run it again")
    assert [signal.getsignal(each) for each in signals.NUMBERS] == before


def test_a_signal_waits_where_the_work_holds_it() -> None:
    done: list[str] = []

    def work() -> None:
        with interrupted_by_signals(), signals.advice(str):
            signals.hold()
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            done.append("whole")
            signals.check()

    with pytest.raises(Interrupted):
        work()
    assert done == ["whole"]
    signals.check()  # another work knows nothing of it


@contextmanager
def ignored(number: int) -> Iterator[None]:
    before = signal.signal(number, signal.SIG_IGN)  # as nohup does
    try:
        yield
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    with ignored(signal.SIGHUP), interrupted_by_signals():
        send(signal.SIGHUP)
        signals.install()
        send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)


def test_a_thread_leaves_signals_alone() -> None:
    found: list[bool] = []

    def work() -> None:
        with interrupted_by_signals():
            found.append(signal.getsignal(signal.SIGTERM) is before)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


def test_a_forked_process_keeps_its_signals_to_itself() -> None:
    with interrupted_by_signals(seconds=0.0):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.05)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        time.sleep(0.3)  # this process would end here


DEAF = """
import os, sys, time
from se3t import signals
with signals.interrupted_by_signals(float(sys.argv[1])), signals.advice(lambda: "run it again"):
    signals.hold()
    print("a table")
    os.write(1, b"ready\\n")
    time.sleep(60)
"""


@pytest.mark.parametrize(("seconds", "wait"), [(0.2, None), (60.0, signals.REPEAT_SECONDS + 0.2)])
def test_work_that_does_not_end_is_ended_in_time_or_by_a_second_signal(seconds: float, wait: float | None) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF, str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    if wait is not None:
        time.sleep(wait)
        process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert output == "a table\n"
    assert errors == "se3t: ended by SIGTERM; run it again\n"


def test_a_program_of_someone_else_is_not_ended_and_a_second_signal_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "REPEAT_SECONDS", 0.05)
    wakeup = signal.set_wakeup_fd(-1)
    with interrupted_by_signals(), signals.advice(str):
        assert signal.set_wakeup_fd(-1) == -1
        signals.hold()
        send(signal.SIGINT)
        send(signal.SIGINT)  # the same one, from another sender
        time.sleep(0.1)
        with pytest.raises(Interrupted):
            send(signal.SIGINT)
    signal.set_wakeup_fd(wakeup)


def test_the_watch_ends_with_the_work_though_a_forked_process_holds_its_pipe() -> None:
    with interrupted_by_signals(seconds=0.2):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)
    time.sleep(0.4)  # this process would end here
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_the_last_words_are_kept_with_their_advice() -> None:
    kept: list[str] = []

    def work() -> None:
        with interrupted_by_signals(), signals.advice(lambda: "run it again"), signals.last_words(kept.append):
            send(signal.SIGTERM)

    with pytest.raises(Interrupted):
        work()
    assert kept == ["se3t: ended by SIGTERM; run it again"]


def test_a_part_of_the_work_may_take_longer() -> None:
    with interrupted_by_signals(seconds=0.0), interrupted_by_signals(seconds=60.0):
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)
        time.sleep(0.3)  # this process would end here


def test_exit_statuses_of_interruptions_are_known() -> None:
    assert [signals.interruption(status) for status in (0, 1, -9, 130, 143, -15, 129, -1)] == [
        *[None] * 3,
        *(signal.SIGINT, signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGHUP),
    ]
