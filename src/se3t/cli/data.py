"""``se3t data prepare <name>``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from se3t.cli.help import choices
from se3t.config import Config, to_config
from se3t.errors import UserError, did_you_mean


def run(words: Sequence[str]) -> int:
    """Make the data of one experiment and print what trivial predictions reach on them."""
    if not words or words[0] != "prepare":
        word = words[0] if words else ""
        hint = "se3t data prepare <name>, such as se3t data prepare nbody"
        raise UserError(f"data {word}: unknown; expected {hint}" if word else f"data: expected {hint}")
    names = [word for word in words[1:] if "=" not in word]
    overrides = [word for word in words[1:] if "=" in word]
    if len(names) != 1 or names[0] not in choices("data"):
        word = names[-1] if names else "(nothing)"
        raise UserError(f"data prepare: expected one data set, got {word}; {did_you_mean(word, choices('data'))}")
    force = "force=true" in overrides
    config = _compose(names[0], [word for word in overrides if word not in ("force=true", "force=false")])
    _PREPARE[config.data.name](config, force)
    return 0


def _compose(name: str, overrides: list[str]) -> Config:
    from se3t.cli.hydra_app import compose

    experiment = [f"experiment={name}"] if name in choices("experiment") else []
    return to_config(compose("train", [*experiment, f"data={name}", *overrides]))


def _prepare_nbody(config: Config, force: bool) -> None:
    from se3t.data.nbody.prepare import prepare_nbody

    path = prepare_nbody(config.data, progress=config.trainer.progress, force=force)
    from se3t.data.nbody.baselines import summary
    from se3t.data.nbody.dataset import load_nbody

    _print_nbody(summary(load_nbody(config.data)))
    print(f"store: {path}")


def _print_nbody(facts: dict[str, Any]) -> None:
    from rich.table import Table

    from se3t.cli.console import console

    sizes = ", ".join(f"{count} {name}" for name, count in facts["sizes"].items())
    table = Table(
        title=f"N-body, preset {facts['preset']}, horizon {facts['horizon']:g}: {sizes}",
        caption=f"mean square error on test ± standard error; checksum {facts['checksum'][:12]}",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("prediction", "MSE x", "x Linear", "MSE v", "x Linear"):
        table.add_column(column, justify="left" if column == "prediction" else "right")
    for name, row in facts["baselines"].items():
        cells = [
            cell
            for axis in "xv"
            for cell in (
                f"{row[f'mse_{axis}']:.4f} ± {row[f'spread_{axis}']:.4f}",
                f"{row[f'relative_mse_{axis}']:.3f}",
            )
        ]
        label = name.replace("_", " ") + (" (Linear)" if name == "constant_velocity" else "")
        table.add_row(label, *cells)
    console().print(table)
    drift, clip = facts["energy_drift"], facts["force_clip"]
    print(
        f"energy drift to the target: median {drift['median']:.2g}, 99 % below {drift['quantile_99']:.2g} "
        f"(mean kinetic energy {drift['mean_kinetic_energy']:.2g})"
    )
    print(f"force clip at {clip['max_force']:g}: acted in {100 * clip['fraction']:.2f} % of the trajectories")


_PREPARE = {"nbody": _prepare_nbody}
