"""Several processes on one machine. They are started here and not from the command line, so that any program can train
on two devices.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.distributed.elastic.utils.distributed import get_free_port
from torch.multiprocessing import ProcessExitedException, start_processes

from se3t.errors import UserError
from se3t.signals import Interrupted, interruption

_FAILED = 2
_STOP_SECONDS = 5.0
_LAUNCHED = "SE3T_LAUNCHED"
_RANKS = (
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)

log = logging.getLogger(__name__)

T = TypeVar("T")


def started_by_a_launcher() -> bool:
    """Whether this process is already one of several, started by torchrun or by :func:`launch`."""
    return _LAUNCHED in os.environ or started_by_torchrun()


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "LOCAL_RANK" in os.environ


@contextmanager
def own_ranks(devices: int) -> Iterator[None]:
    """Hide ranks that another program has left in the environment, and check the number of torchrun's processes.

    Args:
        devices: ``trainer.devices``.

    Raises:
        UserError: torchrun has started another number of processes.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if started_by_torchrun() and size != str(devices):
        raise UserError(
            f"trainer.devices={devices}: torchrun has started {size} processes; use trainer.devices={size}, or start "
            "se3t train without torchrun"
        )
    # Lightning and torch would take this process for one of several.
    names = [] if started_by_a_launcher() else [name for name in _RANKS if name in os.environ]
    if names:
        log.warning("%s in the environment: ignored, not set by torchrun or se3t", ", ".join(names))
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ |= hidden


def process_rank() -> int:
    """Number of this process among all of a training; 0 where there is one only."""
    return int(os.environ.get("RANK", "0")) if started_by_a_launcher() else 0


def launch(worker: Callable[..., None], arguments: tuple[Any, ...], num_processes: int) -> None:
    """Run ``worker(*arguments)`` in every one of ``num_processes`` new processes, and wait.

    Args:
        worker: a function of a module, so that another process can import it.
        arguments: whatever can be pickled.
        num_processes: on this machine.

    Raises:
        UserError: the one that a process raised.
        Interrupted: when a signal ends this process, or one of the new ones; all of them have ended then.
    """
    with tempfile.TemporaryDirectory() as folder:
        level = logging.getLogger("se3t").getEffectiveLevel()
        setting = (num_processes, get_free_port(), folder, level, worker, arguments)
        try:
            with quiet_logger("torch.multiprocessing.spawn", logging.ERROR):  # the error below says what happened
                _run(setting, num_processes)
        except ProcessExitedException as error:
            for report in sorted(Path(folder).glob("*.json")):
                raise UserError(json.loads(report.read_text())) from None
            if (number := interruption(error.exit_code)) is not None:
                raise Interrupted(number) from None
            raise


def _run(setting: tuple[Any, ...], num_processes: int) -> None:
    context = start_processes(_enter, args=setting, nprocs=num_processes, start_method="spawn", join=False)
    assert context is not None
    try:
        while not context.join():
            pass
    except KeyboardInterrupt:
        deadline = time.monotonic() + _STOP_SECONDS
        for process in context.processes:
            process.terminate()
        for process in context.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
        raise


def gather(value: T, world_size: int) -> list[T]:
    """The value of every process, in the order of their ranks; all of them must call."""
    if world_size == 1:
        return [value]
    values: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(values, value)
    return values


@contextmanager
def quiet_logger(name: str, level: int = logging.WARNING) -> Iterator[None]:
    """Suppress messages of a logger below ``level`` within the context."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def _enter(
    rank: int, num_processes: int, port: int, folder: str, level: int, worker: Callable[..., None], arguments: Any
) -> None:
    os.environ |= {
        _LAUNCHED: "1",
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(num_processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    handler, logger = logging.StreamHandler(), logging.getLogger("se3t")
    handler.setFormatter(logging.Formatter("se3t: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level if rank == 0 else logging.ERROR)  # the first process logs for all
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    try:
        worker(*arguments)
    except UserError as error:
        (Path(folder) / f"{rank}.json").write_text(json.dumps(str(error)))
        raise SystemExit(_FAILED) from error
    if torch.distributed.is_initialized():  # its threads end here: at the end of the process they could abort it
        torch.distributed.destroy_process_group()
