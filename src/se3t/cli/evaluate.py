"""``se3t eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from se3t import pretrained
from se3t.cli.arguments import split_flags
from se3t.cli.hydra_app import App
from se3t.config import Config, to_config, to_eval_config
from se3t.config.overrides import override
from se3t.errors import UserError


def run(arguments: Sequence[str]) -> int:
    """Measure the checkpoint of every job of the command line."""
    # For Hydra these are choices of files for a training; here they name data and target of a converted model.
    chosen = [argument for argument in arguments if argument.startswith(("experiment=", "task="))]
    rest = _named([argument for argument in arguments if argument not in chosen])
    return App("eval", rest, partial(_evaluate, _experiment(chosen) if chosen else None)).run()


def _named(arguments: Sequence[str]) -> list[str]:
    """The arguments, in which a bare one is the run folder or checkpoint."""
    flags, overrides = split_flags(arguments)
    bare = [argument for argument in overrides if "=" not in argument and not argument.startswith(("~", "+"))]
    given = [argument for argument in overrides if argument.lstrip("+").startswith("checkpoint=")]
    if len([*bare, *given]) > 1 and bare:
        raise UserError(f"{' and '.join([*bare, *given])}: one model at a time; give one run folder or checkpoint")
    for argument in bare:
        if not Path(argument).exists() and pretrained.find(argument) is None:
            raise UserError(
                f"{argument}: there is no such run folder or checkpoint; settings are written key=value"
                f"{pretrained.hint(argument)}"
            )
    return [*flags, *(override("checkpoint", argument) if argument in bare else argument for argument in overrides)]


def _evaluate(experiment: Config | None, settings: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    if OmegaConf.is_missing(settings, "checkpoint"):
        raise UserError("checkpoint: is missing; give a run folder or a file, such as se3t eval runs/nbody/…")
    config = to_eval_config(settings)
    from se3t.measure.evaluate import evaluate

    groups = {"data": config.data, "task": config.task, "trainer": config.trainer}
    overrides = {f"{group}.{name}": value for group, part in groups.items() for name, value in vars(part).items()}
    result = evaluate(config.checkpoint, config.split, overrides, experiment=experiment)
    _print(result)
    return result


def _experiment(overrides: Sequence[str]) -> Config:
    """The configuration of an experiment, for its data; composed first, so that a wrong name is refused at once."""
    from se3t.config.compose import compose

    if not any(text.startswith("experiment=") for text in overrides):
        raise UserError(f"{overrides[0]}: is for a converted model with experiment=…; a run has its own target")
    return to_config(compose("train", list(overrides)))


def _print(result: Mapping[str, Any]) -> None:
    from rich.table import Column, Table

    from se3t.screen import Folded, console

    trained = (
        f"converted from {result['origin']}"
        if result["step"] is None
        else f"seed {result['seed']}, step {result['step']}"
    )
    which = f"{trained}: {result['split']} split, data {result['data'].get('preset', '')}"
    if result["test_rotation"] != "0":
        which += f", objects turned ({result['test_rotation']})"
    table = Table(
        "metric",
        Column("value", justify="right"),
        "unit",
        title=f"{result['experiment']}, {result['model']}, {which}",
        caption=f"{result['parameters']:,} parameters, precision {result['precision']}; {result['checkpoint']}",
        title_justify="left",
        caption_justify="left",
    )
    for name, value in result["metrics"].items():
        table.add_row(name, f"{value:.4g}", result["units"].get(name, ""))
    console().print(Folded(table))
