"""Process chunks of a stream in several processes, with results in order. Imports neither torch nor numpy.

Each worker is a fresh interpreter ("spawn") with one chunk at a time, so that memory stays small, and ends with its
parent. ``concurrent.futures.ProcessPoolExecutor`` is no substitute: its workers share one pipe for their results, and
wait forever for the rest of a result whose worker was killed; they outlive a parent that is killed.
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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain, islice
from multiprocessing import connection, resource_tracker
from queue import SimpleQueue
from types import ModuleType
from typing import Any, TypeVar

from se3t.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 4  # chunks per worker that may be running or queued


def map_chunks(
    function: Callable[[list[T]], list[R]], items: Iterable[T], *, workers: int | None, chunk_size: int = 500
) -> Iterator[R]:
    """Results of ``function`` on chunks of ``items``, in the order of the items.

    Ctrl-C, an exception on either side, or closing the iterator ends the workers at once.

    Args:
        function: takes and returns a list; it, its items and its results can be pickled.
        items: read lazily, a few chunks per worker ahead of the results.
        workers: number of processes; None for one per core this process may use. With one worker, or where all items
            fit into one chunk, the work is done in this process.
        chunk_size: number of items in a chunk.

    Yields:
        The results.

    Raises:
        UserError: as raised by ``function``; or a worker died, killed from outside or out of memory.
        Exception: any other error of ``function`` or ``items``, with the worker's traceback as a note.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}, expected at least 1")
    chunks = _chunked(iter(items), chunk_size)
    first = list(islice(chunks, 2))
    count = available_cores() if workers is None else workers
    if count <= 1 or len(first) < 2:
        for chunk in chain(first, chunks):
            yield from function(chunk)
        return
    with _started(function, count) as submit:
        futures: deque[Future[list[R]]] = deque()
        for chunk in chain(first, chunks):
            futures.append(submit(chunk))
            while futures and (len(futures) >= _AHEAD * count or futures[0].done()):
                yield from futures.popleft().result()
        while futures:
            yield from futures.popleft().result()


def available_cores() -> int:
    """Number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _chunked(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk


@contextmanager
def _started(function: Callable[[list[T]], list[R]], count: int) -> Iterator[Callable[[list[T]], Future[list[R]]]]:
    """Start workers, each with a thread of this process that waits for it; yields a function that submits a chunk."""
    workers: list[_Worker] = []
    idle: SimpleQueue[_Worker] = SimpleQueue()

    def call(chunk: list[T]) -> list[R]:
        worker = idle.get()  # never waits: there are as many threads as workers
        try:
            return worker.call(chunk)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(count)
    try:
        with _interrupts_deferred(), _main_hidden(function):
            for _ in range(count):
                workers.append(_Worker(function))
                idle.put(workers[-1])
        yield lambda chunk: threads.submit(call, chunk)
    finally:
        for worker in workers:
            worker.process.kill()
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


class _Worker:
    """A process with its own pipe, so that its death, even within a result, closes the pipe."""

    def __init__(self, function: Callable[[list[Any]], list[Any]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=_work, args=(function, there), daemon=True)
        self.process.start()
        there.close()

    def call(self, chunk: list[Any]) -> list[Any]:
        try:
            self.pipe.send(chunk)
            outcome: list[Any] | Exception = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _death(self) -> UserError:
        self.process.join(timeout=5)
        code = self.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        return UserError(
            f"a worker process ended before its work was done ({how}), most often because memory ran out; expected it "
            "to run to the end; try again with data.workers=1"
        )


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Defer Ctrl-C while processes start: they inherit the mask, so that only the parent is interrupted."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # else the first start does so, and removes the mask
    waiting: list[int] = []
    # The mask is that of this thread; a signal that another thread receives still calls the handler.
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
    """Keep workers from running the user's script, as "spawn" does: it may import torch, or have no guard."""
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
            except Exception as error:  # any exception: the parent raises it again
                outcome = _portable(error)
            pipe.send(outcome)


def _portable(error: Exception) -> Exception:
    """The error in a form that can be pickled, with its traceback as a note unless it is a UserError."""
    trace = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its own pickling raises
        error = RuntimeError(f"{type(error).__name__}: {error}")
    if not isinstance(error, UserError):
        error.add_note(f"in a worker process:\n{trace}")
    return error
