"""Reference files: those of this repository, and those of the released codes where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
OWN = sorted((ROOT / "tests" / "golden").glob("*.pt"))
RELEASED = Path(os.environ.get("SE3T_GOLDEN", ROOT.parent / "shared" / "golden"))
AUTHORS = [path for path in OWN if path.stem.startswith("authors")]
NVIDIA = [path for path in OWN if path.stem.startswith("nvidia")]


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def own(name: str) -> dict[str, Any]:
    return content(ROOT / "tests" / "golden" / f"{name}.pt")
