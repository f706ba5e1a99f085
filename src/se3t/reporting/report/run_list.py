"""What the list of runs shows of each of them, as text; ``runs.html`` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from se3t.experiments.table import MISSING, Estimate
from se3t.reporting.report.runs import ON_VALIDATION, Run
from se3t.reporting.spelling import error


def notes(runs: Sequence[Run]) -> Iterator[str]:
    """What one must know to read the list."""
    if any(run.split == "valid" for run in runs):
        yield ON_VALIDATION
    if any(run.is_synthetic for run in runs):
        yield "synthetic: data made by this program, a stand-in for real scans."


def error_lines(run: Run) -> list[str]:
    """The equivariance errors of a run, each with what it is of."""
    return [f"{name} {error(Estimate(value))}".strip() for name, value in run.errors.items()] or [MISSING]


def duration(seconds: float | None) -> str:
    """A time in words."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def as_yaml(values: Mapping[str, Any], *, nested: bool) -> str:
    """Settings as they are written in ``conf``: one a line, or with what is innermost on one line."""
    style = False if nested else None
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100, default_flow_style=style)
    return text.rstrip("\n")


def metric_rows(run: Run) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The splits a run was measured on, and for each metric its number on each of them."""
    splits = {"test": run.metrics} if run.split == "test" else {}
    splits |= {"valid": run.valid}
    names = dict.fromkeys(name for values in splits.values() for name in values)
    rows = [
        (name, [f"{values[name]:.6g}" if name in values else MISSING for values in splits.values()]) for name in names
    ]
    return list(splits), rows
