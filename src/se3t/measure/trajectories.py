"""What trained models predict for one test trajectory and its rotations: the numbers of Figure 3."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.data.progress import progress_bar
from se3t.errors import UserError
from se3t.experiments.nbody import NBodyRecord
from se3t.measure.evaluate import load_run
from se3t.precision import forward_context
from se3t.reporting.figures.trajectory_runs import finished_run, labels, require_same_data
from se3t.runs.files import write_json
from se3t.so3 import rotation_about_axis
from se3t.tasks.nbody import NBodyBatch, NBodyTask
from se3t.training import checkpoint as ckpt
from se3t.training.run import Run

KIND = "figure3"
AXIS = (0.0, 0.0, 1.0)
"""Of the rotations, and the direction of view: pictures show x and y."""

STEP = 10.0
"""Degrees between two inputs, as in the paper."""

_From = TypeVar("_From")
_To = TypeVar("_To")
_CHOOSER = ("se3_transformer", "none")


def trajectories(
    runs: Sequence[Path],
    out: Path,
    sample: int | None = None,
    *,
    step: float = STEP,
    progress: bool = False,
    accelerator: str = "auto",
    on_failure: Callable[[UserError], None] | None = None,
) -> Path:
    """Predict one test trajectory with every run, its input turned about an axis in equal steps, and write the numbers.

    Args:
        runs: folders of finished N-body runs, all on the same data; the weights that validation chose are used, in the
            precision of the training.
        out: the JSON file.
        sample: number of the test trajectory; None: the one whose error in x is the median over all test trajectories,
            that of the SE(3)-Transformer where there is one, else of the first run.
        step: degrees between two inputs, a divisor of 360.
        progress: show a progress bar.
        accelerator: "auto", "cpu" or "gpu".
        on_failure: called for each run that fails, which is left out as long as another one is left; None: the first
            failure is raised.

    Returns:
        ``out``.

    Raises:
        UserError: a run that is missing, damaged or of another experiment; runs on different data; data that have
            changed since; a sample that does not exist; a prediction that is not finite.
    """
    if not runs:
        raise UserError("figure 3: no run; give the folders of finished runs, such as runs/nbody/tfn/0-1a2b3c4d")
    angles, runs = _angles(step), list(dict.fromkeys(runs))
    records = {run: finished_run(run) for run in runs}
    require_same_data(records)
    names = dict(zip(runs, labels(list(records.values())), strict=True))
    failures: list[UserError] | None = None if on_failure is None else []
    with progress_bar(progress, "rotated trajectories", len(runs)) as advance:
        loaded = _without_failures(runs, lambda run: _load(run, records[run], names[run], accelerator), failures)
        chooser = next((one for one in loaded if (one.record.model, one.record.ablation) == _CHOOSER), loaded[0])
        number, rule = _choose(chooser, sample)
        content = _describe(loaded[0], number, rule, angles)
        for model in _without_failures(loaded, lambda one: _predict(one, number, angles), failures):
            content["models"].append(model)
            advance(len(content["models"]))
    write_json(out, content)
    for failure in failures or ():
        assert on_failure is not None
        on_failure(failure)
    return out


def _without_failures(
    runs: Iterable[_From], work: Callable[[_From], _To], failures: list[UserError] | None
) -> list[_To]:
    """Results of all runs but those that fail, whose errors are added to ``failures``; at least one must succeed."""
    done = []
    for run in runs:
        try:
            done.append(work(run))
        except UserError as error:
            if failures is None:
                raise
            failures.append(error)
    if not done and failures:
        raise failures[0]
    return done


@dataclass(frozen=True)
class _Measured:
    """A finished run with its data and its weights.

    The batches stay in double precision on the CPU, so that a rotated input is rounded once.
    """

    record: NBodyRecord
    label: str
    run: Run

    @property
    def task(self) -> NBodyTask:
        assert isinstance(self.run.task, NBodyTask)
        return self.run.task

    @torch.no_grad()
    def predict(self, batch: NBodyBatch) -> Float[Tensor, "sample particle 2 3"]:
        """Changes of position and velocity, in double precision.

        Args:
            batch: in double precision; it is rounded to that of the training once.
        """
        rounded = batch.to(self.run.device, self.run.dtype)
        with forward_context(self.run.config.trainer.precision, self.run.device):
            prediction = self.run.model(self.task.graph(rounded))[1]
        return prediction.double().cpu().view_as(batch.targets)


def _load(folder: Path, known: NBodyRecord, label: str, accelerator: str) -> _Measured:
    run = load_run(folder, ckpt.load(folder), known.data.checksum, accelerator)
    run.task.to("cpu", torch.float64)
    run.model.to(run.device).eval()
    return _Measured(known, label, run)


def _angles(step: float) -> list[float]:
    if not (0 < step <= 90 and float(360 / step).is_integer()):
        raise UserError(f"step={step:g}: expected degrees that divide 360, from 1 to 90, such as 10")
    return [number * step for number in range(round(360 / step))]


def _choose(measured: _Measured, sample: int | None) -> tuple[int, str]:
    """The number of the test trajectory, and why it is that one."""
    count = measured.task.size("test")
    if sample is not None:
        if not 0 <= sample < count:
            raise UserError(f"sample={sample}: expected the number of a test trajectory, 0 to {count - 1}")
        return sample, "chosen by its number"
    errors = []
    for index in torch.arange(count).split(measured.run.config.trainer.eval_batch_size):
        batch = measured.task.batch("test", index)
        errors.append((measured.predict(batch) - batch.targets)[:, :, 0].square().mean(dim=(1, 2)))
    order = torch.cat(errors).argsort(stable=True)
    return int(order[(count - 1) // 2]), f"median error in x of {measured.label}"


def _describe(measured: _Measured, sample: int, rule: str, angles: Sequence[float]) -> dict[str, Any]:
    """What all models share: the data, the trajectory and the rotations."""
    batch = measured.task.batch("test", torch.tensor([sample]))
    (start, speed), (moved, _) = (tensor[0].unbind(dim=1) for tensor in (batch.vectors, batch.targets))
    data = measured.record.data
    return {
        "kind": KIND,
        "data": {**data._asdict(), "overridden": measured.record.overridden},
        "sample": sample,
        "sample_rule": rule,
        "num_samples": measured.task.size("test"),
        "axis": list(AXIS),
        "angles": [int(angle) if angle.is_integer() else angle for angle in angles],
        "charges": batch.charges.flatten().tolist(),
        "positions": start.tolist(),
        "velocities": speed.tolist(),
        "target": (start + moved).tolist(),
        "models": [],
    }


def _predict(measured: _Measured, sample: int, angles: Sequence[float]) -> dict[str, Any]:
    """One model: its predictions for every rotation of the input, and what the run was."""
    batch = measured.task.batch("test", torch.tensor([sample] * len(angles)))
    turned = rotate(batch, torch.tensor(angles, dtype=torch.float64))
    moved = measured.predict(turned)[:, :, 0]
    if not bool(moved.isfinite().all()):
        raise UserError(f"{measured.run.folder}: predicts a number that is not finite; that run diverged, leave it out")
    known = measured.record
    return {
        "run": str(measured.run.folder),
        "model": known.model,
        "label": measured.label,
        "seed": known.seed,
        "preset": known.preset,
        "max_steps": known.max_steps,
        "steps_done": known.steps_done,
        "batch_size": known.batch_size,
        "mse_x": float((moved[0] - batch.targets[0, :, 0]).square().mean()),
        "equivariance_error_x": known.metrics["equivariance_error_x"],
        "predictions": (turned.vectors[:, :, 0] + moved).tolist(),
    }


def rotate(batch: NBodyBatch, angles: Float[Tensor, " sample"]) -> NBodyBatch:
    """Samples with input and target turned about :data:`AXIS`, each by its own angle.

    Args:
        batch: as many samples as there are angles.
        angles: degrees, in the dtype of the batch.
    """
    rotation = rotation_about_axis(angles.new_tensor(AXIS), angles.deg2rad())  # [sample, 3, 3]
    vectors, targets = (torch.einsum("sij,snvj->snvi", rotation, value) for value in (batch.vectors, batch.targets))
    return NBodyBatch(vectors, batch.charges, batch.products, targets)
