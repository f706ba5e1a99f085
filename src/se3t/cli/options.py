"""Arguments of the commands that Hydra does not run: argparse with errors in one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from se3t.cli.help import usage_of
from se3t.errors import UserError
from se3t.files import check_writable
from se3t.runs.names import RESULT


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of leaving the program; ``--help`` is answered elsewhere.

    Args:
        command: word after ``se3t``.
        usage: how the command is written, for errors; by default as on its help page.
    """

    def __init__(self, command: str, usage: str = "") -> None:
        super().__init__(prog=command, usage=usage or usage_of(command), add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise :class:`UserError` with argparse's message.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.prog}: {message}; expected: se3t {self.usage}")


def from_zero(text: str) -> int:
    """A whole number of at least 0, as the type of an argument."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 0 on")
    return int(text)


def positive(text: str) -> int:
    """A whole number of at least 1, as the type of an argument."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1")
    return int(text)


def seeds(text: str) -> tuple[int, ...]:
    """Seeds with commas between them, each once, as the type of an argument."""
    return tuple(dict.fromkeys(map(from_zero, text.split(","))))


def output(text: str) -> Path:
    """The name of an output file, as the type of an argument."""
    if not Path(text).name:
        raise argparse.ArgumentTypeError("is empty; expected the name of a file")
    return Path(text)


def require_record(path: Path, other: str = "") -> None:
    """Refuse what holds no run records.

    Args:
        path: a folder, or the ``result.json`` of a run.
        other: what might have been meant besides, for the error.

    Raises:
        UserError: for any other file, and for a missing one.
    """
    if not path.is_dir() and (path.name != RESULT or not path.exists()):
        what = "is no run record" if path.exists() else "does not exist"
        raise UserError(f"{path}: {what}; expected a folder of runs{other} or a result.json")


def require_pictures(out: Path, *suffixes: str) -> None:
    """Refuse files of a figure that cannot be written, before all the work.

    Args:
        out: their name without suffix.
        suffixes: of further files beside the pictures.
    """
    from se3t.reporting.figures.style import SUFFIXES

    for suffix in (*SUFFIXES, *suffixes):
        check_writable(out.with_name(out.name + suffix))


def require_new(flag: str, path: Path, inputs: Sequence[Path], force: bool) -> None:
    """Check the file that a command will write, before the work.

    Args:
        flag: that names it, for errors.
        path: the file.
        inputs: files that must not be written over.
        force: whether another file may be replaced.

    Raises:
        UserError: naming the obstacle.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{flag} {path}: is a folder or a device; expected the name of a file")
    if path.exists() and any(path.samefile(file) for file in inputs if file.exists()):
        raise UserError(f"{flag} {path}: is one of the files to be read; give another name")
    if path.exists() and not force:
        raise UserError(f"{path}: exists; give another name with {flag}, or --force to replace it")
    check_writable(path)
