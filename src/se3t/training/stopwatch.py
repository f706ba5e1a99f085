"""Where the time of a run is counted."""

from __future__ import annotations

import time

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
