"""Every setting by its dotted name. Imports neither torch nor hydra."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from se3t.config.schemas import SCHEMAS, Config, EvalConfig


def setting_names() -> list[str]:
    """Every setting of ``se3t train`` by its dotted name, those of all models and data sets included."""
    return [name for name, _ in _settings(Config)]


def text_settings() -> frozenset[str]:
    """The settings of ``se3t train`` and ``se3t eval`` that are any text, such as folders."""
    names = [name for name, is_text in [*_settings(Config), *_settings(EvalConfig)] if is_text]
    return frozenset(names) - {"experiment", "preset"}  # which choose files


def _settings(schema: type) -> Iterator[tuple[str, bool]]:
    """Every setting of a schema by its dotted name, and whether it is any text."""
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        hint = hints[item.name]
        parts: list[Any] = [hint] if dataclasses.is_dataclass(hint) else []
        parts = list(SCHEMAS[item.name].values()) if hint is Any else parts
        for part in parts:
            yield from ((f"{item.name}.{name}", is_text) for name, is_text in _settings(part))
        if not parts:
            yield item.name, hint in (str, str | None) and "choices" not in item.metadata


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by dotted name."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
