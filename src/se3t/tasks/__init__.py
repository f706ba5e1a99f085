"""The tasks: inputs and targets of a model, and the measures of its error.

A new task is one file; its experiment (:mod:`se3t.experiments`) declares its settings and metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from se3t.config import choices
from se3t.errors import UserError
from se3t.experiments import dataset, experiments, task

if TYPE_CHECKING:
    from se3t.config import Config
    from se3t.tasks.base import Task


def build_task(config: Config) -> Task:
    """The task that ``config.task.name`` names, with its data in memory.

    Raises:
        UserError: for an unknown name, data of another task, or data that are missing or damaged.
    """
    spec = task(config.task.name)
    known = choices("experiment")
    users = [entry for entry in experiments().values() if entry.task is spec]
    users.sort(key=lambda entry: entry.name not in known)  # own molecules are data of another experiment
    names = [data.name for entry in users for data in entry.datasets]
    if config.data.name not in names:
        needed = " or ".join(f"data={name}" for name in names)
        raise UserError(
            f"data={config.data.name}: task {spec.name} needs {needed}; name the experiment that goes with the data, "
            f"such as experiment={users[0].name}"
        )
    built: Task = spec.implementation.load().from_config(config)
    return built


def require_no_download(config: Config) -> None:
    """Refuse data that would have to be downloaded, for commands that only measure.

    Raises:
        UserError: with the command that downloads them.
    """
    data = dataset(config.data.name)
    if data.is_downloaded(config.data) and not (path := data.store_path(config.data)).exists():
        raise UserError(
            f"{path}: the data of this run are not here; get them first: {data.prepare_command(config.data)}, or say "
            "where they are: data.root=…"
        )
