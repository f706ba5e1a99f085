"""Checked access to the JSON files of run records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se3t.errors import UserError
from se3t.runs.files import read_json
from se3t.runs.names import ADVICE

_RESULT = "the result.json of a finished run; run the training again or remove the file"
_TOO_LARGE = 1e300  # a whole number in JSON may be larger than any float


def value_at(content: Any, name: str, default: Any = None) -> Any:
    """The value at a dotted name of nested JSON; ``default`` where there is none."""
    value = content
    for key in name.split("."):
        value = value.get(key, default) if isinstance(value, Mapping) else default
    return value


def text_at(content: Any, name: str) -> str:
    """The text at a dotted name of nested JSON; "" where there is none."""
    value = value_at(content, name)
    return value if isinstance(value, str) else ""


class Fields:
    """Checked access to nested JSON by dotted names; a number in a name is an index of a list.

    Args:
        content: the JSON object.
        origin: its file, for messages.

    Attributes:
        is_verified: whether a digest shows that the content is unchanged; False for a file without one.
        is_checked: whether :func:`se3t.runs.checks.require_unchanged` has looked at it.
    """

    def __init__(self, content: Mapping[str, Any], origin: str) -> None:
        self.content, self.origin = content, origin
        self.is_verified, self.is_checked = True, False

    @classmethod
    def read(cls, path: Path, expected: str = _RESULT) -> Fields:
        """A JSON object with its file.

        Args:
            path: the file.
            expected: what it should be, for errors.

        Raises:
            UserError: naming the file, when it cannot be read.
        """
        return cls(read_json(path, expected), str(path))

    def optional_text(self, name: str) -> str | None:
        """A text, or None where there is none."""
        value = self.content.get(name)
        return None if value is None else self.text(name)

    def text(self, name: str) -> str:
        """A text."""
        return str(self._get(name, str, "text"))

    def integer(self, name: str) -> int:
        """A whole number of at least 0."""
        value = int(self._get(name, int, "an integer"))
        if value < 0:
            raise UserError(f"{self.origin}: field {name!r} is {value}, expected 0 or more; {ADVICE}")
        if value >= 2**63:
            raise UserError(f"{self.origin}: field {name!r} is too large a number; {ADVICE}")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A JSON object."""
        value: Mapping[str, Any] = self._get(name, Mapping, "an object")
        return value

    def items(self, name: str) -> list[Any]:
        """A list with something in it."""
        value: list[Any] = self._get(name, list, "a list that is not empty")
        if not value:
            raise UserError(f"{self.origin}: field {name!r} should be a list that is not empty, got {value!r}")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        return bool(self._get(name, bool, "true or false"))

    def number(self, name: str) -> float:
        """A finite number."""
        value = self._get(name, (int, float), "a number")
        if not -_TOO_LARGE < value < _TOO_LARGE:
            raise UserError(
                f"{self.origin}: field {name!r} is {value}, expected a finite number; that run diverged, leave it out"
            )
        return float(value)

    def amount(self, name: str, at_most: float = math.inf) -> float:
        """A finite number of at least 0, as errors and accuracies are.

        Args:
            name: of the field.
            at_most: the largest that it can be.
        """
        value = self.number(name)
        if not 0 <= value <= at_most:
            limits = "0 or more" if at_most == math.inf else f"0 to {at_most:g}"
            raise UserError(f"{self.origin}: field {name!r} is {value:g}, expected {limits}; {ADVICE}")
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
