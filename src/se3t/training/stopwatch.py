"""Where the time of a run is counted, and what of its budget has ended it."""

from __future__ import annotations

import time

from se3t.config import TrainerConfig
from se3t.runs import EARLY_STOPPING, STEPS, TIME
from se3t.training.checkpoint import RunState


class Stopwatch:
    """Counts the seconds of a run into its state, training apart from the rest."""

    def __init__(self, state: RunState) -> None:
        self.state, self._mark = state, time.perf_counter()

    def start(self) -> None:
        """Forget the time since the last lap."""
        self._mark = time.perf_counter()

    def lap(self, training: bool) -> None:
        """Add the time since the last lap."""
        now = time.perf_counter()
        self.state.seconds += now - self._mark
        self.state.training_seconds += (now - self._mark) if training else 0.0
        self._mark = now


def ended_by(state: RunState, step: int, budget: TrainerConfig) -> str | None:
    """What has ended a training: "steps", "time" or "early stopping"; None where something is left of all of them.

    Args:
        state: of the run.
        step: steps taken.
        budget: ``max_steps`` and ``max_time`` are its limits.
    """
    if state.stopped_early:
        return EARLY_STOPPING
    if step >= budget.max_steps:
        return STEPS
    return TIME if state.training_seconds >= budget.max_seconds else None
