"""A progress bar on standard error. Imports no torch; rich is imported when a bar is shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS_BETWEEN = 0.1  # two drawings


@contextmanager
def progress_bar(
    show: bool, text: str, total: int | None, *, in_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show the progress of a piece of work.

    Args:
        show: whether to show anything.
        text: what the work is.
        total: its amount, or None where it is not known.
        in_bytes: the amount is in bytes; show size and speed as well.

    Yields:
        A function to call with the amount done so far.
    """
    if not show:
        yield lambda done: None
        return
    from rich.progress import (
        DownloadColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from se3t.screen import bar_columns, console, fixed

    screen = console(stderr=True)
    columns: list[ProgressColumn] = [TextColumn("{task.percentage:>3.0f} %", table_column=fixed())]
    columns += [DownloadColumn(table_column=fixed()), TransferSpeedColumn(table_column=fixed())] if in_bytes else []
    columns += [TimeElapsedColumn(table_column=fixed()), TimeRemainingColumn(table_column=fixed())]
    # Drawn by the working thread: a drawing thread could receive Ctrl-C while the work defers it.
    with Progress(*bar_columns(screen, *columns), console=screen, auto_refresh=False) as bar:
        task = bar.add_task(text, total=total)
        drawn = 0.0

        def advance(done: int) -> None:
            nonlocal drawn
            bar.update(task, completed=done)
            if time.monotonic() - drawn > _SECONDS_BETWEEN:
                bar.refresh()
                drawn = time.monotonic()

        yield advance
