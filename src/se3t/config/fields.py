"""Fields of schemas with their limits, which :func:`se3t.config.validate` checks. Imports no torch."""

from __future__ import annotations

import math
import typing
from dataclasses import field
from typing import Any

from se3t.errors import UserError


def choice(default: str, *others: str) -> Any:
    """A field that takes one of a few words, ``default`` among them."""
    return field(default=default, metadata={"choices": (default, *others)})


_Real: typing.TypeAlias = int | float  # an int is no float to those who execute annotations


def number(
    default: _Real | None, *, at_least: _Real = -math.inf, above: _Real = -math.inf, at_most: _Real = math.inf
) -> Any:
    """A finite number in a range; null passes where the field's type allows it."""
    return field(default=default, metadata={"at_least": at_least, "above": above, "at_most": at_most})


def rotation_angle(text: str) -> float:
    """The largest angle of test rotations in degrees; infinite for ``so3``, any rotation.

    Raises:
        UserError: for anything but ``so3`` or a number from 0 to 180.
    """
    if text == "so3":
        return math.inf
    try:
        angle = float(text)
    except ValueError:
        angle = math.nan
    if not 0 <= angle <= 180:
        raise UserError(
            f"task.test_rotation={text}: expected degrees from 0 to 180 (the largest angle about a random horizontal "
            "axis) or so3 (any rotation)"
        )
    return angle
