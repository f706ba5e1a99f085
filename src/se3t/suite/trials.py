"""What grids and searches share: the record of their trials, and the objective of a run. Imports no torch."""

from __future__ import annotations

from typing import Any

from se3t.config.overrides import spell
from se3t.reporting.sweep_record import SweepRecord, objective_of
from se3t.runs import RunFolder
from se3t.suite.jobs import Job
from se3t.suite.spaces import Interval, Objective, Space
from se3t.suite.specification import Parameters, Specification


def blank_record(spec: Specification) -> SweepRecord:
    """A sweep without trials."""
    sweep = spec.sweep
    return SweepRecord(
        title=spec.title,
        description=sweep.description,
        experiment=spec.experiment,
        search=sweep.search,
        metric=sweep.objective.metric,
        direction=sweep.objective.direction,
        parameters={name: space_settings(space) for name, space in sweep.parameters.items()},
        seeds=list(sweep.seeds),
        asked=sweep.trials,
        words=list(spec.overrides),
    )


def space_settings(space: Space) -> dict[str, Any]:
    """A space as the record of a sweep keeps it."""
    if not isinstance(space, Interval):
        return {"values": list(space.values), "log": space.log}
    return {"low": space.low, "high": space.high, "log": space.log} | ({"step": space.step} if space.step else {})


def words_of(parameters: Parameters) -> str:
    """Parameters in one line."""
    return " ".join(f"{name}={spell(value)}" for name, value in parameters.items())


def value_of(job: Job, objective: Objective) -> float:
    """The objective of a finished job.

    Raises:
        UserError: when it has none.
    """
    return objective_of(RunFolder(job.folder).read_result(), objective.metric, job.result)
