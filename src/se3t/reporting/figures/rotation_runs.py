"""Runs of one Figure 4: finding them, and refusing those that cannot be drawn, before anything is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from se3t.config.overrides import spell
from se3t.errors import UserError
from se3t.experiments import scanobjectnn
from se3t.experiments.scanobjectnn import ClassificationRecord, Clouds, parse_record
from se3t.reporting.figures.figure4 import EXPECTED, EXPERIMENT, finished_run, line_of, not_apart
from se3t.reporting.published import system_name
from se3t.reporting.reading import finished_below
from se3t.runs import Fields

DATA = tuple(data.name for data in scanobjectnn.EXPERIMENT.datasets)
"""Data sets of Figure 4."""


def find_runs(paths: Sequence[Path], on: str | None = None) -> list[Path]:
    """Folders of finished classification runs, all on the same data; of those that differ by test rotation one.

    Args:
        paths: folders of runs, or folders above some, where runs of other experiments are skipped.
        on: one of ``DATA``; runs on other data are skipped.

    Raises:
        UserError: a folder without such a run, a run of another experiment, no run on the data, different data, runs
            that would be one line and differ in more than their seeds, or two runs that the figure cannot tell apart.
    """
    results: dict[Path, Fields] = {}
    for path in paths:
        if (path / "result.json").is_file():
            results[path] = finished_run(path)
            continue
        runs = finished_below(path, EXPERIMENT)
        if not runs:
            raise UserError(f"{path}: no result.json of experiment {EXPERIMENT} in it; {EXPECTED}")
        results |= runs
    if on is not None:
        results = {folder: run for folder, run in results.items() if run.text("data.kind") == on}
        if not results:
            raise UserError(
                f"{', '.join(map(str, paths))}: no finished run on {on}; make one: "
                f"se3t train experiment={EXPERIMENT} data={on}"
            )
    return _require_one_figure({folder: parse_record(run) for folder, run in results.items()})


def settings_hash(run: ClassificationRecord) -> str:
    """Of the settings that runs of one line share."""
    text = json.dumps(run.line, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_one_figure(runs: Mapping[Path, ClassificationRecord]) -> list[Path]:
    """The runs to measure, when they can be drawn."""
    firsts: dict[tuple[Any, ...], Path] = {}
    places: dict[tuple[Any, ...], Path] = {}
    for folder, run in runs.items():
        _require_same_data(next(iter(runs)), folder, runs)
        line = line_of(vars(run))
        _require_seeds(firsts.setdefault(line, folder), folder, runs)
        twin = places.setdefault((*line, run.seed), folder)
        if twin != folder and not _are_one_training(runs[twin], run):
            raise not_apart(str(twin), str(folder), run.seed, (run.model, run.height))
    return list(places.values())


def _require_same_data(first: Path, folder: Path, runs: Mapping[Path, ClassificationRecord]) -> None:
    data, other = runs[folder].data, runs[first].data
    if (data.checksum, data.up_axis) != (other.checksum, other.up_axis):
        choice = " or ".join(f"--on {name}" for name in DATA)
        advice = f"{choice} keeps those of one" if data.kind != other.kind else "give those of one"
        raise UserError(
            f"{folder}: is on {_in_words(data)}, but {first} on {_in_words(other)}; a figure shows runs on the same "
            f"data, {advice}"
        )


def _in_words(data: Clouds) -> str:
    return f"{data.name}, checksum {data.checksum[:8]}, vertical {data.up_axis}"


def _require_seeds(first: Path, folder: Path, runs: Mapping[Path, ClassificationRecord]) -> None:
    """Refuse two runs of one line that differ in more than their seeds."""
    run, settings, others = runs[folder], runs[folder].line, runs[first].line
    names = [name for name in dict.fromkeys([*others, *settings]) if others.get(name) != settings.get(name)]
    if names:
        differences = [f"{name} ({spell(others.get(name))} and {spell(settings.get(name))})" for name in names]
        raise UserError(
            f"{first} and {folder} would be one line of the figure, {system_name(run.model, run.height)}, but differ "
            f"in {', '.join(differences)}; give the folders of one setting, or draw each with an --out of its own"
        )


def _are_one_training(first: ClassificationRecord, second: ClassificationRecord) -> bool:
    """Whether two runs differ only in the rotation of the test objects."""
    return first.settings == second.settings and first.data.rotation != second.data.rotation
