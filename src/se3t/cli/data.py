"""``se3t data prepare <name>``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from se3t.cli.arguments import setting_instead
from se3t.cli.help import choices
from se3t.config import Config, to_config
from se3t.errors import UserError, did_you_mean
from se3t.screen import show


def run(words: Sequence[str]) -> int:
    """Make the data of one experiment and print what trivial predictions reach on them."""
    if not words or words[0] != "prepare":
        word = words[0] if words else ""
        hint = "se3t data prepare <name>, such as se3t data prepare nbody"
        raise UserError(f"data {word}: unknown; expected {hint}" if word else f"data: expected {hint}")
    names = [word for word in words[1:] if "=" not in word]
    overrides = [word for word in words[1:] if "=" in word]
    for word in words[1:]:
        _refuse_flag(word)
    if len(names) != 1 or names[0] not in choices("data"):
        word = names[-1] if names else "(nothing)"
        raise UserError(f"data prepare: expected one data set, got {word}; {did_you_mean(word, choices('data'))}")
    for word in overrides:
        _check_setting(word, names[0])
    force = [word.lower() for word in overrides if word.startswith("force=")]
    config = _compose(names[0], [word for word in overrides if not word.startswith("force=")])
    _PREPARE[config.data.name](config, force[-1:] == ["force=true"])
    return 0


def _refuse_flag(word: str) -> None:
    key, _, value = word.partition("=")
    if word.startswith("-"):
        setting = "force=true" if key == "--force" else setting_instead(key, [value])
        hint = f"write {setting}" if setting else "write settings as key=value"
        raise UserError(f"{word}: data prepare takes no flags; {hint}")


def _check_setting(word: str, name: str) -> None:
    key, _, value = word.partition("=")
    if key == "force" and value.lower() not in ("true", "false"):
        raise UserError(f"{word}: expected force=true or force=false")
    if key == "seed":
        hints = {
            "nbody": f"the seed of the simulation is data.data_seed={value}",
            "molecules": f"the seed of the random split is data.split_seed={value}",
            "scanobjectnn": f"the seed of the validation part is data.split_seed={value}",
            "shapes15": f"the seed of the generator is data.data_seed={value}",
        }
        raise UserError(f"{word}: does not change the data; {hints.get(name, 'its splits are the official ones')}")


def _compose(name: str, overrides: list[str]) -> Config:
    from se3t.config.compose import compose

    experiment = [f"experiment={name}"] if name in choices("experiment") else []
    return to_config(compose("train", [*experiment, f"data={name}", *overrides]))


def _prepare_nbody(config: Config, force: bool) -> None:
    from se3t.data.nbody.prepare import prepare_nbody

    path = prepare_nbody(config.data, progress=config.trainer.progress, force=force)
    from se3t.data.nbody.baselines import summary
    from se3t.data.nbody.dataset import load_nbody

    _print_nbody(summary(load_nbody(config.data)))
    show(f"store: {path} ({path.stat().st_size / 1e6:.3g} MB)")


def _print_nbody(facts: dict[str, Any]) -> None:
    from rich.table import Table

    from se3t.screen import Folded, console

    sizes = ", ".join(f"{count} {name}" for name, count in facts["sizes"].items())
    table = Table(
        title=f"N-body, preset {facts['preset']}, horizon {facts['horizon']:g}: {sizes}",
        caption=f"mean squared error on test ± standard error; checksum {facts['checksum'][:12]}",
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
    console().print(Folded(table))
    drift, clip = facts["energy_drift"], facts["force_clip"]
    show(f"distinct training samples (trajectory, start): {facts['distinct_samples']:,}")
    show(
        f"energy drift to the target: median {drift['median']:.2g}, 99 % below {drift['quantile_99']:.2g} "
        f"(mean kinetic energy {drift['mean_kinetic_energy']:.2g})"
    )
    show(f"force clip at {clip['max_force']:g}: acted in {100 * clip['fraction']:.2f} % of the trajectories")


def _prepare_qm9(config: Config, force: bool) -> None:
    from se3t.data.qm9.prepare import prepare_qm9, store_path, summary

    store = prepare_qm9(config.data, progress=config.trainer.progress, force=force)
    _print_molecules(summary(store), store_path(config.data))


def _prepare_molecules(config: Config, force: bool) -> None:
    from se3t.data.molecules.own import prepare_molecules, store_path, summary

    store = prepare_molecules(config.data, progress=config.trainer.progress, force=force)
    _print_molecules(summary(store), store_path(config.data))


def _print_molecules(facts: dict[str, Any], path: Path) -> None:
    from rich.table import Table

    from se3t.data.molecules.building import in_words
    from se3t.screen import Folded, console

    table = Table(
        title=f"{facts['title']}: {_sizes(facts)}",
        caption="mean and standard deviation of train; mean absolute error of predicting that mean on valid and test; "
        f"checksum {facts['checksum'][:12]}",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("column", "unit", "mean", "std", "error valid", "error test"):
        table.add_column(column, justify="left" if column in ("column", "unit") else "right")
    for name, row in facts["columns"].items():
        numbers = [row[key] for key in ("mean", "std", "mae_valid", "mae_test")]
        table.add_row(name, row["unit"] or "–", *("–" if math.isnan(value) else f"{value:.5g}" for value in numbers))
    console().print(Folded(table))
    for line in in_words(facts):
        show(line)
    show(f"store: {path}, {path.stat().st_size / 2**20:.1f} MiB")


def _sizes(facts: dict[str, Any]) -> str:
    official = facts["official"] or {}
    parts = (
        f"{count:,}" + (f" of {official[name]:,}" if official else "") + f" {name}"
        for name, count in facts["sizes"].items()
    )
    return ", ".join(parts)


def _prepare_clouds(config: Config, force: bool) -> None:
    from rich.table import Table

    from se3t.data.clouds.dataset import from_store, prepare_clouds, summary
    from se3t.screen import Folded, console

    store, path = prepare_clouds(config.data, progress=config.trainer.progress, force=force)
    data = from_store(config.data, store)
    content = summary(data)
    title = "synthetic shapes15" if data.synthetic else "ScanObjectNN"
    sizes = ", ".join(f"{count:,} {name}" for name, count in content["sizes"].items())
    show(f"{title}, {data.variant}, up is {config.data.up_axis}: {sizes}")
    table = Table(caption=f"checksum {data.checksum[:12]}", caption_justify="left")
    for column in ("class", *content["sizes"]):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name, counts in content["classes"].items():
        table.add_row(name, *(f"{count:,}" for count in counts.values()))
    console().print(Folded(table))
    _print_cloud_baselines(content["baselines"])
    for line in store.provenance.get("notes", []):
        show(line)
    show(f"store: {path}, {path.stat().st_size / 2**20:.1f} MiB")


def _print_cloud_baselines(baselines: dict[str, dict[str, tuple[float, float]]]) -> None:
    from rich.table import Table

    from se3t.screen import Folded, console

    table = Table(title="accuracy in %, in brackets the mean over classes", title_justify="left")
    for column in ("prediction without a network", *baselines):
        table.add_column(column, justify="left" if column not in baselines else "right")
    for name in next(iter(baselines.values())):
        cells = (f"{100 * rows[name][0]:.1f} ({100 * rows[name][1]:.1f})" for rows in baselines.values())
        table.add_row(name.replace("_", " "), *cells)
    console().print(Folded(table))


_PREPARE = {
    "nbody": _prepare_nbody,
    "qm9": _prepare_qm9,
    "molecules": _prepare_molecules,
    "scanobjectnn": _prepare_clouds,
    "shapes15": _prepare_clouds,
}
