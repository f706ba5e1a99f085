"""Settings that a file holds: those of a checkpoint or a run record. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from se3t.config import Config, to_config
from se3t.errors import UserError

_INTERPOLATION = "${"


def stored_config(settings: Any, origin: object) -> Config:
    """The configuration of a file. Nothing in it is resolved: an interpolation could read the environment of whoever
    opens the file.

    Args:
        settings: as the file holds them.
        origin: the file, for errors.

    Raises:
        UserError: naming the file, for settings with an interpolation, or of another version.
    """
    if not isinstance(settings, Mapping):
        raise UserError(f"{origin}: its settings are a {type(settings).__name__}; expected settings by name")
    for name, value in _texts(settings):
        if _INTERPOLATION in value:
            raise UserError(
                f"{origin}: its setting {name} is {value!r}; expected a plain value, as an interpolation is not "
                "resolved; use a file that se3t wrote"
            )
    try:
        return to_config(settings)
    except UserError as error:
        raise UserError(f"{origin}: its settings are of another version of se3t: {error}") from error


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All texts in nested settings, the names included, with their dotted names."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            path = f"{name}.{key}" if name else str(key)
            yield path, str(key)
            yield from _texts(inner, path)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{name}.{index}")
