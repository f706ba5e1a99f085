"""Arguments of a command line in the order that Hydra accepts: flags first, each with its value; then overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from se3t.config import EvalConfig, choices, conf_dir, setting_names
from se3t.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Flag:
    """A flag of Hydra: its short form, whether a value follows it, and which ones there are."""

    short: str = ""
    takes: str = "nothing"  # nothing | value | optional
    choices: tuple[str, ...] = ()


FLAGS: dict[str, Flag] = {
    "--multirun": Flag("-m"),
    "--run": Flag("-r"),
    "--resolve": Flag(),
    "--hydra-help": Flag(),
    "--shell-completion": Flag("-sc"),
    "--cfg": Flag("-c", "value", ("job", "hydra", "all")),
    "--info": Flag("-i", "optional", ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")),
    "--package": Flag("-p", "value"),
    "--config-dir": Flag("-cd", "value"),
    "--config-path": Flag("-cp", "value"),
    "--config-name": Flag("-cn", "value"),
    "--experimental-rerun": Flag("", "value"),
}
_MOVED = {  # folders of conf in earlier versions, which would be ignored silently
    "tuned": "recipe/<experiment>/<model>.yaml",
    "budget/model": "recipe/<experiment>/<preset>/<model>.yaml",
}
_SHORT = {flag.short: name for name, flag in FLAGS.items() if flag.short}


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags, spelled out as ``--flag`` or ``--flag=value``, and overrides, each in the order given.

    Raises:
        UserError: for an unknown flag, or a flag without its value.
    """
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            overrides += rest
            break
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        name, has_value, value = argument.partition("=")
        name = _full_name(name, [value] if has_value else rest)
        flags.append(_with_value(name, value if has_value else None, rest))
    return flags, overrides


def check_flags(command: str, given: Mapping[str, str]) -> None:
    """Refuse flags that Hydra would refuse with less helpful messages, and missing files and folders.

    Args:
        command: train or eval.
        given: the flags, spelled out, with their values.

    Raises:
        UserError: naming the flag.
    """
    modes = [name for name in ("--run", "--multirun", "--cfg", "--info", "--shell-completion") if name in given]
    if len(modes) > 1:
        raise UserError(f"{modes[0]} and {modes[1]} cannot be combined; give one of them")
    for name in ("--resolve", "--package"):
        if name in given and "--cfg" not in given:
            raise UserError(f"{name}: belongs to --cfg; write --cfg job {name}" + " <group>" * (name == "--package"))
    for name in ("--config-dir", "--config-path"):
        if name in given and not Path(given[name]).is_dir():
            raise UserError(f"{name} {given[name]}: not found; expected a folder of configuration files")
        for old, new in _MOVED.items():
            if name in given and Path(given[name], old).is_dir():
                raise UserError(f"{name} {given[name]}: {old} is no longer read; rename its files to {new}")
    if (file := given.get("--experimental-rerun")) is not None and not Path(file).is_file():
        raise UserError(f"--experimental-rerun {file}: not found; expected the config.pickle of an earlier run")
    _check_choices(command, given)


def _check_choices(command: str, given: Mapping[str, str]) -> None:
    name, package = given.get("--config-name"), given.get("--package")
    folders = [conf_dir(), *(Path(given[flag]) for flag in ("--config-dir", "--config-path") if flag in given)]
    if name is not None and not any((folder / name).with_suffix(".yaml").is_file() for folder in folders):
        raise UserError(f"--config-name {name}: not found; leave it out, or write --config-name {command}")
    if name in ("train", "eval") and name != command:
        raise UserError(f"--config-name {name}: belongs to se3t {name}; leave it out, or write --config-name {command}")
    known = {setting.partition(".")[0] for setting in setting_names()} | {
        "hydra",
        *(item.name for item in fields(EvalConfig)),
    }
    if package and package.partition(".")[0] not in known:
        raise UserError(f"--package {package}: no such group of settings; {did_you_mean(package, known)}")


def _full_name(name: str, following: Sequence[str]) -> str:
    if name in _SHORT:
        return _SHORT[name]
    matches = [flag for flag in FLAGS if flag == name] or [
        flag for flag in FLAGS if name.startswith("--") and flag.startswith(name)
    ]
    if len(matches) != 1:
        if setting := setting_instead(name, following):
            raise UserError(f"{name}: not a flag but a setting; write {setting}")
        raise UserError(f"{name}: no such flag; {did_you_mean(name, [*FLAGS, *_SHORT, '--help'])}")
    return matches[0]


def setting_instead(flag: str, following: Sequence[str] = ()) -> str | None:
    """The setting or group that is called like a flag, as ``key=value``; None when there is none.

    Args:
        flag: such as ``--max-steps``.
        following: the arguments after it, of which the first may be its value.
    """
    name = flag.lstrip("-").replace("-", "_")
    settings = [*setting_names(), *(item.name for item in fields(EvalConfig))]
    if choices(name):
        known = [name]
    else:
        known = [setting for setting in settings if name in (setting, setting.rpartition(".")[2])]
    if not name or not known:
        return None
    given = following[0] if following and following[0] and not following[0].startswith("-") else ""
    value = "true" if name == "resume" else given if "=" not in given else ""
    return f"{known[0]}={value or '…'}"


def _with_value(name: str, value: str | None, rest: list[str]) -> str:
    flag = FLAGS[name]
    if flag.takes == "nothing":
        if value is not None:
            raise UserError(f"{name}={value}: the flag {name} takes no value")
        return name
    if value is None and rest and not rest[0].startswith("-") and (flag.takes == "value" or rest[0] in flag.choices):
        value = rest.pop(0)
    if value is None and flag.takes == "optional":
        value = flag.choices[0]
    if value is None:
        raise UserError(f"{name}: a value is missing{': ' + ', '.join(flag.choices) if flag.choices else ''}")
    if flag.choices and value not in flag.choices:
        raise UserError(f"{name} {value}: unknown; {did_you_mean(value, flag.choices)}")
    return f"{name}={value}"
