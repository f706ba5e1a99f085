"""The progress bar: one line on standard error; where that is no terminal, one line an evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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
        headline: metrics of the task to show beside the loss.
        units: their units.
    """

    def __init__(
        self,
        title: str,
        max_steps: int,
        console: Console | None = None,
        headline: Sequence[str] = (),
        units: Mapping[str, str] | None = None,
    ) -> None:
        self.title, self.max_steps, self.headline, self.units = title, max_steps, headline, units or {}
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
        note = describe(values, self.headline, self.units)
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


_WORDS = {"relative_mse_x": "x/linear", "relative_mse_v": "v/linear", "steps_per_second": "steps/s"}


def describe(values: Mapping[str, Any], headline: Sequence[str] = (), units: Mapping[str, str] | None = None) -> str:
    """Epoch, loss, the headline metrics with their units, and speed, in a few words."""
    words = [f"epoch {values['epoch']:.1f}"] if "epoch" in values else []
    for name in ("loss", *headline, "steps_per_second"):
        if name in values:
            unit = (units or {}).get(name, "1") if name in headline else "1"
            words.append(f"{_WORDS.get(name, name)} {values[name]:.3g}{'' if unit == '1' else f' {unit}'}")
    return "  ".join(words)
