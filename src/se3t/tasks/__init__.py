"""The tasks, by name: what a model sees, what it should predict, and how the error is measured.

A new task is one file here, one schema in ``se3t.config``, one YAML in ``conf`` and one line in ``TASKS``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from se3t.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from se3t.config import Config
    from se3t.tasks.base import Task

TASKS: dict[str, str] = {
    "nbody": "se3t.tasks.nbody:NBodyTask",
    "property": "se3t.tasks.property:PropertyTask",
    "classification": "se3t.tasks.classification:ClassificationTask",
}
"""Name of a task -> ``'module:Class'``; a module is imported when its task is asked for."""


def build_task(config: Config) -> Task:
    """The task that ``config.task.name`` names, with its data in memory.

    Raises:
        UserError: for a name that is not in ``TASKS``, data of another task, or data that are missing or damaged.
    """
    name = config.task.name
    if name not in TASKS:
        raise UserError(f"task: no task is called {name!r}; {did_you_mean(name, TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    cls: type[Task] = getattr(importlib.import_module(module), attribute)
    if config.data.name not in cls.datasets:
        known = " or ".join(f"data={word}" for word in cls.datasets)
        raise UserError(
            f"data={config.data.name}: task {name} needs {known}; name the experiment that goes with the data, such as "
            "experiment=qm9"
        )
    return cls.from_config(config)


def require_no_download(config: Config) -> None:
    """Refuse data that would have to be downloaded: whoever only measures has not asked for that.

    Raises:
        UserError: with the command that gets them.
    """
    if config.data.name == "qm9" and config.data.raw is None:
        from se3t.data.qm9.prepare import prepare_command, store_path

        if not (path := store_path(config.data)).exists():
            raise UserError(
                f"{path}: the data of this run are not here; get them first: {prepare_command(config.data)}, or say "
                "where they are: data.root=…"
            )


def recorded_checksum(config: Config) -> str | None:
    """Checksum of the data that ``config`` names as they lie prepared; None where its settings alone determine them,
    or nothing is prepared yet.

    Raises:
        UserError: for prepared data that are damaged.
    """
    if config.data.name == "nbody":
        return None
    package = "molecules" if config.data.name in ("qm9", "molecules") else "clouds"
    found: str | None = importlib.import_module(f"se3t.data.{package}.dataset").recorded_checksum(config.data)
    return found
