"""Flags of the commands that Hydra does not run: argparse, with errors in one sentence."""

from __future__ import annotations

import argparse
from typing import NoReturn

from se3t.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of leaving the program; ``--help`` is answered elsewhere.

    Args:
        command: word after ``se3t``.
        usage: how the command is written, for errors.
    """

    def __init__(self, command: str, usage: str) -> None:
        super().__init__(prog=command, usage=usage, add_help=False, allow_abbrev=False)

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
