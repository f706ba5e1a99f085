"""Words that no configuration can be composed of, in sentences that say what to type. Hydra's own words for this come
from the machinery behind the command and are not shown.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from se3t.config import choices, explain, setting_names, text_settings
from se3t.errors import UserError, did_you_mean

_GROUPS = ("experiment", "data", "model", "task", "preset")
_DERIVED = ("recipe", "budget", "schema", "tuned")  # folders of conf, now or earlier, that train.yaml chooses from


def check_words(words: Sequence[str], *, several: bool = False) -> None:
    """Refuse words that Hydra would refuse, or would take for something else than was meant.

    Args:
        words: settings of a command line.
        several: whether ``a,b`` are values of several jobs.

    Raises:
        UserError: naming the word.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    given: dict[str, list[str]] = defaultdict(list)
    for word in words:
        try:
            parsed = OverridesParser.create().parse_override(word)
        except HydraException as error:
            raise _unreadable(word) from error
        _check_key(word, parsed)
        if parsed.is_sweep_override() and not several:
            raise UserError(f"{word}: several values; add -m to run one after another{_as_one(parsed.key_or_group)}")
        given[parsed.key_or_group].append(word)
    for group in _GROUPS:
        if len(set(given[group])) > 1:
            raise UserError(f"{' and '.join(given[group])}: {group} is given twice; leave one out")


def _as_one(key: str) -> str:
    """How several values with commas are written as one."""
    if key in text_settings():
        return f", or quotation marks for a text with commas: '{key}=\"a,b\"'"
    return f", or write a list as {key}=[a,b]" if key == "logger.tags" else ""


def _unreadable(word: str) -> UserError:
    key, equals, _ = word.partition("=")
    name = key.lstrip("+~")
    if not equals:
        hint = elsewhere(word) or f"key=value, such as {name if name in setting_names() else 'seed'}=…"
        return UserError(f"{word or chr(39) * 2}: cannot be read as a setting; write {hint}")
    if not re.fullmatch(r"[\w./@$-]+", name):
        return UserError(f"{word}: {name!r} is no name of a setting; write key=value, such as seed=1")
    expected = f"expected {name}=<value> with brackets and quotation marks closed"
    return UserError(f"{word}: cannot be read as a setting key=value; {expected}")


def _check_key(word: str, parsed: Any) -> None:
    key, names = parsed.key_or_group, list(setting_names())
    value = word.partition("=")[2]
    group, _, name = key.partition(".")
    own = choices(group)
    if not key:
        raise UserError(f"{word}: the name of a setting is missing; write key=value, such as seed=1")
    if parsed.package is not None and not key.startswith("hydra"):
        raise UserError(f"{word}: a place behind @ is not possible; write {key}={value or '…'}")
    if (parsed.is_delete() or value in ("", "null")) and own and not name:
        raise UserError(f"{word}: {key} is needed; choose one: {', '.join(own)}")
    if parsed.is_add() and not parsed.is_force_add() and (key in names or key in _GROUPS):
        raise UserError(f"{word}: {key} is a setting already; leave out the +: {key}={value}")
    if key.partition("/")[0] in _DERIVED:
        raise UserError(f"{word}: follows from experiment, preset and model; write those, or optim.lr=… and the like")
    known = {*_GROUPS, *(setting.partition(".")[0] for setting in names)}
    if parsed.is_delete() and not key.startswith("hydra"):
        if not {key, group} & known:
            raise UserError(f"{word}: no such setting; {did_you_mean(key, known)}")
        raise UserError(f"{word}: a setting cannot be removed; write {key}=<value>, or leave it out for its default")
    if own and name == "name":
        raise UserError(f"{word}: cannot be changed alone; write {group}={value}")
    if own and not name and isinstance(parsed.value(), list | dict):
        raise UserError(f"{word}: takes one choice; known: {', '.join(own)}")


def translated(error: Exception) -> Exception:
    """An error of Hydra or OmegaConf as a sentence of this program; any other as it is."""
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        is_known = cause.key is not None or "nterpolation" in type(cause).__name__
        return explain(cause) if is_known else _plain(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error.missing_cfg_file, list(error.options or []))
    return _plain(error) if isinstance(error, HydraException) else error


def _plain(error: Exception) -> UserError:
    """What is left: whatever of Hydra's message is no word of its machinery."""
    first = str(error).splitlines()[0]
    if found := re.search(r"'([^']*)'", first):
        what = f"{found[1]}: does not fit the configuration"
    else:
        what = "the settings do not fit together"
    return UserError(f"{what}; se3t train --cfg job and se3t eval --cfg job show the settings")


def _unknown_choice(path: str, options: list[str]) -> UserError:
    # "nbody/" for "nbody" comes from the completion of file names.
    group, _, name = path.rstrip("/").rpartition("/")
    if path.endswith("/"):
        return UserError(f"{group}={name}/: unknown; write it without the slash: {group}={name}")
    if group.startswith("budget/"):
        hint = did_you_mean(name, choices(group))
        return UserError(f"preset={name}: experiment {group.partition('/')[2]!r} has no such preset; {hint}")
    if not options:
        return UserError(f"{path}: no such configuration file")
    other = elsewhere(name)
    hint = f"write {other}; " if other else ""
    return UserError(f"{group}={name}: unknown; {hint}{did_you_mean(name, options)}")


def elsewhere(name: str) -> str:
    """The settings that have this word as a choice, ready to be typed; "" where there are none."""
    return " or ".join(f"{group}={name}" for group in _GROUPS if name in choices(group))
