"""Work on chunks of a stream in several processes, results in order. Imports neither torch nor numpy.

Each worker is a fresh interpreter ("spawn") with a pipe of its own and one chunk at a time, so little waits in memory,
a dead worker is noticed at once, and the end of the parent, however it comes, ends the workers.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TypeVar

from se3t.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 4  # chunks per worker that may be at work or wait for their turn


def map_chunks(
    function: Callable[[list[T]], list[R]], items: Iterable[T], *, workers: int | None, chunk_size: int = 500
) -> Iterator[R]:
    """Results of ``function`` on chunks of ``items``, one after the other, in the order of the items.

    Ctrl-C, an exception on either side, or closing the iterator ends the workers at once.

    Args:
        function: takes and returns a list; it, its items and its results can be pickled.
        items: read as far as needed, a few chunks per worker ahead of what was yielded.
        workers: number of processes; None for one per core this process may use. With one worker, or where all items
            fit into one chunk, the work is done in this process.
        chunk_size: number of items in a chunk.

    Yields:
        The results.

    Raises:
        UserError: as raised by ``function``; or a worker died, killed from outside or out of memory.
        Exception: whatever else ``function`` or ``items`` raised, with the worker's traceback as a note.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}, expected at least 1")
    chunks = _chunked(iter(items), chunk_size)
    first = list(islice(chunks, 2))
    chunks = chain(first, chunks)
    count = available_cores() if workers is None else workers
    if count <= 1 or len(first) < 2:
        for chunk in chunks:
            yield from function(chunk)
        return
    with _started(function, count) as pool:
        for results in _in_order(pool, chunks):
            yield from results


def available_cores() -> int:
    """Number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """Workers by their pipe, and which of them are idle."""

    def __init__(self) -> None:
        self.workers: dict[connection.Connection, BaseProcess] = {}
        self.idle: list[connection.Connection] = []

    def __len__(self) -> int:
        return len(self.workers)

    def end(self) -> None:
        for process in self.workers.values():
            process.kill()
        for pipe, process in self.workers.items():
            process.join()
            pipe.close()


def _chunked(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk


def _in_order(pool: _Pool, chunks: Iterator[list[T]]) -> Iterator[list[Any]]:
    waiting: deque[int] = deque()  # numbers of the chunks that were sent and not yielded, oldest first
    at_work: dict[connection.Connection, int] = {}
    done: dict[int, list[Any] | Exception] = {}
    sent, spare = 0, next(chunks, None)
    while waiting or spare is not None:
        while spare is not None and pool.idle and len(waiting) < _AHEAD * len(pool):
            pipe = pool.idle.pop()
            _send(pool, pipe, spare)
            at_work[pipe] = sent
            waiting.append(sent)
            sent, spare = sent + 1, next(chunks, None)  # read while the worker is busy
        ready = connection.wait(list(at_work), timeout=0 if waiting[0] in done else None)
        for pipe in (pipe for pipe in list(at_work) if pipe in ready):
            done[at_work.pop(pipe)] = _receive(pool, pipe)
            pool.idle.append(pipe)
        if waiting[0] in done:
            outcome = done.pop(waiting.popleft())
            if isinstance(outcome, Exception):  # in its turn, so that it is the same one each time
                raise outcome
            yield outcome


def _send(pool: _Pool, pipe: connection.Connection, chunk: list[Any]) -> None:
    try:
        pipe.send(chunk)
    except OSError as error:  # the other end is closed
        raise _death(pool.workers[pipe]) from error


def _receive(pool: _Pool, pipe: connection.Connection) -> list[Any] | Exception:
    try:
        outcome: list[Any] | Exception = pipe.recv()
    except (EOFError, OSError) as error:
        raise _death(pool.workers[pipe]) from error
    return outcome


def _death(process: BaseProcess) -> UserError:
    process.join(timeout=5)
    code = process.exitcode
    how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
    return UserError(
        f"a worker process ended before its work was done ({how}), most often because memory ran out; expected it "
        "to run to the end; try again with data.workers=1"
    )


@contextmanager
def _started(function: Callable[[list[T]], list[R]], count: int) -> Iterator[_Pool]:
    context = multiprocessing.get_context("spawn")
    pool = _Pool()
    try:
        with _interrupts_deferred(), _main_hidden(function):
            for _ in range(count):
                here, there = context.Pipe()
                process = context.Process(target=_work, args=(function, there), daemon=True)
                process.start()
                there.close()  # the worker's copy is now the only one: its death is the end of the pipe
                pool.workers[here] = process
        pool.idle = list(pool.workers)
        yield pool
    finally:
        pool.end()


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Hold Ctrl-C back while processes start: they inherit the mask, so that only the parent is ever interrupted."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # else the first start does it, and lifts the mask on the way
    waiting: list[int] = []
    # The mask is that of this thread; a signal that another thread takes calls the handler all the same.
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number)) if main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if waiting:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def _main_hidden(function: Callable[..., Any]) -> Iterator[None]:
    """Keep the workers from running the user's script again, as "spawn" does: it may import torch, or have no guard."""
    if function.__module__ == "__main__":
        yield
        return
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _work(function: Callable[[list[T]], list[R]], pipe: connection.Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):  # the parent is gone
        while True:
            chunk = pipe.recv()
            try:
                outcome: list[R] | Exception = function(chunk)
            except Exception as error:
                outcome = _portable(error)
            pipe.send(outcome)


def _portable(error: Exception) -> Exception:
    """The error as it can travel; unless it says all there is to say, with the traceback that it leaves behind."""
    trace = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    if not isinstance(error, UserError):
        error.add_note(f"in a worker process:\n{trace}")
    return error
