"""All runs below some folders, finished or not; a damaged one is listed as such and does not stop the others."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from se3t.config.fields import time_in_words
from se3t.experiments import Metric, experiments, molecules
from se3t.experiments.table import MISSING, Estimate
from se3t.reporting.published import system_name
from se3t.reporting.reading import require_whole
from se3t.reporting.spelling import number
from se3t.reporting.tables.ablations import ABLATIONS
from se3t.runs import FINISHED, TIME, RunSummary, text_at, value_at

VALIDATION = "ᵛ"
"""Sign of a number that was measured on validation."""
ON_VALIDATION = f"{VALIDATION} on validation: of an unfinished run the last there is, or of data without a test split."
ERROR = "equivariance_error"


class Run(RunSummary):
    """One run folder, in the words of lists and pages."""

    @property
    def height(self) -> bool:
        """Whether heights are part of the input ("+z")."""
        return value_at(self.config, "task.height") is True

    @property
    def system(self) -> str:
        """What the paper calls the model, with what changes it."""
        ablation = text_at(self.config, "model.ablation")
        name = _system_name(self.model, self.height)
        return name if ablation in ("none", "") else f"{name}, {ABLATIONS.get(ablation, (ablation,))[0].lower()}"

    @property
    def what(self) -> str:
        """The experiment, with the property that is learned where there are several; own molecules by file and unit."""
        if text_at(self.config, "data.name") == molecules.DATA.name:
            unit, file = text_at(self.data, "unit"), Path(text_at(self.config, "data.raw")).stem
            name = text_at(self.data, "label") or text_at(self.config, "task.column")
            words = [*filter(None, (file, name)), *[unit] * (unit not in ("", "1"))]
            return f"molecules: {', '.join(words)}"
        return f"{self.experiment} {text_at(self.config, 'task.target')}".rstrip()

    @property
    def progress(self) -> str:
        """The steps that were taken, and the budget where they are not all of it."""
        done, asked = self.steps
        if done is None or self.parameters == 0:
            return MISSING
        if self.ended_by == TIME:
            return f"{done:,} in {time_in_words(self.max_time)}"
        limit = f" or {time_in_words(self.max_time)}" if self.max_time and self.state != FINISHED else ""
        return f"{done:,}" if asked in (None, done) else f"{done:,} of {asked:,}{limit}"

    @property
    def headline(self) -> list[tuple[Metric, float]]:
        """What the run is judged by, as it is shown."""
        if self.experiment not in experiments():
            return []
        task = experiments()[self.experiment].task
        return [
            (metric, metric.factor * self.metrics[metric.name])
            for metric in map(task.metric, task.headline)
            if metric.name in self.metrics
        ]

    @property
    def results(self) -> list[str]:
        """What the run is judged by: name, number with the sign of validation, and the unit that the data decide."""
        mark = VALIDATION if self.split == "valid" else ""
        found = []
        for metric, value in self.headline:
            unit = "" if metric.unit else self.units.get(metric.name, "")
            found.append(f"{metric.heading} {number(Estimate(value), mark=mark)} {unit}".rstrip())
        return found

    @property
    def errors(self) -> dict[str, float]:
        """Equivariance errors by what they are of: x, v, or "" where there is only one."""
        return {
            name.removeprefix(ERROR).lstrip("_"): value
            for name, value in self.metrics.items()
            if name.startswith(ERROR)
        }


_system_name = cache(system_name)  # the same for many runs, and read from three files


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Runs in some folders and below, sorted by folder; a file stands for its folder."""
    return Run.find(paths, require_whole)


def read_run(folder: Path) -> Run:
    """One run, as far as its files can be read."""
    return Run.read(folder, require_whole)
