"""Settings of a released model: what its weights show, what a configuration adds, and what is then still missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from se3t.errors import UserError, did_you_mean


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Names and shapes are read off weights inside: what cannot be understood is the weights' fault.

    Raises:
        UserError: in place of the error inside.
    """
    try:
        yield
    except UserError:
        raise
    except (LookupError, ValueError, StopIteration, ArithmeticError) as error:
        raise UserError(f"{source}: parameters are missing or have shapes that no model of that code has") from error


def merged(known: Mapping[str, Any], config: Mapping[str, Any], fields: Iterable[str], source: str) -> dict[str, Any]:
    """What the weights show, overridden by the configuration: where the two differ, the weights will not fit it.

    Args:
        known: read off the weights.
        config: given by the user.
        fields: all words a configuration may hold.
        source: where the weights come from, for the error.

    Raises:
        UserError: for a word that is none of ``fields``.
    """
    for name in config:
        if name not in fields:
            raise UserError(
                f"{source}: configuration: {name!r} is no argument of this model; {did_you_mean(name, fields)}"
            )
    return {**known, **config}


def require(settings: Mapping[str, Any], wanted: Mapping[str, str], source: str) -> None:
    """Refuse to guess.

    Args:
        settings: what is known.
        wanted: every field that must be known, and in words what it holds.
        source: where the weights come from, for the error.

    Raises:
        UserError: that lists all fields that are missing.
    """
    missing = [f"{name} ({words})" for name, words in wanted.items() if name not in settings]
    if missing:
        raise UserError(
            f"{source}: the weights do not show {', '.join(missing)}; give the value in the configuration (--config)"
        )


def require_choice(settings: Mapping[str, Any], name: str, choices: Iterable[Any], source: str) -> None:
    """Refuse a value that is none of ``choices``.

    Raises:
        UserError: with the choices.
    """
    words = ["null" if value is None else str(value) for value in choices]
    if settings[name] not in choices:
        raise UserError(f"{source}: {name}={settings[name]}: expected {' or '.join(words)}")


def whole(settings: Mapping[str, Any], names: Iterable[str], source: str) -> None:
    """Refuse what should be a whole number of at least one and is not.

    Raises:
        UserError: naming the field.
    """
    for name in names:
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{source}: {name}={value!r}: expected a whole number of at least 1")
