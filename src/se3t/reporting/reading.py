"""Reading many run records: damaged or changed ones are left out and reported."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from se3t.errors import UserError
from se3t.experiments import experiments
from se3t.runs import Fields
from se3t.runs.checks import require_kinds, require_unchanged
from se3t.runs.files import digest_of
from se3t.runs.names import RESULT
from se3t.runs.record import find_results

log = logging.getLogger(__name__)

Result: TypeAlias = Path | str | Mapping[str, Any]
"""A result: its file, or its content."""


@dataclass(frozen=True)
class LeftOut:
    """A record that was left out.

    Attributes:
        origin: its file.
        reason: a sentence that names the file.
        experiment: of the run; None where it is not known.
    """

    origin: str
    reason: str
    experiment: str | None


@dataclass(frozen=True)
class Readable:
    """Records of finished runs, and what was left out."""

    runs: list[Fields]
    left_out: list[LeftOut]


def readable(results: Iterable[Result]) -> Readable:
    """The records of finished runs that are unchanged since.

    Args:
        results: files, or contents; contents of unfinished runs are skipped.

    Raises:
        UserError: when records are left out and none remains: the reason of the first.
    """
    runs: list[Fields] = []
    left_out: list[LeftOut] = []
    reasons: list[UserError] = []
    seen: dict[str, str] = {}
    for index, result in enumerate(results):
        fields = Fields({}, str(result))
        try:
            fields = Fields(result, f"result {index}") if isinstance(result, Mapping) else Fields.read(Path(result))
            if isinstance(result, Mapping) and fields.content.get("status") != "finished":
                continue
            require_whole(fields)
            if not isinstance(result, Mapping):
                _require_no_copy(fields, seen)
            runs.append(fields)
        except UserError as error:
            reasons.append(error)
            experiment = fields.content.get("experiment")
            is_known = fields.is_checked and isinstance(experiment, str) and experiment in experiments()
            known = experiment if is_known else None
            left_out.append(LeftOut(fields.origin, str(error), known))
    if reasons and not runs:
        raise reasons[0]
    return Readable(runs, left_out)


def _require_no_copy(fields: Fields, seen: dict[str, str]) -> None:
    first = seen.setdefault(digest_of(fields.content), fields.origin)
    if first != fields.origin:
        raise UserError(f"{fields.origin}: is a copy of {first}, which would count twice; remove one of them")


def require_whole(fields: Fields) -> None:
    """Refuse a record of an unfinished run, one that was changed, and one with an impossible number.

    Raises:
        UserError: naming file and field.
    """
    status = fields.content.get("status")
    if status != "finished":
        raise UserError(f"{fields.origin}: the run is not finished, its field 'status' is {status!r}; run it again")
    require_unchanged(fields)
    require_kinds(fields)
    experiment = experiments().get(fields.text("experiment"))
    if experiment is not None:
        experiment.read(fields)


def tell_left_out(records: Readable) -> None:
    """Log what was left out."""
    for record in records.left_out:
        log.warning("left out: %s", record.reason)


# --- folders given for a figure ---------------------------------------------------------------------------------------


def finished_fields(folder: Path, experiment: str, expected: str) -> Fields:
    """The result of a finished run.

    Args:
        folder: of the run.
        experiment: that it must be of.
        expected: what to do about a folder without a finished run, for errors.

    Raises:
        UserError: there is no such result, it was changed, or it is of another experiment.
    """
    path = folder / RESULT
    if not path.is_file():
        raise UserError(f"{folder}: no {RESULT} in it; {expected}")
    fields = Fields.read(path)
    require_whole(fields)
    other = fields.text("experiment")
    if other != experiment:
        raise UserError(f"{folder}: is a run of experiment {other}, expected one of {experiment}")
    return fields


def finished_below(folder: Path, experiment: str) -> dict[Path, Fields]:
    """Results of the finished runs of an experiment below a folder, by folder of the run; damaged or changed ones are
    left out and logged.

    Raises:
        UserError: naming the file, when none of the records can be used.
    """
    records = readable(find_results(folder))
    tell_left_out(records)
    return {Path(run.origin).parent: run for run in records.runs if run.content.get("experiment") == experiment}
