"""A training as a job: its command, its run folder and its state. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from se3t.config import Config
from se3t.experiments import DataSet, TaskSpec, dataset, task
from se3t.runs import RunFolder
from se3t.runs.folder import finished_result
from se3t.runs.names import CHECKPOINTS, CONFIG, RESULT

State: TypeAlias = Literal["finished", "interrupted", "new"]


@dataclass(frozen=True)
class Job:
    """One command ``se3t train <overrides>``.

    Attributes:
        overrides: as typed.
        config: what they compose.
        folder: of its run record; two jobs with the same folder are the same run.
    """

    overrides: tuple[str, ...]
    config: Config = field(compare=False, repr=False)
    folder: Path

    @property
    def command(self) -> str:
        """The command, ready to be pasted into a shell."""
        return shlex.join(["se3t", "train", *self.overrides])

    @property
    def steps(self) -> int:
        """Steps of the whole training; 0 for a model without parameters."""
        return 0 if self.config.model.name == "linear" else self.config.trainer.max_steps

    @property
    def result(self) -> Path:
        """Its ``result.json``, there or not."""
        return self.folder / RESULT

    @property
    def state(self) -> State:
        """Finished only where the result is there, of these settings, and covers ``trainer.max_steps``.

        Raises:
            UserError: for a run record of other settings, which this job may not continue.
        """
        config = replace(self.config, resume=True)
        if finished_result(RunFolder(self.folder), config) is not None:
            return "finished"
        return "interrupted" if (self.folder / CONFIG).exists() else "new"

    @property
    def saved_step(self) -> int:
        """The step that an interrupted training resumes from; files with other names are ignored."""
        names = [path.stem.removeprefix("step-") for path in (self.folder / CHECKPOINTS).glob("step-*.ckpt")]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    @property
    def data(self) -> DataSet:
        """The declaration of its data."""
        return dataset(self.config.data.name)

    @property
    def task(self) -> TaskSpec:
        """The declaration of its task."""
        return task(self.config.task.name)

    @cached_property
    def store(self) -> Path:
        """File of its prepared data, there or not."""
        return self.data.store_path(self.config.data)


def job_of(overrides: Sequence[str], config: Config) -> Job:
    """The job of overrides whose configuration is known.

    Raises:
        UserError: for settings of the data that are refused.
    """
    dataset(config.data.name).store_path(config.data)  # checks its settings
    return Job(tuple(overrides), config, RunFolder.of(config).path)
