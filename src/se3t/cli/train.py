"""``se3t train``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from se3t.cli.hydra_app import App
from se3t.config import to_config

if TYPE_CHECKING:
    from se3t.training.run import Outcome


def run(words: Sequence[str]) -> int:
    """Train every job of the command line, then print one table of all that finished."""
    app = App("train", list(words), _train)
    try:
        return app.run()
    finally:
        outcomes = [job.result for job in app.jobs if job.result is not None]
        _print_tables([outcome for outcome in outcomes if outcome.result])


def _train(settings: Any) -> Outcome:
    config = to_config(settings)
    from se3t.training.run import train

    return train(config)


def _print_tables(outcomes: Sequence[Outcome]) -> None:
    if not outcomes:  # also in all but the first of several processes
        return
    from se3t.cli.console import console

    from se3t.reporting.table import render_tables

    out = console()
    for table in render_tables([outcome.result for outcome in outcomes]):
        out.print(table)
    for outcome in outcomes:
        state = "run record" if outcome.trained else "finished before, reported from"
        out.print(f"{state}: {outcome.folder / 'result.json'}", soft_wrap=True, highlight=False)
