"""Released models as files of this library: written by ``se3t convert``, read by :func:`load_model` and ``se3t eval``.

Such a file holds the name of a model, its constructor arguments, its weights under our names, and where they come from;
tensors and plain values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from se3t.compat.mapping import Converted
from se3t.compat.models import model_from_arguments
from se3t.compat.weights import read_file
from se3t.errors import UserError
from se3t.files import write_atomically

FORMAT = 1
KIND = "model"


@dataclass(frozen=True)
class ModelFile:
    """A model read from a file.

    Attributes:
        path: the file.
        model: in the precision it was saved in, and ``eval()``.
        name: word of the registry. arguments: constructor arguments.
        origin: where the weights come from: code, file, its SHA-256, configuration.
    """

    path: Path
    model: nn.Module
    name: str
    arguments: dict[str, Any]
    origin: dict[str, Any] = field(default_factory=dict)


def save_model(path: Path, converted: Converted, origin: Mapping[str, Any]) -> None:
    """Write a model, whole or not at all.

    Args:
        path: the file.
        converted: the model.
        origin: where the weights come from, plain values.
    """
    content = {
        "format": FORMAT,
        "kind": KIND,
        "model": {"name": converted.name, "arguments": converted.arguments},
        "state_dict": converted.model.state_dict(),
        "origin": dict(origin),
    }
    write_atomically(path, lambda file: torch.save(content, file))


def load_model(path: Path | str) -> nn.Module:
    """The model of a file that ``se3t convert`` wrote, ready to be called with a :class:`se3t.graph.Graph`.

    Raises:
        UserError: when the file is missing, damaged or of another kind.
    """
    return read_model(Path(path)).model


def read_model(path: Path) -> ModelFile:
    """The same with what the file says about it.

    Raises:
        UserError: when the file is missing, damaged or of another kind.
    """
    content = read_file(path)
    if not is_model(content):
        raise UserError(f"{path}: not a converted model (format {FORMAT}); write one with se3t convert")
    try:
        name, arguments, state = content["model"]["name"], content["model"]["arguments"], content["state_dict"]
        model = model_from_arguments(name, arguments)
        model.to(next(iter(state.values())).dtype).load_state_dict(state)
    except UserError as error:
        raise UserError(f"{path}: {error}; convert the weights again") from error
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, StopIteration) as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise UserError(
            f"{path}: does not hold a model of this version ({reason}); convert the weights again"
        ) from error
    return ModelFile(path, model.eval(), name, arguments, content.get("origin", {}))


def is_model(content: Mapping[str, Any]) -> bool:
    """Whether the content of a file is that of a converted model."""
    return content.get("kind") == KIND and content.get("format") == FORMAT and "model" in content
