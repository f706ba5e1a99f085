"""``se3t train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from se3t.allocator import keep_freed_memory
from se3t.cli.hydra_app import App
from se3t.config import to_config
from se3t.signals import interrupted_by_signals


def run(words: Sequence[str]) -> int:
    """Train every job of the command line, then print one table of all that finished."""
    keep_freed_memory()
    app = App("train", list(words), _train)
    with interrupted_by_signals():
        try:
            return app.run()
        finally:
            _print_tables([job.result for job in app.jobs if job.result is not None])


def _train(settings: Any) -> Path:
    config = to_config(settings)
    from se3t.training.run import train

    return train(config)


def _print_tables(results: Sequence[Path]) -> None:
    if not results:
        return
    from se3t.cli.console import console
    from se3t.reporting.tables.build import render_tables
    from se3t.training.distributed import process_rank

    if process_rank() != 0:  # one of several processes that a launcher started: the first one speaks for all
        return
    out = console()
    for table in render_tables(results):
        out.print(table)
    for path in results:
        out.print(f"run record: {path}", soft_wrap=True, highlight=False)
