"""Checkpoints: written whole or not at all, verified when read, complete enough to continue bit for bit.

``checkpoints/step-<step>.ckpt`` (the two newest) hold everything a run needs to resume; ``checkpoints/best.ckpt`` holds
the weights with the lowest validation loss. Only tensors and plain values are stored, so that reading runs no code of
the file (``weights_only=True``).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from se3t import pretrained
from se3t.compat.converted import is_model
from se3t.compat.weights import read_file
from se3t.config import Config
from se3t.config.stored import stored_config
from se3t.errors import UserError
from se3t.files import write_atomically
from se3t.runs.checks import require_config, require_file_unchanged
from se3t.runs.files import digest_of
from se3t.runs.identity import first_difference, setting
from se3t.runs.names import BEST, CHECKPOINTS
from se3t.tasks.base import Task
from se3t.training.exported import SUFFIX, digest_of_weights, read_exported
from se3t.training.state import RunState

log = logging.getLogger(__name__)

FORMAT = 1
EXPORTED = pretrained.WEIGHTS
EXPORTED_BEFORE = "model.ckpt"
"""What earlier versions wrote in its place."""
KEEP = 2
"""Checkpoints to resume from that are kept: where the newest is damaged, the one before it is used."""
PREFIX = "model."
"""Before every name of a weight in ``state_dict``: the model is the attribute ``model`` of the training module."""

_EXPECTED = "give a run folder, one of its .ckpt files, or what se3t export or se3t convert wrote"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint file.

    Attributes:
        path: the file.
        content: what it holds.
    """

    path: Path
    content: dict[str, Any] = field(repr=False)

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return int(self.content["step"])

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration of the run, as plain values."""
        settings: dict[str, Any] = self.content["config"]
        return settings

    @property
    def config(self) -> Config:
        """The configuration of the run, checked.

        Raises:
            UserError: for settings of another version, or with an interpolation.
        """
        return stored_config(self.settings, self.path)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Of the model alone, under its own names."""
        return model_weights(self.content["state_dict"])

    @property
    def facts(self) -> Mapping[str, Any]:
        """The task's facts about its data; empty in checkpoints of earlier versions."""
        facts: Mapping[str, Any] = self.content.get("facts", {})
        return facts

    @property
    def state(self) -> RunState:
        """State of the run, in a checkpoint to resume from.

        Raises:
            UserError: for a state of another version.
        """
        try:
            return RunState(**self.content["run"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{self.path}: holds no state to resume a run from ({error}); remove the run folder to start again"
            ) from error


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name, then rename it: a killed writer leaves the former files as they
    were.
    """
    write_atomically(path, lambda file: torch.save(content, file))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify that it is whole.

    Raises:
        UserError: when the file is missing, damaged, or not a checkpoint of this package.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such checkpoint; {_EXPECTED}{pretrained.hint(path)}")
    content = _content_of(path)
    if content.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of se3t but {_what_it_is(content)}; {_EXPECTED}")
    if not is_model(content):
        _require_parts(path, content)
    return Checkpoint(path, content)


def _content_of(path: Path) -> dict[Any, Any]:
    if path.suffix != SUFFIX:
        return read_file(path, _EXPECTED, "use another checkpoint, or train again")
    weights, content = read_exported(path)
    return content | {"state_dict": {PREFIX + name: tensor for name, tensor in weights.items()}}


def _what_it_is(content: Mapping[Any, Any]) -> str:
    """Description of a file of another program."""
    if "pytorch-lightning_version" in content:
        return "one of PyTorch Lightning"
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return "weights alone, without model and data (se3t convert reads those of the released codes)"
    if "format" in content and "state_dict" in content:
        return f"one of another format, {content['format']!r} where this version reads {FORMAT}"
    names = ", ".join(repr(str(name)) for name in list(content)[:4])
    return f"a file that holds {names or 'nothing'}"


def _require_parts(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that lacks a part that every one has, or has something else there."""
    kinds = {"config": Mapping, "step": int, "state_dict": Mapping}
    if content.get("kind") == "step":
        kinds["run"] = Mapping
    if "facts" in content:
        kinds["facts"] = Mapping
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind):
            is_there = f"is a {type(content[name]).__name__}" if name in content else "is missing"
            raise UserError(f"{path}: this checkpoint is damaged, its part {name!r} {is_there}; {_EXPECTED}")
    for name, value in content["state_dict"].items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            what = type(value).__name__
            raise UserError(f"{path}: this checkpoint is damaged, {name!r} is not a weight but a {what}; {_EXPECTED}")


def load(checkpoint: Path) -> Checkpoint:
    """The checkpoint that a run folder or a file stands for, see :func:`locate`; one in a run folder is compared with
    the record of the run.

    Raises:
        UserError: as :func:`locate` and :func:`read_checkpoint`, and when it belongs to another run than its folder.
    """
    loaded = read_checkpoint(locate(checkpoint))
    folder = loaded.path.absolute().parent.parent
    if loaded.path.absolute().parent.name == CHECKPOINTS and not is_model(loaded.content):
        require_config(folder, loaded.settings, str(loaded.path), "it is one of another run; restore the file")
        if loaded.content.get("kind") == "best":
            require_file_unchanged(folder, f"{CHECKPOINTS}/{BEST}", digest_of_best(loaded.content))
    return loaded


def digest_of_best(best: Mapping[str, Any]) -> str:
    """SHA-256 of what determines predictions: the weights, and the facts of the task."""
    weights = digest_of_weights(model_weights(best["state_dict"]))
    return digest_of({"weights": weights, "facts": best.get("facts", {})})


def step_path(folder: Path, step: int) -> Path:
    """File of the checkpoint to continue from after ``step`` steps."""
    return folder / f"step-{step:010d}.ckpt"


