"""Settings that a file holds: those of a checkpoint or a run record. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from se3t.config.schemas import Config
from se3t.config.settings import flatten
from se3t.config.validation import to_config
from se3t.errors import UserError


def stored_config(settings: Any, origin: object) -> Config:
    """The configuration of a file. Nothing in it is resolved: an interpolation could read the environment of the
    user who opens the file.

    Args:
        settings: as the file holds them.
        origin: the file, for errors.

    Raises:
        UserError: naming the file, for settings with an interpolation, or of another version.
    """
    if not isinstance(settings, Mapping):
        raise UserError(f"{origin}: its settings are a {type(settings).__name__}; expected settings by name")
    for name, value in flatten(settings):
        if "${" in f"{name}{value}":
            raise UserError(
                f"{origin}: its setting {name} is {value!r}; expected a plain value, as an interpolation is not "
                "resolved; use a file that se3t wrote"
            )
    try:
        return to_config(settings)
    except UserError as error:
        raise UserError(f"{origin}: its settings are of another version of se3t: {error}") from error
