"""Prepared data that jobs share: where they lie, and the command that makes them. Imports no torch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from se3t.experiments import dataset


def store_path(data: Any) -> Path:
    """File of the prepared data that a configuration's ``data`` names, there or not.

    Raises:
        UserError: for settings that no data can have.
    """
    return dataset(data.name).store_path(data)


def prepare_words(data: Any) -> list[str]:
    """The words behind ``se3t`` that prepare it."""
    return shlex.split(dataset(data.name).prepare_command(data))[1:]


def split_sizes(data: Any) -> dict[str, int]:
    """Samples of each split as far as settings and published sizes tell; prepared data may hold fewer."""
    return dataset(data.name).split_sizes(data)


def obstacle(data: Any) -> str | None:
    """Why data cannot be prepared, as far as a look at the files tells; None where they are, or nothing is in the
    way.
    """
    return dataset(data.name).obstacle(data)
