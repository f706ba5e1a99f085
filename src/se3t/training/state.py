"""What a run carries from step to step beside weights, optimiser and random numbers, the time it took among it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from se3t.config import TrainerConfig
from se3t.runs.names import EARLY_STOPPING, STEPS, TIME


@dataclass
class RunState:
    """Part of every checkpoint to continue from, as plain values.

    Attributes:
        best: ``step``, ``metrics``, ``state_dict``, ``facts`` (and ``current_model_state``, the raw weights, with
            averaging) of the lowest validation loss so far.
        best_loss: that loss.
        evaluations_without_improvement: since then.
        stopped_early: whether early stopping has ended the run.
        evaluation_due: whether a signal cut short the evaluation that belongs to this step.
        loss_sum: sum of the training losses since the last line of the record, in double precision.
        loss_count: number of them.
        seconds: time spent, all together.
        training_seconds: time spent without evaluations and checkpoints.
    """

    best: dict[str, Any] | None = None
    best_loss: float = float("inf")
    evaluations_without_improvement: int = 0
    stopped_early: bool = False
    evaluation_due: bool = False
    loss_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0
    training_seconds: float = 0.0

    def steps_per_second(self, step: int) -> float:
        """Mean over all ``step`` steps of the training; 0 before the first one."""
        return step / self.training_seconds if self.training_seconds else 0.0

    def ended_by(self, step: int, budget: TrainerConfig) -> str | None:
        """What has ended a training: "steps", "time" or "early stopping"; None while it may continue.

        Args:
            step: steps taken.
            budget: ``max_steps`` and ``max_time`` are its limits.
        """
        if self.stopped_early:
            return EARLY_STOPPING
        if step >= budget.max_steps:
            return STEPS
        return TIME if self.training_seconds >= budget.max_seconds else None


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
