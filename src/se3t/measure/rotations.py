"""Accuracy against the rotation of test objects, for a set of trained models: the numbers of Figure 4."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from se3t.config import rotation_angle
from se3t.data.progress import progress_bar
from se3t.errors import UserError
from se3t.experiments.scanobjectnn import parse_record
from se3t.measure.evaluate import load_run
from se3t.reporting.figures.figure4 import finished_run, line_of, require_one_setting
from se3t.reporting.figures.rotation_runs import settings_hash
from se3t.runs.files import write_json
from se3t.tasks.classification import ClassificationTask
from se3t.training import checkpoint as ckpt
from se3t.training.exported import digest_of_weights
from se3t.training.run import Run

_KEY = ("settings", "seed", "weights", "rotation")


def rotation_sweep(
    runs: Sequence[Path], rotations: Sequence[str], out: Path, progress: bool = True, accelerator: str = "auto"
) -> Path:
    """Measure every run with its test objects turned, once for each kind of rotation, and write the numbers.

    Points in the file are kept, and those of the same weights not measured again. The file is written after every run,
    so that an interrupted sweep resumes there.

    Args:
        runs: folders of finished classification runs, all on the same data; the weights that validation chose are used.
        rotations: degrees, or ``so3``, as in ``task.test_rotation``.
        out: the JSON file.
        progress: show a progress bar.
        accelerator: "auto", "cpu" or "gpu".

    Returns:
        ``out``.

    Raises:
        UserError: a run that is missing, damaged or of another task; runs on different data; runs that would be one
            line of the figure and differ in more than their seeds; a rotation that is none.
    """
    if not runs:
        raise UserError("no run: give the folders of finished runs, such as runs/scanobjectnn/tfn/0-1a2b3c4d")
    rotations = list(dict.fromkeys(map(_spelled, rotations)))
    content = _read(out)
    known = {_key(point): point for point in content.get("points", [])}
    runs, done = list(dict.fromkeys(runs)), 0
    with progress_bar(progress, "accuracy of rotated objects", len(runs) * len(rotations)) as advance:
        for run in runs:
            measured = _Measured(run)
            if content.get("data", measured.data) != measured.data:
                raise UserError(
                    f"{run}: was trained on {measured.data}, the others of {out} on {content['data']}; "
                    "one file holds one data set: choose another --out"
                )
            content["data"] = measured.data
            known = {  # without those of weights that the run no longer has
                key: point
                for key, point in known.items()
                if point["run"] != str(run) or key[:-1] == _key(measured.point)[:-1]
            }
            require_one_setting([*known.values(), measured.point], out)
            for rotation in rotations:
                key = _key({**measured.point, "rotation": rotation})
                if key not in known:
                    known[key] = measured.measure(rotation, accelerator)
                advance(done := done + 1)
            content["points"] = list(known.values())
            write_json(out, content)
    return out


def outdated(path: Path, known: Sequence[Path]) -> list[str]:
    """For every run of a file whose weights have changed since, the reason.

    Args:
        path: what :func:`rotation_sweep` wrote.
        known: folders of runs, which the file may name relative to another folder.
    """
    reasons = []
    for name, weights in {point["run"]: point["weights"] for point in _read(path).get("points", [])}.items():
        parts = Path(name).parts
        folder = next((run for run in (Path(name), *known) if run.is_dir() and run.parts[-len(parts) :] == parts), None)
        try:
            if folder is None:
                reasons.append(f"{name} no longer exists")
            elif _digest(ckpt.load(folder).weights) != weights:
                reasons.append(f"{name} has other weights now")
        except UserError as error:
            reasons.append(str(error))
    return reasons


class _Measured:
    """A finished run; its data and weights are loaded when something is measured."""

    def __init__(self, folder: Path) -> None:
        self.record = parse_record(finished_run(folder))
        self.folder, self.checkpoint = folder, ckpt.load(folder)
        self.data = {
            name: self.checkpoint.facts.get(name) for name in ("kind", "variant", "synthetic", "up_axis", "checksum")
        }
        self.point = self._describe()
        self._run: Run | None = None

    def measure(self, rotation: str, accelerator: str) -> dict[str, Any]:
        """One point of the figure."""
        run = self._run = self._run or self._load(accelerator)
        assert isinstance(run.task, ClassificationTask)
        run.task = run.task.with_test_rotation(rotation)
        metrics = run.measure("test")
        measured = {name: metrics[name] for name in ("accuracy", "class_accuracy")}
        return {**self.point, "rotation": rotation, **measured, "size": run.task.size("test")}

    def _describe(self) -> dict[str, Any]:
        """What all points of this run say."""
        config = self.checkpoint.config
        return {
            "run": str(self.folder),
            "weights": _digest(self.checkpoint.weights),
            "settings": settings_hash(self.record),
            "model": config.model.name,
            "height": config.task.height,
            "augmentation": config.task.augmentation,
            "seed": config.seed,
            "num_points": config.task.num_points,
            "preset": config.preset,
            "max_steps": config.trainer.max_steps,
            "steps_done": self.record.steps_done,
        }

    def _load(self, accelerator: str) -> Run:
        run = load_run(self.folder, self.checkpoint, self.data["checksum"], accelerator)
        run.config = replace(run.config, trainer=replace(run.config.trainer, num_equivariance_samples=0))
        run.to_device()
        return run


def _spelled(rotation: str) -> str:
    """A rotation as the figure spells it: 90, not 90.0."""
    angle = rotation_angle(rotation)
    return rotation if math.isinf(angle) else f"{angle:g}"


def _key(point: Mapping[str, Any]) -> tuple[Any, ...]:
    """What is measured once; the rotation last."""
    return tuple(point.get(name) for name in _KEY)


def _digest(weights: Mapping[str, Tensor]) -> str:
    return digest_of_weights(weights)[:16]


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        needed = ("run", "model", "height", *_KEY)
        {(*(point[name] for name in needed), *line_of(point)) for point in content["points"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not a file of this figure ({error}); remove it or choose another --out") from error
    return dict(content)
