"""Chunks in several processes: the order is kept, errors arrive, and nothing outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from se3t.data.molecules.parallel import available_cores, map_chunks
from se3t.errors import UserError


def squares(numbers: list[int]) -> list[int]:
    return [number**2 for number in numbers]


def slow_for_the_first(numbers: list[int]) -> list[int]:
    if 0 in numbers:
        time.sleep(0.3)
    return numbers


def processes(numbers: list[int]) -> list[int]:
    return [os.getpid() for _ in numbers]


def has_torch(numbers: list[int]) -> list[bool]:
    return ["torch" in sys.modules for _ in numbers]


def refuse_seven(numbers: list[int]) -> list[int]:
    if 7 in numbers:
        raise UserError("gdb9.sdf: record 7 is cut")
    return numbers


def divide(numbers: list[int]) -> list[float]:
    return [1 / number for number in numbers]


class Awkward(Exception):
    """An exception that cannot be made anew from its pickled form."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def raise_awkward(numbers: list[int]) -> list[int]:
    raise Awkward(3, 4)


def die(numbers: list[int]) -> list[int]:
    if 5 in numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    return numbers


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # one that ended and that nobody has waited for yet is a zombie
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def gone(pids: set[int], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 50])
def test_results_are_those_of_the_function_in_the_order_of_the_items(workers: int, count: int) -> None:
    assert list(map_chunks(squares, range(count), workers=workers, chunk_size=3)) == [n**2 for n in range(count)]


def test_a_slow_chunk_holds_back_those_after_it() -> None:
    assert list(map_chunks(slow_for_the_first, range(12), workers=2, chunk_size=2)) == list(range(12))


def test_one_worker_or_one_chunk_stays_in_this_process_and_more_leave_it() -> None:
    assert set(map_chunks(processes, range(9), workers=1, chunk_size=2)) == {os.getpid()}
    assert set(map_chunks(processes, range(9), workers=2, chunk_size=9)) == {os.getpid()}
    assert os.getpid() not in set(map_chunks(processes, range(9), workers=2, chunk_size=2))


def test_workers_of_a_process_with_torch_are_without_it() -> None:
    assert "torch" in sys.modules
    assert list(map_chunks(has_torch, range(6), workers=2, chunk_size=2)) == [False] * 6


def test_items_are_read_a_few_chunks_ahead_only() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(10_000):
            taken.append(number)
            yield number

    results = map_chunks(squares, items(), workers=2, chunk_size=10)
    next(results)
    assert 20 <= len(taken) <= 150
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_user_error_arrives_whole_and_in_its_turn(workers: int) -> None:
    results = map_chunks(refuse_seven, range(20), workers=workers, chunk_size=2)
    assert [next(results) for _ in range(6)] == list(range(6))
    with pytest.raises(UserError, match=r"^gdb9.sdf: record 7 is cut$"):
        next(results)


def test_another_error_keeps_its_type_and_brings_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(map_chunks(divide, range(4), workers=2, chunk_size=1))
    assert "in divide" in "".join(caught.value.__notes__)


def test_an_error_that_cannot_travel_is_told_in_words() -> None:
    with pytest.raises(RuntimeError, match="Awkward: 3 and 4"):
        list(map_chunks(raise_awkward, range(4), workers=2, chunk_size=1))


def test_a_killed_worker_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"^a worker process ended .*\(signal 9\).*; try again with data\.workers=1$"):
        list(map_chunks(die, range(20), workers=2, chunk_size=2))


class SlowToArrive:
    """A result that takes a while on its way: its worker is killed once half of it has arrived."""

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        return bytes, (bytes(100_000_000),)


def send_slowly(numbers: list[int]) -> list[object]:
    return [SlowToArrive()]


def test_a_worker_that_is_killed_while_its_result_is_on_its_way_is_no_wait_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receive, num_slow = Connection._recv, 0  # type: ignore[attr-defined]

    def read(file: int, size: int) -> bytes:
        nonlocal num_slow
        if size > 1_000_000:
            num_slow += 1
            time.sleep(0.05)
        return os.read(file, min(size, 1_000_000))

    monkeypatch.setattr(Connection, "_recv", lambda pipe, size: receive(pipe, size, read))
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"a worker process ended .*\(signal 9\)"):
        list(map_chunks(send_slowly, range(4), workers=2, chunk_size=1))
    assert time.monotonic() - begin < 20
    assert num_slow > 5


def test_workers_end_with_their_results_an_error_or_a_closed_iterator() -> None:
    pids = set(map_chunks(processes, range(20), workers=2, chunk_size=2))
    assert gone(pids)
    closed = map_chunks(processes, range(1000), workers=2, chunk_size=1)
    pids = {next(closed) for _ in range(10)}
    closed.close()  # type: ignore[attr-defined]
    assert gone(pids)


def test_an_error_of_the_items_ends_the_workers() -> None:
    def items() -> Iterator[int]:
        yield from range(500)
        raise UserError("raw.sdf: ends within record 501")

    results = map_chunks(processes, items(), workers=2, chunk_size=1)
    pids = {next(results)}
    with pytest.raises(UserError, match="record 501"):
        pids |= set(results)
    assert gone(pids)


def test_a_chunk_has_at_least_one_item() -> None:
    with pytest.raises(ValueError, match="chunk_size is 0"):
        list(map_chunks(squares, range(3), workers=1, chunk_size=0))


def test_some_core_is_available() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


SCRIPT = """
    import sys
    from data.molecules.test_parallel import linger
    from se3t.data.molecules.parallel import map_chunks

    # no guard against being imported: workers do not run this script again
    try:
        for pid in map_chunks(linger, range(400), workers=2, chunk_size=1):
            print(pid, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def linger(numbers: list[int]) -> list[int]:
    time.sleep(0.05)
    return processes(numbers)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_interrupting_or_killing_a_program_ends_its_workers_silently(
    tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        # A background job without job control, as these tests may be run in, has Ctrl-C switched off for its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as program:
        assert program.stdout is not None
        pids = {int(program.stdout.readline()) for _ in range(10)}
        if sent == signal.SIGINT:
            os.killpg(program.pid, sent)  # as a terminal does: parent and workers alike
        else:
            program.send_signal(sent)
        _, noise = program.communicate(timeout=60)
    assert (program.returncode, noise) == (status, "")
    assert program.pid not in pids
    assert gone(pids)
