"""Checked access to the JSON files of run records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se3t.errors import UserError


def read_json(path: Path, expected: str) -> Mapping[str, Any]:
    """A JSON object.

    Args:
        path: its file.
        expected: what it should be, for errors.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from error
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}); expected {expected}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(content).__name__}; expected {expected}")
    return content


class Fields:
    """Checked access to nested JSON by dotted names; a number in a name is an index of a list.

    Args:
        content: the JSON object.
        origin: its file, for messages.
    """

    def __init__(self, content: Mapping[str, Any], origin: str) -> None:
        self.content, self.origin = content, origin

    def text(self, name: str) -> str:
        """A text."""
        return str(self._get(name, str, "text"))

    def integer(self, name: str) -> int:
        """A whole number."""
        return int(self._get(name, int, "an integer"))

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A JSON object."""
        value: Mapping[str, Any] = self._get(name, Mapping, "an object")
        return value

    def flag(self, name: str) -> bool:
        """A yes or no."""
        return bool(self._get(name, bool, "true or false"))

    def number(self, name: str) -> float:
        """A finite number."""
        value = float(self._get(name, (int, float), "a number"))
        if not math.isfinite(value):
            raise UserError(
                f"{self.origin}: field {name!r} is {value}, expected a finite number; that run diverged, leave it out"
            )
        return value

    def _get(self, name: str, kind: Any, expected: str) -> Any:
        value: Any = self.content
        for key in name.split("."):
            if isinstance(value, Mapping) and key in value:
                value = value[key]
            elif isinstance(value, list | tuple) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            else:
                raise UserError(
                    f"{self.origin}: field {name!r} is missing; the run was made by another version, run it again"
                )
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"{self.origin}: field {name!r} should be {expected}, got {value!r}")
        return value
