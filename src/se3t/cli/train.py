"""``se3t train``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from se3t.allocator import keep_freed_memory
from se3t.cli.hydra_app import App, messages
from se3t.config import Config, stored, to_config
from se3t.config.compose import checked, value_of
from se3t.errors import UserError
from se3t.runs.files import read_config
from se3t.runs.identity import first_difference
from se3t.runs.names import CONFIG


def run(arguments: Sequence[str]) -> int:
    """Train every job of the command line, then print one table of all that finished."""
    keep_freed_memory()
    folder, others = _run_folder(arguments)
    if folder is not None:
        with messages():
            result = _train_in(folder, others)
        _print_tables([result])
        return 0
    app = App("train", list(arguments), _train)
    try:
        return app.run()
    finally:
        _print_tables([job.result for job in app.jobs if job.result is not None])


def _train(settings: Any) -> Path:
    from hydra.core.hydra_config import HydraConfig

    config = to_config(settings)
    from se3t.training.train import train

    return train(config, overrides=list(HydraConfig.get().overrides.task))


# --- resume=<folder> --------------------------------------------------------------------------------------------------

_NO_FOLDERS = ("true", "false", "yes", "no", "on", "off", "1", "0", "null", "")


def _run_folder(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The run folder that ``resume=`` names, None where it is true or false or not there, and the other arguments."""
    resumes = [argument for argument in arguments if argument.startswith("resume=")]
    value = resumes[-1].partition("=")[2] if resumes else ""
    if value.lower() in _NO_FOLDERS or ("," in value and not Path(value).exists()):  # several values are for Hydra
        return None, list(arguments)
    return Path(value.strip("'\"")), [argument for argument in arguments if argument not in resumes]


def _train_in(folder: Path, overrides: Sequence[str]) -> Path:
    config = stored_config(folder, overrides)
    from se3t.training.train import train

    return train(config, folder, overrides=overrides)


def stored_config(folder: Path, overrides: Sequence[str]) -> Config:
    """The configuration of a run folder, to be continued.

    Args:
        folder: of the run.
        overrides: settings that may be others than before: those that do not tell runs apart.

    Raises:
        UserError: when there is no run, or an argument is not such a setting.
    """
    path = folder / CONFIG
    if not path.exists():
        hint = "give the folder of a run, such as runs/nbody/se3_transformer/0-1a2b3c4d"
        raise UserError(f"resume={folder}: there is no {path}; {hint}")
    before = stored.stored_config(read_config(path), path)
    settings = asdict(before)
    for override in overrides:
        key, given, _ = override.partition("=")
        group, _, name = key.partition(".")
        if override.startswith("-") or not given or not name or "." in name:
            raise UserError(f"{override}: cannot be combined with resume={folder}, which has its own; leave it out")
        checked([override])
        settings[group] = {**settings.get(group, {}), name: value_of(override)}
    config = replace(to_config(settings), resume=True)
    if (other := first_difference(asdict(config), asdict(before))) is not None:
        raise UserError(
            f"{other}: identifies this run and cannot change with resume={folder}; leave it out, or train "
            "another run without resume"
        )
    return config


# --- the end ----------------------------------------------------------------------------------------------------------


def _print_tables(results: Sequence[Path]) -> None:
    if not results:
        return
    from se3t.reporting.tables.build import render_tables
    from se3t.screen import console, say
    from se3t.training.distributed import process_rank

    if process_rank() != 0:  # one of several processes that a launcher started: the first one speaks for all
        return
    out = console()
    for table in render_tables(results):
        out.print(table)
    for path in results:
        say(out, f"run record: {path}")
