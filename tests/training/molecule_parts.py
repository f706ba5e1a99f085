"""A small task of molecules and finished runs of it with random weights, for tests of what comes after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from se3t.config import Config, OptimConfig, QM9Data, SE3TransformerModel, TrainerConfig, targets_of
from se3t.config import PropertyTask as PropertyTaskConfig
from se3t.data.molecules.dataset import Property, PropertyData
from se3t.data.molecules.embedding import molecule_from_smiles
from se3t.data.molecules.molecule import Molecule, pack
from se3t.data.qm9.targets import QM9_TARGETS
from se3t.runs import RunFolder
from se3t.tasks.base import Task
from se3t.tasks.property import PropertyTask
from se3t.training import checkpoint as ckpt
from se3t.training import record
from se3t.training.finish import finish
from se3t.training.run import Run, model_for

SMILES = {
    "train": ("C", "CC", "CCO", "CC=O", "C#N", "c1ccccc1", "CC(N)=O", "C1CC1", "O", "N"),
    "valid": ("CO", "C=C", "CCN"),
    "test": ("C#C", "CC(C)O", "C1CO1"),
}
SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 14: "Si"}
_ORDERS = (1, 2, 3, 4)  # of a mol block, by class of the bond


@cache
def molecule(smiles: str) -> Molecule:
    """Its positions have as many decimals as an SDF file."""
    found = molecule_from_smiles(smiles, smiles)
    assert isinstance(found, Molecule), found
    return replace(found, positions=found.positions.astype(np.float64).round(4).astype(np.float32))


def molecules(split: str) -> list[Molecule]:
    return [molecule(smiles) for smiles in SMILES[split]]


def mol_block(found: Molecule, dimension: str = "3D", charges: str = "") -> str:
    """V2000, aromatic bonds as such."""
    lines = [found.identifier, f"  tests   0000000000{dimension}", ""]
    lines.append(f"{len(found):3d}{len(found.bonds):3d}  0  0  0  0  0  0  0  0999 V2000")
    for number, (x, y, z) in zip(found.numbers.tolist(), found.positions.tolist(), strict=True):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {SYMBOLS[number]:<3} 0  0  0  0  0  0  0  0  0  0  0  0")
    for (first, second), kind in zip(found.bonds.tolist(), found.bond_classes.tolist(), strict=True):
        lines.append(f"{first + 1:3d}{second + 1:3d}{_ORDERS[kind]:3d}  0")
    return "\n".join([*lines, *([charges] if charges else []), "M  END"]) + "\n"


def sdf(found: Sequence[Molecule]) -> str:
    return "".join(f"{mol_block(one)}$$$$\n" for one in found)


def xyz(found: Molecule, comment: str = "") -> str:
    atoms = [
        f"{SYMBOLS[number]} {x:.6f} {y:.6f} {z:.6f}"
        for number, (x, y, z) in zip(found.numbers.tolist(), found.positions.tolist(), strict=True)
    ]
    return "\n".join([str(len(found)), comment, *atoms]) + "\n"


def property_data(kind: str = "qm9", target: str = "homo") -> PropertyData:
    everything = [one for split in SMILES for one in molecules(split)]
    of_split = np.repeat(np.arange(len(SMILES)), [len(members) for members in SMILES.values()])
    splits = {split: np.flatnonzero(of_split == code) for code, split in enumerate(SMILES)}
    names = targets_of(target) if kind == "qm9" else (target,)
    values = np.random.RandomState(0).normal(-6000.0, 500.0, (len(names), len(everything))).T
    known = [QM9_TARGETS.get(name) for name in names]
    shown = [
        Property(name, one.symbol, one.unit) if one else Property(name, name, "")
        for name, one in zip(names, known, strict=True)
    ]
    official = {"train": 100, "valid": 10, "test": 10} if kind == "qm9" else {}
    return PropertyData(kind, pack(everything), values, splits, tuple(shown), "c0ffee" * 8, official)


def config_of(runs: Path, model: Any = None, data: Any = None, **task: Any) -> Config:
    small = SE3TransformerModel(num_layers=1, num_degrees=2, channels=4, channels_div=2, num_heads=2, pool_channels=8)
    return Config(
        experiment="qm9",
        preset="smoke",
        runs=str(runs),
        data=data or QM9Data(root="/nowhere"),
        task=PropertyTaskConfig(**task),
        model=model or small,
        optim=OptimConfig(lr=1e-2),
        trainer=TrainerConfig(max_steps=5, batch_size=4, eval_batch_size=2, accelerator="cpu", progress=False),
    )


def task_of(config: Config) -> PropertyTask:
    """What ``PropertyTask.from_config`` does, on molecules in memory."""
    data = property_data(config.data.name, config.task.column or config.task.target)
    return PropertyTask(config.task, data, config.data.graph, config.data.radius)


def build(config: Config) -> tuple[Task, nn.Module]:
    """What ``se3t.training.run.build_parts`` does, for that task."""
    task = task_of(config)
    ckpt.seed_everything(config.seed)
    return task, model_for(config, task)


def finished_run(folder: Path, config: Config | None = None) -> Path:
    """A run folder as training leaves it, with the weights of step 0."""
    config = config or config_of(folder.parent)
    task, model = build(config)
    RunFolder(folder).write_config(config)
    RunFolder(folder).add_session(record.provenance())
    finish(Run(config, RunFolder(folder), task, model, torch.device("cpu")))
    return folder
