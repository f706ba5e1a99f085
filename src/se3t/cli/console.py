"""Where tables are printed."""

from __future__ import annotations

from rich.console import Console

_WIDTH = 140


def console() -> Console:
    """The terminal at its own width; a file or a pipe, which has none, wide enough for a table."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=_WIDTH)
