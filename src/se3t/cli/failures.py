"""Errors as the user sees them: a sentence and an exit status, not a traceback."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable

from se3t.cli.memory import out_of_memory
from se3t.errors import BusyError, UserError
from se3t.signals import Interrupted

USER_ERROR = 2
FAILURE = 1
_MAX_LINES = 4


def guarded(action: Callable[[], int]) -> int:
    """Run ``action``; turn an error that a user can cause into a few lines on stderr and an exit status.

    Any other error is a fault of this program and keeps its traceback. ``SE3T_DEBUG=1`` keeps every traceback.
    """
    try:
        return action()
    except KeyboardInterrupt as error:
        stop = error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT)
        _tell(f"\nse3t: {stop}" if stop.number == signal.SIGINT else f"se3t: {stop}")
        return stop.status
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception as error:
        if os.environ.get("SE3T_DEBUG") == "1" or not is_expected(error):
            raise
        _tell(f"se3t: {sentence(error)}")
        return status(error)


def status(error: BaseException) -> int:
    """Exit status for an error: 2 for what the user can fix in the command, 75 for a run that another process is
    training, 1 for the rest.
    """
    if isinstance(error, BusyError):
        return error.status
    return FAILURE if isinstance(error, OSError) or not is_expected(error) else USER_ERROR


def report(error: BaseException, title: str) -> None:
    """Print an error that does not end the program; its traceback too where it is a fault of this program."""
    if os.environ.get("SE3T_DEBUG") == "1" or not is_expected(error):
        traceback.print_exception(error)
    _tell(f"se3t: {title}: {sentence(error)}")


def _tell(text: str) -> None:
    from se3t.screen import show  # which loads rich: help and --version need none of it

    show(text, file=sys.stderr, flush=True)


def is_expected(error: BaseException) -> bool:
    """Whether a user, a configuration or the machine can cause such an error."""
    return isinstance(error, ValueError | OSError) or out_of_memory(error) is not None


def sentence(error: BaseException) -> str:
    """The message of an error in at most four lines."""
    if not is_expected(error):
        return f"{type(error).__name__}: {error}"
    if not isinstance(error, UserError):
        error = out_of_memory(error) or error
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, ValueError) and not isinstance(error, UserError) and len(lines) <= _MAX_LINES:
        lines[-1] += " (SE3T_DEBUG=1 shows where)"  # of a library, or of a part that knows nothing of the command
    return "\n".join(lines if len(lines) <= _MAX_LINES else [*lines[: _MAX_LINES - 1], "… (SE3T_DEBUG=1 shows all)"])
