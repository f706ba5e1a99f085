"""Trained models that come with the package, each a folder beside this file that ``se3t export`` wrote.

Imports no torch.
"""

from __future__ import annotations

from pathlib import Path

from se3t.errors import did_you_mean

DEFAULT = "qm9"
"""The model of ``se3t predict`` where none is named."""
WEIGHTS = "model.safetensors"
ROOT = Path(__file__).parent


def names() -> list[str]:
    """Of the models, in order of the alphabet."""
    return sorted(path.parent.name for path in ROOT.glob(f"*/{WEIGHTS}"))


def find(word: str | Path) -> Path | None:
    """The folder of the model of that name; None where there is none, and where a file or folder is called so."""
    return ROOT / str(word) if str(word) in names() and not Path(word).exists() else None


def place(path: Path) -> str:
    """A file of weights in words: the model of the package that it is, or its path."""
    return f"model {path.parent.name} of this package" if path.parent.parent == ROOT else str(path)


def hint(word: str | Path) -> str:
    """A closing clause for an error about a path that is no model: what it might be meant for."""
    known, word = names(), str(word)
    if word in known:
        return f"; the model of this package that has this name is {ROOT / word}"
    return f"; models of this package: {did_you_mean(word, known)}" if known and Path(word).name == word else ""
