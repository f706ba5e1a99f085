"""Errors that a user or a configuration can cause. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """One clear sentence: the offending word, what was expected, what to do. ``se3t`` prints it without a traceback."""


class BusyError(UserError):
    """Another process holds what is asked for; the same command succeeds once it has ended.

    Attributes:
        status: exit status of a command that ends for it; no other error has the same.
    """

    status = 75  # EX_TEMPFAIL of <sysexits.h>


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A closing clause for an error about an unknown ``word``: the nearest choice, and all of them."""
    known = sorted(choices)
    near = [name for name in known if name.lower() == word.lower()]
    near = near or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(known)}"


def require_known(kind: str, names: Iterable[str], choices: Iterable[str]) -> list[str]:
    """The names, each once.

    Args:
        kind: what they name, for the error.
        names: to check.
        choices: that exist.

    Raises:
        UserError: for a name that is not among the choices.
    """
    known = list(choices)
    for name in names:
        if name not in known:
            raise UserError(f"{kind} {name!r} is not known; {did_you_mean(name, known)}")
    return list(dict.fromkeys(names))
