"""Weights & Biases and TensorBoard, where enabled; the only module that imports them. The record on disk never
depends on them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias

from se3t.config import Config
from se3t.errors import UserError
from se3t.files import write_atomically
from se3t.runs import RunFolder

log = logging.getLogger(__name__)

RUN_ID = "wandb_id"
"""File of a run folder that holds the run's identity at W&B, so that a continued run continues there, too."""
TENSORBOARD = "tensorboard"
"""Folder of a run folder that holds TensorBoard's files."""
INIT_TIMEOUT = 20.0
"""Seconds to wait for the server before going offline."""

Mode: TypeAlias = Literal["online", "offline", "disabled"]
Write: TypeAlias = Callable[[str, int, Mapping[str, Any]], None]
"""Takes (kind, step, values) of something measured."""


def wandb_mode(wanted: str) -> Mode:
    """What ``logger.wandb`` means here: "online", "offline" or "disabled".

    "auto" follows ``WANDB_MODE`` where it is set; else online with a key, offline without. Where wandb is not
    installed it is disabled, whatever was wanted.
    """
    if "wandb" not in sys.modules and importlib.util.find_spec("wandb") is None:
        if wanted in ("online", "offline"):
            log.warning("logger.wandb=%s, but wandb is not installed; the run is recorded on disk only", wanted)
        return "disabled"
    word = os.environ.get("WANDB_MODE", "").lower() if wanted == "auto" else wanted
    if word:
        return "online" if word == "online" else "offline" if word == "offline" else "disabled"
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


@contextmanager
def loggers(config: Config, folder: Path) -> Iterator[tuple[list[Write], str]]:
    """All loggers that are enabled, as long as the context lasts, and a description of where they write.

    Raises:
        UserError: TensorBoard is not installed.
    """
    mode, is_board = wandb_mode(config.logger.wandb), config.logger.tensorboard
    places = [f"W&B {mode}" + (f" in {folder / 'wandb'}" if mode == "offline" else "")]
    places += [f"TensorBoard in {folder / TENSORBOARD}"] if is_board else []
    board = tensorboard(folder) if is_board else nullcontext(None)
    with wandb_run(config, folder, mode) as online, board as events:
        yield [write for write in (online, events) if write is not None], ", ".join(places)


@contextmanager
def tensorboard(folder: Path) -> Iterator[Write]:
    """Event files in a run folder, rewritten from the record of the run: a resumed run has every point once, also those
    from before TensorBoard was enabled.

    Args:
        folder: of the run, whose ``metrics.jsonl`` goes as far as the checkpoint that it is continued from.

    Raises:
        UserError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "logger.tensorboard=true: needs the package tensorboard; install it with: pip install tensorboard"
        ) from error
    shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
    events = SummaryWriter(str(folder / TENSORBOARD), purge_step=0)  # also for a TensorBoard that has read the others

    def write(kind: str, step: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                events.add_scalar(f"{kind}/{name}", value, step)
        events.flush()

    try:
        for line in RunFolder(folder).read_metrics():
            write(line["kind"], line["step"], {name: line[name] for name in line.keys() - {"kind", "step"}})
        yield write
    finally:
        events.close()


@contextmanager
def wandb_run(config: Config, folder: Path, mode: Mode | None = None) -> Iterator[Write | None]:
    """A run at W&B for as long as the context lasts; yields a function that logs (kind, step, values), None when
    disabled.

    Args:
        config: ``logger`` chooses mode, project, group and tags; all of it is stored with the run.
        folder: run folder: where W&B's files and the identity of the run are.
        mode: as :func:`wandb_mode` has it; None: ask it.
    """
    mode = mode or wandb_mode(config.logger.wandb)
    if mode == "disabled":
        yield None
        return
    run = _start(config, folder, mode)
    failed = True
    try:
        yield lambda kind, step, values: run.log({"step": step, **{f"{kind}/{key}": v for key, v in values.items()}})
        failed = False
    finally:
        run.finish(exit_code=int(failed))


def _start(config: Config, folder: Path, mode: Mode) -> Any:
    import wandb

    settings: dict[str, Any] = {
        "project": config.logger.project,
        "group": config.logger.group,
        "tags": list(config.logger.tags),
        "name": f"{config.experiment}-{config.model.name}-{config.seed}",
        "id": run_id(folder),
        "dir": str(folder),
        "config": asdict(config),
    }
    options = wandb.Settings(init_timeout=INIT_TIMEOUT, silent=True, console="off")
    try:
        run = wandb.init(mode=mode, resume="allow" if mode == "online" else None, settings=options, **settings)
    except wandb.errors.Error as error:
        log.warning("W&B is not reachable (%s); logging offline to %s", str(error).splitlines()[0], folder / "wandb")
        wandb.teardown()  # its service still holds the identity of the run that failed
        run = wandb.init(mode="offline", settings=options, **settings)
    run.define_metric("*", step_metric="step")
    return run


def run_id(folder: Path) -> str:
    """The identity of a run at W&B: drawn once, then read from the run folder."""
    path = folder / RUN_ID
    if not path.exists():
        write_atomically(path, lambda file: file.write(secrets.token_hex(4).encode()))
    return path.read_text().strip()
