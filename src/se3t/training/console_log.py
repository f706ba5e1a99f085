"""``console.log`` of a run folder: the output of a run as plain lines. Imports no torch."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from se3t import signals
from se3t.signals import Interrupted
from se3t.training.record import command_line

CONSOLE_LOG = "console.log"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


def add_line(folder: Path, text: str) -> None:
    """Add a line to the log of a run folder, where that can be written."""
    with suppress(OSError), (folder / CONSOLE_LOG).open("a", encoding="utf-8", errors="replace") as file:
        file.write(_CONTROL.sub("", text.rstrip("\n")) + "\n")


class ConsoleLog(logging.Handler):
    """Appends lines to the file that :meth:`open` names. A full disk loses lines and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self._folder: Path | None = None
        self._waiting: list[str] = []

    def open(self, folder: Path) -> None:
        """Write the lines so far, and all later ones, to the file of a run folder."""
        self._folder, waiting = folder, self._waiting
        for text in (f"--- {datetime.now(UTC).isoformat(timespec='seconds')}  {command_line()}", *waiting):
            self.line(text)

    def line(self, text: str) -> None:
        """Add a line."""
        if self._folder is None:
            self._waiting.append(text)
        else:
            add_line(self._folder, text)

    def emit(self, entry: logging.LogRecord) -> None:
        """Add what this package logs."""
        self.line(f"se3t: {entry.getMessage()}")


@contextmanager
def console_log(is_first: bool) -> Iterator[ConsoleLog]:
    """Collect what this package logs, warnings, and the error that ends the work.

    Args:
        is_first: whether this is the first process of the training; the others collect nothing.
    """
    kept, logger, show = ConsoleLog(), logging.getLogger("se3t"), warnings.showwarning
    if not is_first:
        yield kept
        return

    def show_and_keep(*details: Any, **options: Any) -> None:
        show(*details, **options)
        kept.line(f"{details[1].__name__}: {details[0]}")

    logger.addHandler(kept)
    warnings.showwarning = show_and_keep
    try:
        with signals.last_words(kept.line):
            yield kept
    except BaseException as error:
        if not isinstance(error, Interrupted):
            kept.line(f"se3t: {type(error).__name__}: {error}")
        raise
    finally:
        warnings.showwarning = show
        logger.removeHandler(kept)
