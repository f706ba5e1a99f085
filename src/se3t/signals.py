"""SIGINT, SIGTERM and SIGHUP end the work by an exception, within seconds. Imports no torch.

A signal raises :class:`Interrupted` in the main thread, at once or, where the work has called :func:`hold`, at the next
:func:`check`. In a program of this package a thread watches over it: where the exception does not come through in time
(one long call of compiled code, a library that waits for the network) or a second signal comes, the process ends
without it. Another program that calls a function of this package is not ended: a second signal raises at once.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS = 8.0
"""How long the end may take: less than the usual grace before SIGKILL."""
REPEAT_SECONDS = 1.0
"""Signals within this time after the first are the same one: a process group may get it from several senders."""


class Interrupted(KeyboardInterrupt):
    """A signal has ended the work.

    Attributes:
        number: of the signal.
        advice: how to continue, as a clause, or empty.
    """

    def __init__(self, number: int, advice: str = "") -> None:
        super().__init__(number)
        self.number, self.advice = number, advice

    @property
    def status(self) -> int:
        """Exit status of a process that ends for it, as shells count."""
        return 128 + self.number

    def __str__(self) -> str:
        what = "interrupted" if self.number == signal.SIGINT else f"ended by {name_of(self.number)}"
        return f"{what}; {self.advice}" if self.advice else what


def name_of(number: int) -> str:
    """SIGTERM for 15."""
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"


def interruption(status: int) -> int | None:
    """The one of :data:`NUMBERS` that has ended a process of this exit status, or None."""
    return next((int(number) for number in NUMBERS if status in (-number, 128 + number)), None)


@dataclass
class _State:
    before: dict[int, Any] = field(default_factory=dict)  # handlers that have been replaced
    is_held: bool = False
    received: int | None = None
    since: float = 0.0  # when it was received
    seconds: float | None = None  # None: no thread watches
    deadline: float = 0.0
    has_no_deadline: bool = False
    describe: Callable[[], str] = str  # both are set by contexts
    keep: Callable[[str], object] = str


_state = _State()


# --- for the work -----------------------------------------------------------------------------------------------------


def hold() -> None:
    """From now on a signal waits for :func:`check`."""
    _state.is_held = True


def release() -> None:
    """From now on a signal raises at once; so does one that waits.

    Raises:
        Interrupted: for a signal that came since :func:`hold`.
    """
    _state.is_held = False
    check()


def check() -> None:
    """Let a waiting signal end the work.

    Raises:
        Interrupted: for a signal that came.
    """
    if _state.received is not None:
        raise Interrupted(_state.received)


@contextmanager
def without_deadline() -> Iterator[None]:
    """Work that may take any time after a signal: the writing of a checkpoint."""
    _state.has_no_deadline = True
    try:
        yield
    finally:
        _state.has_no_deadline, _state.deadline = False, time.monotonic() + (_state.seconds or 0.0)


@contextmanager
def advice(describe: Callable[[], str]) -> Iterator[None]:
    """Give an interruption its advice.

    Args:
        describe: says how to continue; called when the signal is handled.
    """
    before, _state.describe = _state.describe, describe
    try:
        yield
    except Interrupted as stop:
        stop.advice = stop.advice or describe()
        raise
    finally:
        _state.describe, _state.is_held = before, False


@contextmanager
def last_words(keep: Callable[[str], object]) -> Iterator[None]:
    """Pass on the sentence with which an interruption ends the work, with or without the exception.

    Args:
        keep: takes the sentence.
    """
    before, _state.keep = _state.keep, keep
    try:
        yield
    except Interrupted as stop:
        stop.advice = stop.advice or _state.describe()
        keep(f"se3t: {stop}")
        raise
    finally:
        _state.keep = before


# --- handlers ---------------------------------------------------------------------------------------------------------


@contextmanager
def interrupted_by_signals(seconds: float | None = None) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise :class:`Interrupted`. What is ignored stays ignored: ``nohup``.

    Inside another such context only the time changes; in other threads than the main one nothing does.

    Args:
        seconds: how long the end may take before the process ends without the exception. None: as the context around
            has it; where there is none, however long.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _state.before:
        before = _state.seconds
        if None not in (before, seconds):
            _state.seconds = seconds
        try:
            yield
        finally:
            _state.seconds = before
        return
    ignored = (signal.SIG_IGN, None)  # None: of other code than Python's, which could not be put back
    _state.before = {number: handler for number in NUMBERS if (handler := signal.getsignal(number)) not in ignored}
    try:
        _state.seconds = seconds
        with nullcontext() if seconds is None else _watched():
            install()
            yield
    finally:
        _restore()


def install() -> None:
    """Set the handlers; called again after a library has set others."""
    for number in _state.before:
        signal.signal(number, _interrupt)


def _restore() -> None:
    for number, handler in _state.before.items():
        signal.signal(number, handler)
    _state.before, _state.is_held, _state.received, _state.seconds = {}, False, None, None


def _in_child() -> None:
    """A forked process must not report its signals to the thread of its parent."""
    if _state.before:
        if _state.seconds is not None:
            signal.set_wakeup_fd(-1)
        _restore()


os.register_at_fork(after_in_child=_in_child)


def _interrupt(number: int, frame: Any) -> None:
    now = time.monotonic()
    if _state.received is None:
        _state.received, _state.since = number, now
        if not _state.is_held:
            raise Interrupted(number)
    elif _state.seconds is None and now - _state.since > REPEAT_SECONDS:  # else the watching thread handles it
        raise Interrupted(number)


@contextmanager
def _watched() -> Iterator[None]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), daemon=True, name="signals").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        with suppress(BlockingIOError):
            os.write(writing, b"\0")  # ends the thread, even while a forked process holds the pipe
        os.close(writing)


def _watch(reading: int) -> None:
    first, since = 0, 0.0
    while True:
        ready, _, _ = select.select([reading], [], [], 0.1 if first else None)
        received = os.read(reading, 4096) if ready else b""
        if ready and (not received or 0 in received):
            os.close(reading)
            return
        number = next((number for number in received if number in NUMBERS), 0)
        now = time.monotonic()
        if number and not first:
            first, since, _state.deadline = number, now, now + (_state.seconds or 0.0)
        elif number and now - since > REPEAT_SECONDS:
            _end(number)
        if first and now > _state.deadline and not _state.has_no_deadline:
            _end(first)


def _end(number: int) -> None:
    """End the process without the exception, after printing what was buffered."""
    with suppress(Exception):
        text = f"se3t: {Interrupted(number, _state.describe())}"
        os.write(2, f"{text}\n".encode(errors="replace"))
        _state.keep(text)
    flushing = threading.Thread(target=_flush, daemon=True)  # which may wait for a reader
    flushing.start()
    flushing.join(1.0)
    os._exit(128 + number)


def _flush() -> None:
    with suppress(Exception):
        sys.stdout.flush()
