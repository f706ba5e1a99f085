"""Files of exported models: weights as safetensors, everything else as JSON in the metadata; nothing is pickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from se3t.errors import UserError
from se3t.files import write_atomically
from se3t.runs.files import digest_of

SUFFIX = ".safetensors"
_KEY = "se3t"  # the only one of the metadata, which are written in no fixed order
_EXPECTED = "expected a file that se3t export wrote"


def write_exported(path: Path, weights: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Write a model, whole or not at all; equal models make equal bytes.

    Args:
        path: the file.
        weights: of the model, under its own names.
        content: what a checkpoint holds besides: numbers, texts, lists and mappings by text. Tuples become lists.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}  # none is shared
    about = {"content": content, "sha256": digest_of([digest_of_weights(plain), content])}
    data = save(plain, metadata={_KEY: json.dumps(about)})
    write_atomically(path, lambda file: file.write(data))


def read_exported(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights and the content that :func:`write_exported` was given.

    Raises:
        UserError: the file is damaged, or was not written by this package.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{path}: is damaged or no safetensors file ({reason}); {_EXPECTED}") from error
    if _KEY not in metadata:
        raise UserError(f"{path}: holds weights alone, without model and data; {_EXPECTED}")
    try:
        about = json.loads(metadata[_KEY])
        content, digest = about["content"], about["sha256"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise UserError(f"{path}: is damaged (its metadata cannot be read); {_EXPECTED}") from error
    if not isinstance(content, dict) or digest_of([digest_of_weights(weights), content]) != digest:
        raise UserError(f"{path}: is damaged (it does not have its checksum); get the file again")
    return weights, content


def digest_of_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of the weights alone: files of two equal trainings can differ in their settings."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
