"""Experiments: each file here declares one, as ``EXPERIMENT``. Imports no torch."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from se3t.errors import UserError, did_you_mean
from se3t.experiments.base import DataSet, Experiment, Lazy, Metric, TaskSpec

__all__ = [
    "DataSet",
    "Experiment",
    "Lazy",
    "Metric",
    "TaskSpec",
    "dataset",
    "experiment",
    "experiments",
    "task",
]


@cache
def experiments() -> dict[str, Experiment]:
    """All experiments by name."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    declared = [found for module in modules if isinstance(found := vars(module).get("EXPERIMENT"), Experiment)]
    return {found.name: found for found in declared}


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        UserError: there is none.
    """
    if name not in experiments():
        raise UserError(f"experiment={name}: unknown; {did_you_mean(name, experiments())}")
    return experiments()[name]


@cache
def datasets() -> dict[str, DataSet]:
    """All data sets by name."""
    return {data.name: data for entry in experiments().values() for data in entry.datasets}


def dataset(name: str) -> DataSet:
    """The data set of that name.

    Raises:
        UserError: there is none.
    """
    if name not in datasets():
        raise UserError(f"data={name}: unknown; {did_you_mean(name, datasets())}")
    return datasets()[name]


@cache
def tasks() -> dict[str, TaskSpec]:
    """All tasks by name."""
    return {entry.task.name: entry.task for entry in experiments().values()}


def task(name: str) -> TaskSpec:
    """The task of that name.

    Raises:
        UserError: there is none.
    """
    if name not in tasks():
        raise UserError(f"task: no task is called {name!r}; {did_you_mean(name, tasks())}")
    return tasks()[name]
