"""``se3t eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from se3t.cli.help import choices
from se3t.cli.hydra_app import App
from se3t.config import Config, to_config, to_eval_config
from se3t.errors import UserError, did_you_mean


def run(words: Sequence[str]) -> int:
    """Measure the checkpoint of every job of the command line."""
    # For Hydra, experiment=… is a choice of files for a training; here it names the data of a converted model.
    chosen = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    rest = [word for word in words if not word.startswith("experiment=")]
    return App("eval", rest, partial(_evaluate, _experiment(chosen[-1]) if chosen else None)).run()


def _evaluate(experiment: Config | None, settings: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    if OmegaConf.is_missing(settings, "checkpoint"):
        raise UserError("checkpoint: which one? Give a run folder or a file: se3t eval checkpoint=runs/nbody/…")
    config = to_eval_config(settings)
    from se3t.training.run import evaluate

    found = evaluate(
        config.checkpoint,
        split=config.split,
        precision=config.trainer.precision,
        accelerator=config.trainer.accelerator,
        data_root=config.data.root,
        data_preset=config.data.preset,
        num_equivariance_samples=config.trainer.num_equivariance_samples,
        experiment=experiment,
    )
    _print(found)
    return found


def _experiment(name: str) -> Config:
    """The configuration of an experiment, for its data; checked first, so that a wrong name is told at once."""
    from se3t.cli.hydra_app import compose

    if name not in choices("experiment"):
        raise UserError(f"experiment={name}: unknown; {did_you_mean(name, choices('experiment'))}")
    return to_config(compose("train", [f"experiment={name}"]))


def _print(found: Mapping[str, Any]) -> None:
    from rich.table import Table

    from se3t.cli.console import console

    trained = (
        f"converted from {found['origin']}" if found["step"] is None else f"seed {found['seed']}, step {found['step']}"
    )
    which = f"{trained}: {found['split']} split, data {found['data'].get('preset', '')}"
    table = Table(
        title=f"{found['experiment']}, {found['model']}, {which}",
        caption=f"{found['parameters']:,} parameters, precision {found['precision']}; {found['checkpoint']}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for name, value in found["metrics"].items():
        table.add_row(name, f"{value:.4g}", found["units"].get(name, ""))
    console().print(table)
