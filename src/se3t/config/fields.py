"""Fields of schemas with their limits, which :func:`se3t.config.validate` checks. Imports no torch."""

from __future__ import annotations

import math
import re
import typing
from dataclasses import field
from typing import Any

from se3t.errors import UserError


def choice(default: str, *others: str) -> Any:
    """A field that takes one of several words, including ``default``."""
    return field(default=default, metadata={"choices": (default, *others)})


_Real: typing.TypeAlias = int | float  # an int is not a float when annotations are executed


def number(
    default: _Real | None, *, at_least: _Real = -math.inf, above: _Real = -math.inf, at_most: _Real = math.inf
) -> Any:
    """A finite number in a range; null passes where the field's type allows it."""
    return field(default=default, metadata={"at_least": at_least, "above": above, "at_most": at_most})


def time_limit() -> Any:
    """A field that takes a time as :func:`seconds_of` reads it, or null for no limit."""
    return field(default=None, metadata={"is_time": True})


def by_name(*schemas: Any) -> dict[str, type]:
    """Schemas by their ``name``, which is a field of each."""
    return {schema().name: schema for schema in schemas}


_TIME = re.compile(r"(?:([0-9]{2}):)?([0-9]{2}):([0-5][0-9]):([0-5][0-9])")


def seconds_of(time: str, name: str) -> int:
    """The seconds of a time as it is typed, HH:MM:SS or DD:HH:MM:SS.

    Args:
        time: such as 00:10:00.
        name: of the setting, for errors.

    Raises:
        UserError: for anything else, and for a time of nothing.
    """
    match = _TIME.fullmatch(time)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not total or (days and hours > 23):
        # YAML reads 10:00:00 without quotation marks as the number 36000.
        quoted = ', in a YAML file inside quotation marks: "10:00:00"' if time.isdecimal() else ""
        raise UserError(f"{name}={time}: expected a time above zero as HH:MM:SS or DD:HH:MM:SS{quoted}")
    return total


def time_in_words(time: str, name: str = "trainer.max_time") -> str:
    """A time such as 01:30:00 as "1 h 30 min".

    Args:
        time: as it was typed.
        name: of the setting, for errors.

    Raises:
        UserError: when it cannot be read.
    """
    seconds, parts = seconds_of(time, name), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        parts += [f"{count} {unit}"] * (count > 0)
    return " ".join(parts)


def steps_asked(max_steps: int, max_time: str | None) -> str:
    """The budget of a training: "1,000 steps", or "1,000 steps or 10 min"."""
    return f"{max_steps:,} steps" + ("" if max_time is None else f" or {time_in_words(max_time)}")


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
