"""A trained model as a folder for others: weights, settings and a model card."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from se3t import __version__
from se3t.compat.converted import is_model
from se3t.config import Config, LoggerConfig
from se3t.config.overrides import command, override, override_key
from se3t.deploy.card import Exported, model_card
from se3t.errors import UserError
from se3t.experiments import dataset
from se3t.files import temporary_beside, write_atomically
from se3t.reporting.reading import require_whole
from se3t.runs import Fields, RunFolder
from se3t.runs.identity import IRRELEVANT, without
from se3t.runs.names import CONFIG, RESULT
from se3t.training import checkpoint as ckpt
from se3t.training.exported import write_exported

CARD = "README.md"
FILES = (ckpt.EXPORTED, CONFIG, CARD)
_KEPT = ("step", "metrics", "facts")


def export(checkpoint: Path, folder: Path, force: bool = False) -> Exported:
    """Write a model that ``se3t predict`` and ``se3t eval`` read, with its card; a folder, whole or not at all.

    Weights are tensors under the names of the model, which ``safetensors.torch.load_file`` reads. Folders of the
    machine where the model was trained are left out of its settings.

    Args:
        checkpoint: a run folder, or its ``best.ckpt``.
        folder: what to write.
        force: replace a folder that was written by this function.

    Returns:
        What the card says.

    Raises:
        UserError: it is not the checkpoint of a run that validation chose, or the folder exists.
    """
    require_free(folder, force)
    loaded = ckpt.load(checkpoint)
    if is_model(loaded.content):
        raise UserError(
            f"{loaded.path}: a converted model, without a run record; give the folder of a run of se3t train"
        )
    if loaded.content.get("kind") != "best":
        raise UserError(
            f"{loaded.path}: a checkpoint to continue from, or an exported one; expected the weights that validation "
            "chose: give the run folder"
        )
    config = without_places(loaded.config)
    result, versions = _result_of(loaded)
    metrics, line = loaded.content["metrics"], _command(loaded, config)
    model = Exported(config, loaded.step, metrics, loaded.facts, result, versions, __version__, line)
    content = {"format": ckpt.FORMAT, "kind": "exported", "config": asdict(config)}
    content |= {name: loaded.content[name] for name in _KEPT if name in loaded.content}
    _write_folder(folder, model, loaded.weights, content)
    return model


def require_free(folder: Path, force: bool) -> None:
    """Refuse to overwrite anything but an export; nothing is written.

    Raises:
        UserError: naming the folder and what it holds.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; expected the name of a folder to make")
    others = sorted(path.name for path in folder.iterdir() if path.name not in (*FILES, ckpt.EXPORTED_BEFORE))
    if others or not any((folder / name).is_file() for name in (ckpt.EXPORTED, ckpt.EXPORTED_BEFORE)):
        what = f"holds {others[0]}" if others else "is no exported model"
        raise UserError(f"{folder}: exists and {what}; give the name of a new folder")
    if not force:
        raise UserError(f"{folder}: exists; give another name, or --force to replace it")


def without_places(config: Config) -> Config:
    """The configuration without folders of a machine and names of an account, which do not describe the model.

    ``data.raw`` keeps the file name for own molecules; ``se3t eval data.raw=…`` names the path.
    """
    default: Any = type(config.data)()
    changes = {name: getattr(default, name) for name in dataset(config.data.name).places if name in vars(default)}
    if "raw" not in changes and (raw := getattr(config.data, "raw", None)) is not None:
        changes["raw"] = Path(raw).name
    data = replace(config.data, **changes)
    return replace(config, data=data, runs=Config().runs, resume=False, logger=LoggerConfig())


def _result_of(loaded: ckpt.Checkpoint) -> tuple[Mapping[str, Any] | None, Mapping[str, str]]:
    """Result and versions of the run whose best checkpoint this is; no result where it belongs to other weights."""
    folder = loaded.path.absolute().parent.parent
    if (folder / RESULT).is_file():
        fields = Fields.read(folder / RESULT)
        require_whole(fields)
        if fields.content.get("best_step") == loaded.step:
            return fields.content, fields.mapping("versions")
    sessions = RunFolder(folder).read_sessions()
    return None, sessions[-1].get("versions", {}) if sessions else {}


def _command(loaded: ckpt.Checkpoint, config: Config) -> str:
    """The command line of the training, as typed but without folders of a machine; empty where it is not known."""
    folder = RunFolder(loaded.path.absolute().parent.parent)
    given = folder.read_overrides()
    if given is None or not folder.read_sessions():
        return ""
    places = [f"data.{name}" for name in (*dataset(config.data.name).places, "raw")]
    kept = without({override_key(argument): argument for argument in given}, (*IRRELEVANT, *places))
    raw = getattr(config.data, "raw", None)  # the file name alone
    return command(["train", *kept.values(), *([] if raw is None else [override("data.raw", raw)])])


def _write_folder(folder: Path, model: Exported, weights: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Write under a temporary name, then rename."""
    card = model_card(model)
    with temporary_beside(folder) as temporary, temporary_beside(folder, "old") as former:
        write_exported(temporary / ckpt.EXPORTED, weights, content)
        RunFolder(temporary).write_config(model.config)
        write_atomically(temporary / CARD, lambda file: file.write(card.encode()))
        try:
            if folder.exists():
                folder.rename(former)
            temporary.rename(folder)
        except BaseException:
            if former.exists() and not folder.exists():
                with suppress(OSError):
                    former.rename(folder)
            raise
