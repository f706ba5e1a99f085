"""Entry point of the command ``se3t``. Imports neither torch nor hydra: each command imports what it needs."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from se3t import __version__
from se3t.cli.failures import guarded
from se3t.cli.help import COMMANDS, command_help, main_help
from se3t.errors import UserError, did_you_mean
from se3t.signals import SECONDS, interrupted_by_signals, interruption


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after ``se3t``; by default those of this process.

    Returns:
        Exit status: 0, or 2 for what the user can fix, 75 for a run that another process is training, 1 for other
            failures, 128 + the number of a signal.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal must not cause a failure
    status = guarded(lambda: _run(arguments))
    if argv is None and interruption(status) is not None:
        _end_at_once(status)
    return status


def _end_at_once(status: int) -> None:
    """End a process without spending seconds on unloading torch."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # such as a closed pipe
            stream.flush()
    os._exit(status)


def _run(arguments: list[str]) -> int:
    with interrupted_by_signals(SECONDS):
        status = _dispatch(arguments)
        sys.stdout.flush()  # here, where a closed pipe is handled, not at the end of the process
    return status


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(main_help())
        return 0
    command, *rest = arguments
    if command in ("-V", "--version"):
        print(f"se3t {__version__}")
        return 0
    if command == "--completion":
        command = "completion"
    if command not in COMMANDS:
        raise UserError(f"{command!r} is not a command; {did_you_mean(command, COMMANDS)}; see se3t --help")
    if any(argument in ("-h", "--help") for argument in rest):
        print(command_help(command))
        return 0
    from se3t.experiments import experiments

    experiments()  # makes known what other packages add: experiments and models with their settings
    module = "evaluate" if command == "eval" else command.replace("-", "_")
    status: int = importlib.import_module(f"se3t.cli.{module}").run(rest)
    return status
