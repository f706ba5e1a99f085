"""``se3t eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from se3t.cli.hydra_app import App
from se3t.config import to_eval_config
from se3t.errors import UserError


def run(words: Sequence[str]) -> int:
    """Measure the checkpoint of every job of the command line."""
    return App("eval", list(words), _evaluate).run()


def _evaluate(settings: Any) -> dict[str, Any]:
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
        num_equivariance_samples=config.trainer.num_equivariance_samples,
    )
    _print(found)
    return found


def _print(found: Mapping[str, Any]) -> None:
    from rich.table import Table

    from se3t.cli.console import console

    which = f"seed {found['seed']}, step {found['step']}: {found['split']} split"
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
