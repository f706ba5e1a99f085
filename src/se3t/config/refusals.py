"""Overrides that are refused, with sentences that say what to type."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from se3t.config.choices import choices
from se3t.config.explain import GROUPS, groups_with
from se3t.config.settings import setting_names, text_settings
from se3t.errors import UserError, did_you_mean

_DERIVED = ("recipe", "budget", "schema", "tuned")  # folders of conf, now or earlier, that train.yaml chooses from


def check_overrides(overrides: Sequence[str], *, several: bool = False) -> None:
    """Refuse overrides that Hydra would refuse or misread.

    Args:
        overrides: such as ``trainer.max_steps=7``.
        several: whether ``a,b`` are values of several jobs.

    Raises:
        UserError: naming the override.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    given: dict[str, list[str]] = defaultdict(list)
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException as error:
            raise _unreadable(override) from error
        _check_key(override, parsed)
        if parsed.is_sweep_override() and not several:
            raise UserError(
                f"{override}: several values; add -m to run one after another{_as_one(parsed.key_or_group)}"
            )
        given[parsed.key_or_group].append(override)
    for group in GROUPS:
        if len(set(given[group])) > 1:
            raise UserError(f"{' and '.join(given[group])}: {group} is given twice; leave one out")


def _as_one(key: str) -> str:
    """How a value with commas is written."""
    if key in text_settings():
        return f", or quotation marks for a text with commas: '{key}=\"a,b\"'"
    return f", or write a list as {key}=[a,b]" if key == "logger.tags" else ""


def _unreadable(override: str) -> UserError:
    key, equals, _ = override.partition("=")
    name = key.lstrip("+~")
    if not equals:
        hint = groups_with(override) or f"key=value, such as {name if name in setting_names() else 'seed'}=…"
        return UserError(f"{override or chr(39) * 2}: cannot be read as a setting; write {hint}")
    if not re.fullmatch(r"[\w./@$-]+", name):
        return UserError(f"{override}: {name!r} is no name of a setting; write key=value, such as seed=1")
    expected = f"expected {name}=<value> with brackets and quotation marks closed"
    return UserError(f"{override}: cannot be read as a setting key=value; {expected}")


def _check_key(override: str, parsed: Any) -> None:
    key, names = parsed.key_or_group, setting_names()
    value = override.partition("=")[2]
    group, _, name = key.partition(".")
    options = choices(group)
    if not key:
        raise UserError(f"{override}: the name of a setting is missing; write key=value, such as seed=1")
    if parsed.package is not None and not key.startswith("hydra"):
        raise UserError(f"{override}: a package behind @ is not supported; write {key}={value or '…'}")
    if (parsed.is_delete() or value in ("", "null")) and options and not name:
        raise UserError(f"{override}: {key} is needed; choose one: {', '.join(options)}")
    if parsed.is_add() and not parsed.is_force_add() and (key in names or key in GROUPS):
        raise UserError(f"{override}: {key} is a setting already; leave out the +: {key}={value}")
    if key.partition("/")[0] in _DERIVED:
        raise UserError(
            f"{override}: follows from experiment, preset and model; write those, or optim.lr=… and the like"
        )
    known = {*GROUPS, *(setting.partition(".")[0] for setting in names)}
    if parsed.is_delete() and not key.startswith("hydra"):
        if not {key, group} & known:
            raise UserError(f"{override}: no such setting; {did_you_mean(key, known)}")
        raise UserError(
            f"{override}: a setting cannot be removed; write {key}=<value>, or leave it out for its default"
        )
    if options and name == "name":
        raise UserError(f"{override}: cannot be changed alone; write {group}={value}")
    if options and not name and isinstance(parsed.value(), list | dict):
        raise UserError(f"{override}: takes one choice; known: {', '.join(options)}")
