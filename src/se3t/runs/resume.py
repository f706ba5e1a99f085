"""What a training finds in its folder: a finished run that it reports, or one that it may continue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from se3t.config import Config
from se3t.config.schemas import redraws_starts
from se3t.errors import UserError
from se3t.runs.folder import RunFolder
from se3t.runs.identity import first_difference
from se3t.runs.names import TIME


def finished_result(folder: RunFolder, config: Config, *, is_first: bool = True) -> dict[str, Any] | None:
    """The result of an earlier run of the same line, or None when there is something left to train.

    Args:
        folder: of the run.
        config: of this line.
        is_first: whether this is the first process of the training. The others may see a folder that the first one has
            just made, so they do not ask whether an interrupted run may be continued.

    Raises:
        UserError: when a run is there that this line neither reports nor may continue.
    """
    wanted = config.trainer.max_steps
    if not folder.result.exists():
        if is_first:
            _require_permission(folder, config, "was interrupted before it finished")
        return None
    result = folder.read_result()
    other = first_difference(asdict(config), result.get("config", {}))
    if other is not None:
        raise UserError(f"{folder}: holds another run, with another {other}; choose another folder, or remove this one")
    budget = result.get("budget", {})
    done, asked = budget.get("steps_done", 0), budget.get("max_steps", 0)
    if wanted == asked or result.get("parameters") == 0 or budget.get("stopped_early", False):
        return result
    if wanted < done:
        raise too_few_steps(folder, wanted, done)
    if budget.get("ended_by") == TIME:
        return result
    _require_permission(folder, config, f"has finished {done} of {wanted} steps")
    return None


def require_same_data(folder: RunFolder, result: Mapping[str, Any], checksum: str | None) -> None:
    """Refuse to report a finished run for data that have changed since.

    Args:
        folder: of the run.
        result: its ``result.json``.
        checksum: of the data as they are now; None where that is not known.

    Raises:
        UserError: naming both checksums; or for a record of an earlier version, which drew the starts of N-body
            trajectories once where training now draws them at every visit.
    """
    remedy = "set runs to another folder, or remove this one to train again"
    data = result.get("data", {})
    if "distinct_samples" not in data and redraws_starts(result.get("config", {}).get("data") or {}):
        raise UserError(
            f"{folder}: this run of an earlier version has finished on one start for each trajectory, and "
            f"training now draws them at every visit; {remedy}"
        )
    before = data.get("checksum")
    if None not in (before, checksum) and before != checksum:
        raise UserError(
            f"{folder}: this run has finished on data with checksum {before}, and the data now have {checksum}; "
            f"{remedy}"
        )


def too_few_steps(folder: RunFolder, wanted: int, done: int) -> UserError:
    """The error for a budget that a run has used up already."""
    return UserError(
        f"trainer.max_steps={wanted}: the run in {folder} has {done} steps already; "
        f"ask for {done} or more, or remove the folder to start again"
    )


def _require_permission(folder: RunFolder, config: Config, state: str) -> None:
    started = folder.config.exists() or folder.checkpoints.exists()
    if started and not config.resume:
        raise UserError(
            f"{folder}: this run {state}; add resume=true to continue it, or remove the folder to start again"
        )
