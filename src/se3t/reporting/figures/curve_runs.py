"""Runs that go into learning curves: finding them, and their metrics by step."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from se3t.config import Config
from se3t.config.overrides import spell
from se3t.errors import UserError, did_you_mean
from se3t.experiments import experiments
from se3t.reporting.reading import readable, tell_left_out
from se3t.runs import Fields, RunRecord
from se3t.runs.checks import require_file_unchanged
from se3t.runs.files import digest_of_metrics, read_metrics
from se3t.runs.names import METRICS, NO_METRICS, RESULT
from se3t.runs.record import find_results

log = logging.getLogger(__name__)


_EXPECTED = "expected the folder of a finished run, such as runs/nbody/tfn/0-1a2b3c4d"
Series = dict[int, float]
"""Values by step, ascending."""


@dataclass(frozen=True)
class Run:
    """A finished run with what it measured while it was trained.

    Attributes:
        record: what tables see of it; without the rotation of its test objects.
        best_step: of the weights that validation chose; None where unknown.
        unit: of the metric; "" where unknown.
        valid: the metric on validation.
        train: the same on training batches; nothing for metrics other than the loss.
    """

    record: RunRecord
    best_step: int | None
    unit: str
    valid: Series
    train: Series

    @property
    def folder(self) -> Path:
        """Of the run."""
        return Path(self.record.origin).parent


def find_curve_runs(
    paths: Sequence[Path], metric: str, experiment: str | None = None, preset: str | None = None
) -> list[Run]:
    """Finished runs of one experiment.

    Args:
        paths: folders of runs, or folders above some.
        metric: to read.
        experiment: runs of others are skipped; None: there must be only one.
        preset: runs of other budgets are skipped; None: all.

    Raises:
        UserError: no run is found, a folder is not a run, runs are of several experiments, or no run has the
            metric.
    """
    results = _finished(paths, experiment)
    kinds = sorted({_experiment(fields) for fields in results})
    if len(kinds) > 1:
        raise UserError(
            f"{_names(paths)}: runs of several experiments, {', '.join(kinds)}; choose one: --experiment {kinds[0]}"
        )
    if preset is not None:
        presets = sorted({spell(fields.content.get("preset")) for fields in results})
        results = [fields for fields in results if fields.content.get("preset") == preset]
        if not results:
            raise UserError(f"--preset {preset}: no finished run of it; {did_you_mean(preset, presets)}")
    lines = _measurements(results)
    known = {name for measured in lines.values() for name in _metrics(measured)}
    if metric not in known:
        raise UserError(f"--metric {metric}: no validation measured it; {did_you_mean(metric, known)}")
    return _one_of_each_training(
        [_run(fields, lines[fields.origin], metric) for fields in results if fields.origin in lines]
    )


def _measurements(runs: Sequence[Fields]) -> dict[str, list[dict[str, Any]]]:
    """What each run measured while it was trained, by record; runs with damaged files are left out."""
    measured: dict[str, list[dict[str, Any]]] = {}
    errors: list[UserError] = []
    for fields in runs:
        folder = Path(fields.origin).parent
        try:
            lines = read_metrics(folder / METRICS)
            require_file_unchanged(folder, METRICS, digest_of_metrics(lines))
        except UserError as error:
            errors.append(error)
        else:
            measured[fields.origin] = lines
    if errors and not measured:
        raise errors[0]
    for reason in errors:
        log.warning("left out: %s", reason)
    return measured


def _finished(paths: Sequence[Path], experiment: str | None) -> list[Fields]:
    given = [path / RESULT for path in paths if (path / RESULT).is_file()]
    below = [result for path in paths if path / RESULT not in given for result in find_results(path)]
    records = readable(dict.fromkeys([*given, *below]))
    tell_left_out(records)
    results = []
    for fields in records.runs:
        if experiment is None or _experiment(fields) == experiment:
            results.append(fields)
        elif Path(fields.origin) in given:
            other = _experiment(fields)
            raise UserError(
                f"{Path(fields.origin).parent}: is a run of experiment {other}, expected one of {experiment}"
            )
    if not results:
        of = f" of experiment {experiment}" if experiment else ""
        make = f"se3t train experiment={experiment or Config().experiment}"
        raise UserError(f"{_names(paths)}: no finished run{of}; {_EXPECTED}, make one: {make}")
    return results


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def _experiment(fields: Fields) -> str:
    name = fields.text("experiment")
    if name not in experiments():
        raise UserError(f"{fields.origin}: is of the unknown experiment {name!r}; leave it out")
    return name


def _metrics(lines: Sequence[Mapping[str, Any]]) -> set[str]:
    names = {name for line in lines if line.get("kind") == "valid" for name, value in line.items() if _is_number(value)}
    return names - {*NO_METRICS}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _series(lines: Sequence[Mapping[str, Any]], kind: str, metric: str) -> Series:
    """Values by step, without those that were not finite, which a record stores as null."""
    chosen = [line for line in lines if line.get("kind") == kind and _is_number(line.get(metric))]
    return dict(sorted((int(line["step"]), float(line[metric])) for line in chosen))


def _run(fields: Fields, lines: Sequence[Mapping[str, Any]], metric: str) -> Run:
    valid = _series(lines, "valid", metric)
    if not valid:
        raise UserError(
            f"{Path(fields.origin).with_name(METRICS)}: no validation measured {metric}; leave that run out"
        )
    best, units = fields.content.get("best_step"), fields.content.get("units")
    unit = units.get(metric) if isinstance(units, Mapping) else None
    return Run(
        record=experiments()[fields.text("experiment")].read(fields),
        best_step=best if _is_number(best) else None,
        unit=unit if isinstance(unit, str) else "",
        valid=valid,
        train=_series(lines, "train", metric),
    )


def _one_of_each_training(runs: Sequence[Run]) -> list[Run]:
    """One of each set of runs that differ only in the rotation of test objects: it does not affect the training."""
    kept, seen = [], dict[str, Any]()
    for run in runs:
        record = run.record.as_trained
        key = json.dumps([record.data, record.seed, record.settings], sort_keys=True, default=str)
        if run.record.data == seen.setdefault(key, run.record.data):
            kept.append(replace(run, record=record))
    return kept
