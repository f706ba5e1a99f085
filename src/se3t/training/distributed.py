"""Several processes on one machine. They are started here and not from the command line, so that any program can train
on two devices.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import ProcessExitedException, start_processes

from se3t.errors import UserError

_FAILED = 2


def started_by_a_launcher() -> bool:
    """Whether this process is already one of several, started by torchrun or by :func:`launch`."""
    return "LOCAL_RANK" in os.environ


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


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
    """
    with tempfile.TemporaryDirectory() as folder:
        setting = (num_processes, _free_port(), folder, worker, arguments)
        try:
            with quiet_logger("torch.multiprocessing.spawn", logging.ERROR):  # the error below says what happened
                start_processes(_enter, args=setting, nprocs=num_processes, start_method="spawn")
        except ProcessExitedException:
            for report in sorted(Path(folder).glob("*.json")):
                raise UserError(json.loads(report.read_text())) from None
            raise


@contextmanager
def quiet_logger(name: str, level: int = logging.WARNING) -> Iterator[None]:
    """Let a logger pass nothing below ``level``, for a while."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def _enter(rank: int, num_processes: int, port: int, folder: str, worker: Callable[..., None], arguments: Any) -> None:
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(num_processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    if rank > 0:
        logging.getLogger("se3t").setLevel(logging.ERROR)  # the first process says it for all
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    try:
        worker(*arguments)
    except UserError as error:
        (Path(folder) / f"{rank}.json").write_text(json.dumps(str(error)))
        raise SystemExit(_FAILED) from error
    if torch.distributed.is_initialized():  # its threads end here: at the end of the process they could abort it
        torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
