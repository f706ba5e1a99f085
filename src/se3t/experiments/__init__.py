"""Experiments: each file here declares one, as ``EXPERIMENT``. Imports no torch."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from se3t.config import extend
from se3t.errors import UserError, did_you_mean
from se3t.experiments.base import DataSet as DataSet
from se3t.experiments.base import Experiment as Experiment
from se3t.experiments.base import Lazy as Lazy
from se3t.experiments.base import Metric as Metric
from se3t.experiments.base import TaskSpec as TaskSpec
from se3t.experiments.table import TableSpec

log = logging.getLogger(__name__)

EXPERIMENTS, MODELS = "se3t.experiments", "se3t.models"
"""Groups of entry points: of an :class:`Experiment`; of a model's schema, whose ``implementation`` names its class."""


@cache
def experiments() -> dict[str, Experiment]:
    """All experiments by name: those that a file here declares as ``EXPERIMENT``, then those of installed packages.

    Their settings and files of ``conf`` become known to the configuration, and so do models of installed packages. What
    an installed package declares wrongly is left out with a warning.
    """
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    declared = [entry for module in modules if isinstance(entry := vars(module).get("EXPERIMENT"), Experiment)]
    by_name: dict[str, Experiment] = {}

    def add(entry: Experiment) -> None:
        _by_name("experiment", (*by_name.values(), entry))
        _by_name("data", (data for other in (*by_name.values(), entry) for data in other.datasets))
        _by_name("task", (other.task for other in (*by_name.values(), entry)))
        _by_name("table", (spec for other in (*by_name.values(), entry) for spec in other.tables))
        schemas = {data.name: data.schema for data in entry.datasets}
        extend(entry.conf, {"data": schemas, "task": {entry.task.name: entry.task.schema}})
        by_name[entry.name] = entry

    for entry in declared:
        add(entry)
    add_installed(installed_experiments(), add)
    add_installed(installed_models(), lambda schema: extend(schemas={"model": {schema().name: schema}}))
    return by_name


_Named = TypeVar("_Named", Experiment, DataSet, TaskSpec, TableSpec)


def _by_name(kind: str, declared: Iterable[_Named]) -> dict[str, _Named]:
    """Declarations by name.

    Raises:
        UserError: two of them have the same name.
    """
    by_name: dict[str, _Named] = {}
    for entry in declared:
        if by_name.setdefault(entry.name, entry) is not entry:
            raise UserError(f"{kind} {entry.name}: another {kind} has this name; choose another one")
    return by_name


def _find(kind: str, name: str, declared: Mapping[str, _Named]) -> _Named:
    if name not in declared:
        raise UserError(f"{kind}={name}: unknown; {did_you_mean(name, declared)}")
    return declared[name]


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        UserError: there is none.
    """
    return _find("experiment", name, experiments())


@cache
def tables() -> dict[str, TableSpec]:
    """All tables by name, in their order."""
    declared = [spec for entry in experiments().values() for spec in entry.tables]
    return _by_name("table", sorted(declared, key=lambda spec: spec.place))


def experiments_of(spec: TableSpec) -> list[str]:
    """Names of the experiments whose runs a table shows, first the one that trains what it lacks."""
    names = [entry.name for entry in experiments().values() if spec in entry.tables]
    return sorted(names, key=lambda name: name != spec.experiment)


@cache
def datasets() -> dict[str, DataSet]:
    """All data sets by name."""
    return _by_name("data", (data for entry in experiments().values() for data in entry.datasets))


def dataset(name: str) -> DataSet:
    """The data set of that name.

    Raises:
        UserError: there is none.
    """
    return _find("data", name, datasets())


@cache
def tasks() -> dict[str, TaskSpec]:
    """All tasks by name."""
    return _by_name("task", (entry.task for entry in experiments().values()))


def task(name: str) -> TaskSpec:
    """The task of that name.

    Raises:
        UserError: there is none.
    """
    return _find("task", name, tasks())


# --- other installed packages -----------------------------------------------------------------------------------------


def installed_experiments() -> Iterator[tuple[str, Callable[[], Any]]]:
    """What the entry points of ``se3t.experiments`` declare: where each is declared, and a function that loads it."""
    return _entries(EXPERIMENTS, Experiment, "an Experiment")


def installed_models() -> Iterator[tuple[str, Callable[[], Any]]]:
    """The same for the schemas of models that the entry points of ``se3t.models`` name."""
    return _entries(MODELS, type, "a dataclass of settings")


def add_installed(entries: Iterator[tuple[str, Callable[[], Any]]], add: Callable[[Any], None]) -> None:
    """Add what other packages declare; what cannot be loaded or added is left out, with a warning that names it."""
    for where, load in entries:
        try:
            add(load())
        except Exception as error:  # of another package: it must not break anything else
            log.warning("%s is left out: %s", where, error)


def _entries(group: str, kind: type, expected: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    from importlib.metadata import entry_points  # which takes a while to load

    for entry in entry_points(group=group):

        def load(entry: Any = entry) -> Any:
            declared = entry.load()
            if not isinstance(declared, kind):
                raise TypeError(f"it is {type(declared).__name__}, expected {expected}")
            return declared

        package = "" if entry.dist is None else f" of {entry.dist.name}"
        yield f"{group} {entry.name}{package}", load
