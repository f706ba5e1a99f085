"""Errors of Hydra and OmegaConf as sentences that say what to type; their own messages are not shown. Imports neither
torch nor hydra.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager

from se3t.config.choices import choices
from se3t.config.settings import setting_names
from se3t.errors import UserError, did_you_mean

if typing.TYPE_CHECKING:
    from omegaconf.errors import OmegaConfBaseException

GROUPS = ("experiment", "data", "model", "task", "preset")
"""The settings that are a choice of files or schemas."""


@contextmanager
def in_sentences() -> Iterator[None]:
    """Errors of Hydra, OmegaConf and YAML become :class:`UserError`."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise translated(error) from error
    except YAMLError as error:
        raise not_yaml(error) from error


def not_yaml(error: Exception, path: object = None, expected: str = "settings as name: value") -> UserError:
    """What YAML refused, by file and line.

    Args:
        error: of the package yaml, or of decoding the text.
        path: the file; None: as the error has it.
        expected: its content.
    """
    mark = getattr(error, "problem_mark", None)
    place = str(path or getattr(mark or error, "name", "a YAML file")) + (f", line {mark.line + 1}" if mark else "")
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return UserError(f"{place}: is not valid YAML ({problem}); expected {expected}")


def translated(error: Exception) -> Exception:
    """An error of Hydra or OmegaConf as a sentence of this program; any other as it is."""
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        is_known = cause.key is not None or "nterpolation" in type(cause).__name__
        return explain(cause) if is_known else _unfitting(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error.missing_cfg_file, list(error.options or []))
    return _unfitting(error) if isinstance(error, HydraException) else error


def explain(error: OmegaConfBaseException) -> UserError:
    """An error of OmegaConf as one sentence: the setting, the expected value, the nearest name."""
    from omegaconf.errors import (
        ConfigAttributeError,
        ConfigKeyError,
        GrammarParseError,
        InterpolationResolutionError,
        MissingMandatoryValue,
        UnsupportedInterpolationType,
        ValidationError,
    )

    key, name, schema = str(error.full_key or error.key or ""), str(error.key), error.object_type
    known = [item.name for item in dataclasses.fields(schema)] if dataclasses.is_dataclass(schema) else []
    if isinstance(error, InterpolationResolutionError | UnsupportedInterpolationType | GrammarParseError):
        return UserError(f"{key or '${…}'}: {_interpolation(error)}")
    if isinstance(error, MissingMandatoryValue):
        return UserError(f"{key}: a value is missing; add {key}=… to the command")
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and known:
        # The same name in another group (max_steps is a setting of trainer), else the nearest of this one.
        elsewhere = [path for path in setting_names() if path.rpartition(".")[2] == name and path != key]
        hint = f"did you mean {elsewhere[0]!r}?" if elsewhere else did_you_mean(name, known)
        return UserError(f"{key}: no such setting; {hint}")
    if isinstance(error, ValidationError) and name in known:
        expected = _expected(typing.get_type_hints(schema)[name])
        return UserError(f"{key}={error.value}: wrong type; expected {expected}")
    return UserError((f"{key}: " if key else "") + str(error.msg or error).splitlines()[0])


def _interpolation(error: Exception) -> str:
    first = str(getattr(error, "msg", None) or error).splitlines()[0]
    what = "${…} cannot be resolved"
    for pattern, problem in (
        ("key '(.*?)' not found", "no such setting"),
        (r"type (\S+)", "no such function"),
        ("variable '(.*?)' not found", "no such variable is set"),
    ):
        if match := re.search(pattern, first):
            what = f"${{…}} names {match[1]}: {problem}"
            break
    return f"{what}; write ${{<name of a setting>}} or ${{oc.env:<variable of the environment>}}"


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "null"}


def _expected(hint: typing.Any) -> str:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_expected(part) for part in typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(hint.__members__)
    return "a list, such as [a, b]" if typing.get_origin(hint) is list else _KINDS.get(hint, "a group of settings")


def _unfitting(error: Exception) -> UserError:
    """Any other error: the setting that Hydra's message quotes."""
    quoted = re.search(r"'([^']*)'", str(error).splitlines()[0])
    what = f"{quoted[1]}: does not fit the configuration" if quoted else "the settings do not fit together"
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
    other = f"write {meant}; " if (meant := groups_with(name)) else ""
    return UserError(f"{group}={name}: unknown; {other}{did_you_mean(name, options)}")


def groups_with(name: str) -> str:
    """The settings that have this word as a choice, ready to be typed; "" where there are none."""
    return " or ".join(f"{group}={name}" for group in GROUPS if name in choices(group))
