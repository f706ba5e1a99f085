"""``se3t data prepare <name>``."""

from __future__ import annotations

from collections.abc import Sequence

from se3t.cli.arguments import setting_instead
from se3t.cli.help import choices
from se3t.config import Config, to_config
from se3t.errors import UserError, did_you_mean
from se3t.experiments import dataset
from se3t.screen import Folded, console, show


def run(arguments: Sequence[str]) -> int:
    """Make the data of one experiment and print what trivial predictions reach on them."""
    if not arguments or arguments[0] != "prepare":
        argument = arguments[0] if arguments else ""
        hint = "se3t data prepare <name>, such as se3t data prepare nbody"
        raise UserError(f"data {argument}: unknown; expected {hint}" if argument else f"data: expected {hint}")
    names = [argument for argument in arguments[1:] if "=" not in argument]
    overrides = [argument for argument in arguments[1:] if "=" in argument]
    for argument in arguments[1:]:
        _refuse_flag(argument)
    if len(names) != 1 or names[0] not in choices("data"):
        argument = names[-1] if names else "(nothing)"
        raise UserError(
            f"data prepare: expected one data set, got {argument}; {did_you_mean(argument, choices('data'))}"
        )
    for override in overrides:
        _check_setting(override, names[0])
    force = [override.lower() for override in overrides if override.startswith("force=")]
    config = _compose(names[0], [override for override in overrides if not override.startswith("force=")])
    data = dataset(config.data.name)
    if not data.is_prepared:
        raise UserError(f"data prepare {data.name}: there is nothing to prepare; a training makes these data itself")
    prepared = data.prepare(config.data, progress=config.trainer.progress, force=force[-1:] == ["force=true"])
    for line in data.summary(config.data, prepared):
        show(line) if isinstance(line, str) else console().print(Folded(line))
    path = data.store_path(config.data)
    show(f"store: {path}, {path.stat().st_size / 2**20:.1f} MiB")
    return 0


def _refuse_flag(argument: str) -> None:
    key, _, value = argument.partition("=")
    if argument.startswith("-"):
        setting = "force=true" if key == "--force" else setting_instead(key, [value])
        hint = f"write {setting}" if setting else "write settings as key=value"
        raise UserError(f"{argument}: data prepare takes no flags; {hint}")


def _check_setting(override: str, name: str) -> None:
    key, _, value = override.partition("=")
    if key == "force" and value.lower() not in ("true", "false"):
        raise UserError(f"{override}: expected force=true or force=false")
    if key == "seed":
        hint = dataset(name).seed_hint
        setting = f"{hint}={value}" if hint else "its splits are official or fixed"
        raise UserError(f"{override}: does not change the data; {setting}")


def _compose(name: str, overrides: list[str]) -> Config:
    from se3t.config.compose import compose

    experiment = [f"experiment={name}"] if name in choices("experiment") else []
    return to_config(compose("train", [*experiment, f"data={name}", *overrides]))
