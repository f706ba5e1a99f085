"""Files of weights from elsewhere, read without running anything they contain."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from se3t.compat.settings import prefixes
from se3t.errors import UserError

_STATES = ("state_dict", "model_state_dict")
_DDP = "module."
_NO_PICKLE = "no pickle of tensors"
_WEIGHTS = "save the weights alone where it comes from: torch.save(model.state_dict(), 'weights.pt')"


@dataclass(frozen=True)
class WeightFile:
    """What a file of weights holds.

    Attributes:
        path: the file.
        state_dict: parameters by name, on the CPU.
        config: constructor arguments, where the file has them under ``config``.
        extra: every other entry.
    """

    path: Path
    state_dict: dict[str, Tensor] = field(repr=False)
    config: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)


def read_file(path: Path, remedy: str = _WEIGHTS, otherwise: str = "get the file again") -> dict[Any, Any]:
    """The mapping that a file written by ``torch.save`` holds.

    Only tensors and plain values are read (``weights_only=True``): no code of the file runs.

    Args:
        path: the file.
        remedy: what to do about a file that asks for code, for errors.
        otherwise: what to do about a damaged one.

    Raises:
        UserError: when the file is missing, damaged, of another kind, or asks for more than tensors and plain values.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; expected a file written by torch.save")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty; expected a file written by torch.save")
    try:
        _verify(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error), remedy, otherwise) from error
    except Exception as error:  # a damaged file can fail in any way inside the reader
        is_told = isinstance(error, zipfile.BadZipFile | RuntimeError | OSError | EOFError)
        reason = (str(error).splitlines() or [""])[0] if is_told else ""
        raise _damaged(path, reason or _NO_PICKLE, otherwise) from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}; expected a state_dict, parameters by name")
    return dict(content)


def read_weights(path: Path, prefix: str = "") -> WeightFile:
    """Weights, and what the file says beside them.

    A file may be a state_dict, or a mapping that has one under ``state_dict`` (or ``model_state_dict``), as training
    scripts write it. ``module.`` before every name, which DistributedDataParallel puts there, is removed.

    Args:
        path: the file.
        prefix: read the part of a larger model whose names begin like this; the prefix is removed.

    Raises:
        UserError: as :func:`read_file`; when there are no weights, or none with the prefix.
    """
    content = read_file(path)
    key = next((name for name in _STATES if isinstance(content.get(name), Mapping)), None)
    state: Mapping[Any, Any] = content if key is None else content[key]
    rest = {} if key is None else {name: value for name, value in content.items() if name not in (key, "config")}
    tensors = _tensors(path, state)
    if all(name.startswith(_DDP) for name in tensors):
        tensors = {name.removeprefix(_DDP): value for name, value in tensors.items()}
    config = content.get("config", {}) if key is not None else {}
    if not isinstance(config, Mapping):
        raise UserError(f"{path}: 'config' is a {type(config).__name__}; expected constructor arguments by name")
    return WeightFile(path, _below(path, tensors, prefix), dict(config), rest)


def _tensors(path: Path, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{path}: {name!r} is no tensor but a {type(value).__name__}; expected a state_dict, "
                "or a mapping that has one under 'state_dict'"
            )
    if not state:
        raise UserError(f"{path}: holds no weights; expected a state_dict, parameters by name")
    return dict(state)


def _below(path: Path, tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    part = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if part:
        return part
    raise UserError(f"{path}: no parameter is called {prefix}…; {list_prefixes(prefixes(tensors))}")


def list_prefixes(names: list[str], most: int = 8) -> str:
    """A clause that lists prefixes."""
    if not names:
        return "nothing in the file looks like weights of either code"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"prefixes there: {', '.join(repr(name) for name in names[:most])}{more}"


def _verify(path: Path) -> None:
    """Torch reads a damaged archive without an error: compare the checksums first."""
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    if not is_archive:
        return  # the format before torch 1.6: one pickle after another
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > path.stat().st_size:  # torch.save compresses nothing
            raise zipfile.BadZipFile("a compressed zip archive")
        names = {member.filename.rpartition("/")[2] for member in members}
        if "constants.pkl" in names or "data.pkl" not in names:
            raise zipfile.BadZipFile("a TorchScript archive" if "data.pkl" in names else "another zip archive")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"check sum of {damaged} is wrong")


def _damaged(path: Path, reason: str, otherwise: str) -> UserError:
    return UserError(f"{path}: is damaged or was not written by torch.save ({reason}); {otherwise}")


def _refusal(path: Path, message: str, remedy: str, otherwise: str) -> UserError:
    """Torch refuses a pickle that asks for something not allowed, or that is none. Its advice, to read the file with
    ``weights_only=False``, would run untrusted code.
    """
    wanted = re.search(r"GLOBAL ([\w.]+\w)|unrecognized (?:function|class) (\S+)", message)
    if wanted is None:
        return _damaged(path, _NO_PICKLE, otherwise)
    asked = wanted[1] or wanted[2]
    return UserError(f"{path}: refused: it asks for {asked}, and reading it would run code of the file; {remedy}")