def newest_step(folder: Path) -> int:
    """Step of the newest checkpoint to continue from, by its name; 0 where there is none."""
    return max((int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.ckpt")), default=0)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint to continue from that is whole; damaged ones are skipped with a warning.

    Args:
        folder: the folder ``checkpoints`` of a run.

    Raises:
        UserError: when there are checkpoints, but none of them is whole.
    """
    paths = sorted(folder.glob("step-*.ckpt"), reverse=True)
    for path in paths:
        try:
            return read_checkpoint(path)
        except UserError as error:
            log.warning("skipped: %s", error)
    if paths:
        raise UserError(
            f"{folder}: none of the {len(paths)} checkpoints is whole; remove the run folder to start again"
        )
    return None


def prune(folder: Path) -> None:
    """Remove all checkpoints to continue from but the newest ones."""
    for path in sorted(folder.glob("step-*.ckpt"))[:-KEEP]:
        path.unlink()


def restore_best(folder: Path, checkpoint: Checkpoint | None) -> None:
    """Make ``best.ckpt`` what it was when ``checkpoint`` was written, and remove what killed writers left behind."""
    for path in folder.glob(".*.tmp"):
        path.unlink()
    best = None if checkpoint is None else checkpoint.state.best
    if checkpoint is None or best is None:
        (folder / BEST).unlink(missing_ok=True)
    else:
        write_best(folder, checkpoint.settings, best)


def best_of(
    task: Task,
    step: int,
    metrics: Mapping[str, float],
    weights: Mapping[str, Tensor],
    raw: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """What ``best.ckpt`` keeps of an evaluation; with averaging also the raw weights behind the averaged ones."""
    best = {"step": step, "metrics": metrics, "state_dict": weights, "facts": task.facts()}
    best["data_checksum"] = task.describe().get("checksum")
    return best if raw is None else {**best, "current_model_state": dict(raw)}


def write_best(folder: Path, settings: Mapping[str, Any], best: Mapping[str, Any]) -> None:
    """Write ``best.ckpt``: weights, step, metrics and the task's facts of the lowest validation loss."""
    write_checkpoint(folder / BEST, {"format": FORMAT, "kind": "best", "config": dict(settings), **best})


def locate(checkpoint: Path) -> Path:
    """The file that a run folder, a folder of ``se3t export`` or a file stands for: ``best.ckpt`` of a run.

    Where there is no such folder or file, the name of a model of the package stands for that.

    Raises:
        UserError: when it does not exist.
    """
    checkpoint = pretrained.find(checkpoint) or checkpoint
    if not checkpoint.is_dir():
        return checkpoint
    for name in (f"{CHECKPOINTS}/{BEST}", BEST, EXPORTED, EXPORTED_BEFORE):
        if (checkpoint / name).is_file():
            return checkpoint / name
    raise UserError(
        f"{checkpoint}: holds no {CHECKPOINTS}/{BEST}; give the folder of a run that was evaluated at least once"
        f"{pretrained.hint(checkpoint)}"
    )


def require_same_run(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Refuse to continue from a checkpoint of other settings.

    Raises:
        UserError: naming the first setting that differs.
    """
    name = first_difference(settings, checkpoint.settings)
    if name is not None:
        ours, theirs = (setting(source, name) for source in (settings, checkpoint.settings))
        raise UserError(
            f"{checkpoint.path}: belongs to another run, with {name}={theirs} where this one has {name}={ours}; "
            "remove it, or run with its settings"
        )


def require_same_data(trained: Path, before: str | None, now: str | None, otherwise: str = "") -> None:
    """Refuse other data than those of the training, where both have a checksum.

    Args:
        trained: run folder or checkpoint, for errors.
        before: checksum of the data of the training.
        now: checksum of the data as they are.
        otherwise: what else the user can do than restore the data.

    Raises:
        UserError: naming both checksums.
    """
    if None not in (before, now) and before != now:
        raise UserError(
            f"{trained}: was trained on data with checksum {before}, and the data now have {now}; restore those data"
            f"{otherwise}"
        )


def not_finite(what: str, folder: Path) -> UserError:
    """The error for a run that has diverged.

    Args:
        what: that is not finite, and when.
        folder: of the checkpoints.
    """
    kept = next(folder.glob("step-*.ckpt"), None) is not None
    state = "the last good checkpoint is kept" if kept else "there is no checkpoint of this run yet"
    return UserError(f"{what}; {state}: lower optim.lr or set optim.clip_norm, and train again")


def model_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the model alone, under its own names."""
    return {name.removeprefix(PREFIX): value for name, value in state_dict.items() if name.startswith(PREFIX)}


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load weights into a model, in the dtype and on the device of the model.

    Raises:
        UserError: naming the first parameter that the model lacks, that the file lacks, or that has another shape.
    """
    current = model.state_dict()
    for name in sorted(current.keys() | weights.keys()):
        if name not in weights or name not in current or current[name].shape != weights[name].shape:
            raise UserError(
                f"{source}: a checkpoint of another model: parameter {name!r} is {_shape(weights, name)} there and "
                f"{_shape(current, name)} in this model; give a checkpoint of this model, or its settings"
            )
    model.load_state_dict(dict(weights))


def _shape(weights: Mapping[str, Tensor], name: str) -> str:
    return f"of shape {list(weights[name].shape)}" if name in weights else "missing"


# --- random numbers ---------------------------------------------------------------------------------------------------


def random_state() -> dict[str, Any]:
    """State of all generators of random numbers, as tensors and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Undo :func:`random_state`."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))


def seed_everything(seed: int) -> None:
    """Seed the generators of torch, Python and NumPy."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
