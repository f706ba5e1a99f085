"""Equivariance errors of all runs, for their chart and their table; ``equivariance.html`` writes both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from se3t.experiments.table import MISSING, Estimate
from se3t.reporting.published import load_published
from se3t.reporting.report.runs import Run
from se3t.reporting.spelling import error
from se3t.runs.names import FINISHED

_SMALLEST = 1e-9
"""Smaller errors are drawn at the left edge."""

_KINDS = ("x", "v", "")
"""Outputs with an error: positions, velocities, or invariant ones."""


@dataclass(frozen=True)
class _System:
    """Finished runs of one system on one kind of data, and the published errors by what they are of."""

    what: str
    name: str
    runs: tuple[Run, ...]
    published: Mapping[str, float]

    @property
    def presets(self) -> str:
        return ", ".join(sorted({run.preset or MISSING for run in self.runs}))

    def values(self, of: str) -> list[float]:
        return [run.errors[of] for run in self.runs if of in run.errors]


@dataclass(frozen=True)
class Errors:
    """What the section shows.

    Attributes:
        systems: all with an error.
        decades: powers of ten that hold all errors.
    """

    systems: Sequence[_System]
    decades: range

    @property
    def kinds(self) -> list[str]:
        """What the measured errors are of."""
        return [of for of in _KINDS if any(system.values(of) for system in self.systems)]

    @property
    def is_published(self) -> bool:
        """Whether there are errors of the paper beside the measured ones."""
        return any(system.published for system in self.systems)

    @property
    def labels(self) -> list[tuple[int, str]]:
        """Powers of ten, every second one where there are many, each as it is written."""
        shown = self.decades[:: 2 if len(self.decades) > 6 else 1]
        return [(n, "1" if n == 0 else f"{'≤' if 10.0**n <= _SMALLEST else ''}1e{n}") for n in shown]

    def place(self, value: float) -> str:
        """Position of an error in the chart."""
        return _place(value, self.decades)


def equivariance_errors(runs: Sequence[Run]) -> Errors | None:
    """The errors of finished runs beside the published ones; None where nothing was measured."""
    systems = _systems([run for run in runs if run.errors and run.state == FINISHED])
    values = [value for system in systems for run in system.runs for value in run.errors.values()]
    values += [value for system in systems for value in system.published.values()]
    return Errors(systems, _decades(values)) if systems else None


def _systems(runs: Sequence[Run]) -> list[_System]:
    published = load_published("table1")
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((_data_in_words(run), run.system), []).append(run)
    systems = []
    for (what, name), group in sorted(groups.items()):
        plain = [entry for entry in published.models.values() if entry.label == name and what == published.experiment]
        printed = {of: entry.metrics.get(f"equivariance_error_{of}") for entry in plain for of in "xv"}
        values = {of: estimate.value for of, estimate in printed.items() if estimate is not None}
        systems.append(_System(what, name, tuple(group), values))
    return systems


def _data_in_words(run: Run) -> str:
    remarks = ["synthetic"] * run.is_synthetic + ["validation"] * (run.split == "valid")
    return ", ".join([run.what, *remarks])


def _decades(values: Sequence[float]) -> range:
    """Powers of ten that hold all values, at least three."""
    logarithms = [math.log10(max(value, _SMALLEST)) for value in values]
    low, high = math.floor(min(logarithms)), math.ceil(max(logarithms))
    return range(low, max(high, low + 3) + 1)


def _place(value: float, decades: range) -> str:
    """Position of a value, in % of the width, with a margin at the edges."""
    share = (math.log10(max(value, _SMALLEST)) - decades[0]) / (decades[-1] - decades[0])
    return f"{3 + 94 * share:.2f}%"


def span(values: Sequence[float]) -> list[str]:
    """The smallest and the largest, one below the other, so that the table fits the page."""
    if not values:
        return [MISSING]
    low, high = (error(Estimate(value)) for value in (min(values), max(values)))
    return [low] if low == high else [f"{low} …", high]
