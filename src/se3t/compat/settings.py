"""Settings of a released model: read from its weights, completed by a configuration, refused if incomplete."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from se3t.errors import UserError, did_you_mean
from se3t.fiber import Fiber

_ROOTS = re.compile(r"^(.*?)(?:transformer\.)?(?:graph_modules|Gblock|block0)\.\d+\.")


def prefixes(names: Iterable[str]) -> list[str]:
    """Parts of a model, by what stands before ``graph_modules.``, ``Gblock.`` or ``block0.`` in the names."""
    matches = (_ROOTS.match(name) for name in names)
    return list(dict.fromkeys(match[1] for match in matches if match))


def first_name(names: Iterable[str]) -> str:
    """A clause for weights that are not those of the code asked for: what they are instead."""
    names = list(names)
    if not names:
        return "there are none"
    fitting = prefixes(names)
    if fitting and fitting[0]:
        return f"the first one here is {names[0]!r}; for the part that begins like this give --prefix {fitting[0]}"
    if fitting:
        other = "nvidia" if "graph_modules." in "".join(names) else "authors"
        return f"the first one here is {names[0]!r}, as in the other code: --from {other}"
    return f"the first one here is {names[0]!r}"


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn an error in reading names and shapes of weights into one about the weights.

    Raises:
        UserError: in place of the error inside.
    """
    try:
        yield
    except UserError:
        raise
    except (LookupError, ValueError, StopIteration, ArithmeticError) as error:
        raise UserError(f"{source}: parameters are missing or have shapes that no model of that code has") from error


@dataclass(frozen=True)
class Field:
    """What a configuration may say about one argument.

    Attributes:
        words: what is expected, for errors.
        accepts: whether a value is of that kind.
    """

    words: str
    accepts: Callable[[Any], bool]


def whole(least: int = 1, *others: object) -> Field:
    """A whole number of at least ``least``, or one of ``others``."""
    words = " or ".join([f"a whole number of at least {least}", *map(_word, others)])
    return Field(words, lambda value: _is_whole(value, least) or any(value is other for other in others))


def choice(*values: object) -> Field:
    """One of some values; None is written null."""
    return Field(" or ".join(map(_word, values)), lambda value: any(value == other for other in values))


def flag() -> Field:
    """True or false."""
    return Field("true or false", lambda value: isinstance(value, bool))


def number() -> Field:
    """A finite number above zero."""
    return Field(
        "a number above 0",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf,
    )


def anything(words: str) -> Field:
    """Any value: checked elsewhere."""
    return Field(words, lambda value: True)


def checked(config: Mapping[str, Any], fields: Mapping[str, Field], source: str) -> dict[str, Any]:
    """A configuration with checked names and values.

    Args:
        config: given by the user.
        fields: the fields that it may have.
        source: where the weights come from, for errors.

    Raises:
        UserError: naming the first field that is unknown or has a value of another kind.
    """
    for name, value in config.items():
        if name not in fields:
            raise UserError(
                f"{source}: configuration: {name!r} is no argument of this model; {did_you_mean(name, fields)}"
            )
        if not fields[name].accepts(value):
            text = "null" if value is None else repr(value)
            raise UserError(f"{source}: {name}={text}: expected {fields[name].words}")
    return dict(config)


def require(settings: Mapping[str, Any], wanted: Mapping[str, str], source: str, *, of_weights: bool = True) -> None:
    """Refuse settings that lack a field.

    Args:
        settings: what is known.
        wanted: every required field and its description.
        source: where the weights come from, for the error.
        of_weights: whether the weights were searched for the fields; otherwise they are arguments.

    Raises:
        UserError: that lists all fields that are missing.
    """
    missing = [f"{name} ({words})" for name, words in wanted.items() if name not in settings]
    if missing and not of_weights:
        raise UserError(f"{source}: needs {', '.join(missing)}")
    if missing:
        raise UserError(
            f"{source}: the weights do not show {', '.join(missing)}; give the value in the configuration (--config)"
        )


def require_heads(num_heads: int, fiber: Fiber, source: str) -> None:
    """Refuse heads that do not divide the channels, and types without channels.

    Args:
        num_heads: attention heads.
        fiber: types and channels of the values.
        source: for errors.

    Raises:
        UserError: with the number of channels.
    """
    if not fiber:
        raise UserError(f"{source}: no channel is left for keys and values: the divisor is larger than the channels")
    for degree, channels in fiber.items():
        if channels % num_heads:
            raise UserError(
                f"{source}: {channels} channels of degree {degree} cannot be divided among {num_heads} heads (in keys "
                "and values)"
            )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _word(value: object) -> str:
    return "null" if value is None else str(value)
