"""Choices that another package brings: schemas, and a folder laid out as conf."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from se3t.config import LinearModel, extend
from se3t.errors import UserError

_FILES = {
    "experiment/toy": "defaults:\n  - override /data: toy\n  - override /model: toy_net\n\nexperiment: toy",
    "budget/toy/short": "trainer:\n  max_steps: 7",
    "budget/toy/paper": "trainer:\n  max_steps: 70",
    "recipe/toy/toy_net": "model:\n  width: 3",
    "recipe/toy/short/toy_net": "optim:\n  lr: 0.5",
}
_PROGRAM = """
import sys
from dataclasses import dataclass
from pathlib import Path
from se3t.config import choices, extend, to_config
from se3t.config.compose import compose

@dataclass
class ToyData:
    name: str = "toy"
    size: int = 4

@dataclass
class ToyNet:
    name: str = "toy_net"
    width: int = 8

folder = Path(sys.argv[1])
for _ in range(2):
    extend(folder, {"data": {"toy": ToyData}, "model": {"toy_net": ToyNet}})
config = to_config(compose("train", ["experiment=toy", "preset=short", "data.size=5"]))
assert config.model == ToyNet(width=3) and config.data == ToyData(size=5)
assert (config.optim.lr, config.trainer.max_steps) == (0.5, 7)
assert to_config(compose("train", ["experiment=toy"])).trainer.max_steps == 70
assert "toy" in choices("experiment") and "short" in choices("preset") and "toy_net" in choices("model")
assert to_config(compose("train", [])).model.name == "se3_transformer"
print("done")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in _FILES.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# @package _global_\n{text}\n")
    return tmp_path / "conf"


def test_an_experiment_of_another_package_is_composed_like_one_of_this(folder: Path) -> None:
    # In a process of its own: what is added stays.
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(folder)], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


def test_what_cannot_be_added_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: not found; expected a folder"):
        extend(tmp_path / "nowhere")
    with pytest.raises(UserError, match="model=tfn: there is a schema of this name already"):
        extend(schemas={"model": {"tfn": LinearModel}})
