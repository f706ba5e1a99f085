"""The progress bar: one line on standard error; where that is no terminal, one line an evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

REFRESH_SECONDS = 0.2


class ProgressLine(Callback):
    """Shows how far a run is and what was measured last.

    Args:
        title: what is trained.
        max_steps: length of the bar.
        console: where to draw; standard error when None.
    """

    def __init__(self, title: str, max_steps: int, console: Console | None = None) -> None:
        self.title, self.max_steps = title, max_steps
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._begin, self._drawn = (0, 0.0), 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar, in a terminal."""
        self._begin = (trainer.global_step, time.perf_counter())
        if not self.console.is_terminal:
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=self.console, auto_refresh=False)
        self._bar.start()
        self._task = self._bar.add_task(self.title, total=self.max_steps, completed=trainer.global_step, note="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, a few times a second."""
        if self._bar is not None and time.perf_counter() - self._drawn > REFRESH_SECONDS:
            self._drawn = time.perf_counter()
            self._bar.update(self._task, completed=trainer.global_step, refresh=True)

    def show(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Show what was measured on the validation split."""
        if kind != "valid":
            return
        note = describe(values)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, note=note, refresh=True)
        else:
            self.console.print(f"{self.title}  step {step}/{self.max_steps}  {note}", highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar on the screen."""
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, refresh=True)
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self.close()

    def close(self) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe(values: Mapping[str, Any]) -> str:
    """Loss, errors relative to the trivial baseline and speed, in a few words."""
    words = {"loss": "loss", "relative_mse_x": "x/linear", "relative_mse_v": "v/linear", "steps_per_second": "steps/s"}
    return "  ".join(f"{word} {values[name]:.3g}" for name, word in words.items() if name in values)
