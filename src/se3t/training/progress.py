"""Progress: a bar in a terminal; elsewhere, and in the log of the run, a line at intervals and for every evaluation."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

from se3t.screen import bar_columns, fixed, say
from se3t.screen import console as terminal
from se3t.training.pace import duration, forecast
from se3t.training.run import Run

REFRESH_SECONDS = 0.2
LINE_SECONDS, MOST_SECONDS = 30.0, 600.0
"""Between two lines: at first, and after hours; between that a tenth of the time so far."""
FIRST_SECONDS = 5.0
"""How long steps are measured before the end is forecast."""

log = logging.getLogger(__name__)


class ProgressLine(Callback):
    """Shows the progress of a run and its latest measurements.

    Args:
        run: whose losses are shown; every line that is shown where there is no bar is kept.
        console: where to draw; standard error when None.
    """

    def __init__(self, run: Run, console: Console | None = None) -> None:
        self.run, self.config, self.state = run, run.config, run.state
        self.title, self.max_steps = f"{run.config.experiment}/{run.config.model.name}", run.config.trainer.max_steps
        self.max_seconds = run.config.trainer.max_seconds
        self.console = console or terminal(stderr=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._begin, self._drawn, self._printed, self._loss = (0, 0.0), 0.0, 0.0, math.nan
        self._trained = 0.0  # training seconds at the beginning
        self._previous: float | None = None  # end of the step before, None at the first one and after an evaluation
        self._steps, self._seconds, self._is_forecast = 0, 0.0, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar, in a terminal."""
        self._begin, self._trained = (trainer.global_step, time.perf_counter()), self.state.training_seconds
        self._printed = time.perf_counter()
        if not (self.console.is_terminal and self.config.trainer.progress):
            return
        times = TimeRemainingColumn(compact=True, table_column=fixed())
        columns = bar_columns(self.console, MofNCompleteColumn(table_column=fixed()), times)
        self._bar = Progress(*columns, console=self.console, auto_refresh=False)
        self._bar.start()
        self._task = self._bar.add_task(self.title, total=self.max_steps, completed=trainer.global_step, note="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the bar a few times a second; print a line at intervals."""
        now = time.perf_counter()
        if self._bar is not None and now - self._drawn > REFRESH_SECONDS:
            self._drawn = now
            step = trainer.global_step
            self._bar.update(self._task, completed=step, total=self._end(step), refresh=True)
        if not self._is_forecast:
            self._forecast(trainer.global_step, now)
        if now - self._printed > min(max(LINE_SECONDS, (now - self._begin[1]) / 10), MOST_SECONDS):
            self._say(self._pace(trainer.global_step, now))

    def _forecast(self, step: int, now: float) -> None:
        """How long it takes, once: from the second step on, without the time of evaluations."""
        if self._previous is not None:
            self._steps, self._seconds = self._steps + 1, self._seconds + now - self._previous
        self._previous = now
        if self._steps and self._seconds > FIRST_SECONDS:
            self._is_forecast = True
            log.info("%s", forecast(self.config, self._end(step) - step, self._seconds / self._steps))

    def _end(self, step: int) -> int:
        """The last step; where ``trainer.max_time`` will end the training, by the pace so far."""
        steps, seconds = step - self._begin[0], self.state.training_seconds - self._trained
        if math.isinf(self.max_seconds) or steps == 0 or seconds <= 0:
            return self.max_steps
        left = max(0.0, self.max_seconds - self.state.training_seconds)
        return min(self.max_steps, step + int(left * steps / seconds))

    def _place(self, step: int) -> str:
        end = self._end(step)
        return f"step {step}/{'' if end == self.max_steps else '~'}{end}"

    def _pace(self, step: int, now: float) -> str:
        """Loss, rate and what is left."""
        if self.state.loss_count:
            self._loss = self.state.loss_sum / self.state.loss_count
        rate = (step - self._begin[0]) / max(now - self._begin[1], 1e-9)
        left = f"  {duration((self._end(step) - step) / rate)} left" if rate else ""
        loss = "" if math.isnan(self._loss) else f"loss {self._loss:.3g}  "
        return f"{self._place(step)}  {loss}{rate:.3g} steps/s{left}"

    def _say(self, text: str) -> None:
        self._printed = time.perf_counter()
        self.run.keep_line(f"{self.title}  {text}")
        if self._bar is None and self.config.trainer.progress:
            say(self.console, f"{self.title}  {text}")

    def show(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Show what was measured on the validation split."""
        if kind == "train":
            self._loss = values["loss"]
        if kind != "valid":
            return
        self._previous = None  # evaluations are no steps
        note = describe(values, self.run.task.headline, self.run.task.units)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, note=note, refresh=True)
        self._say(f"{self._place(step)}  {note}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar on the screen."""
        if self._bar is not None:
            step = trainer.global_step
            self._bar.update(self._task, completed=step, total=self._end(step), refresh=True)
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the terminal."""
        self.close()

    def close(self) -> None:
        """Restore the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


_WORDS = {"relative_mse_x": "x/linear", "relative_mse_v": "v/linear", "steps_per_second": "steps/s"}


def describe(values: Mapping[str, Any], headline: Sequence[str] = (), units: Mapping[str, str] | None = None) -> str:
    """Epoch, loss, the headline metrics with their units, and speed, in a few parts."""
    parts = [f"epoch {values['epoch']:.1f}"] if "epoch" in values else []
    for name in ("loss", *headline, "steps_per_second"):
        if name in values:
            unit = (units or {}).get(name, "1") if name in headline else "1"
            parts.append(f"{_WORDS.get(name, name)} {values[name]:.3g}{'' if unit == '1' else f' {unit}'}")
    return "  ".join(parts)
