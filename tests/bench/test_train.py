"""``python -m benchmarks train``: a training step beside its model and optimiser alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import train
from se3t.bench.options import Options
from se3t.errors import UserError
from se3t.tasks.nbody import NBodyBatch, NBodyTask

QUICK = Options(quick=True, threads=1, repetitions=3)
CASE = "experiment=nbody preset=quick trainer.batch_size=4 model.num_layers=1 model.num_degrees=2"


def test_the_parts_of_a_training_step_add_up_and_the_model_alone_sees_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    loss = NBodyTask.loss

    def recorded(task: NBodyTask, prediction: dict[int, torch.Tensor], batch: NBodyBatch) -> torch.Tensor:
        seen.append(batch.vectors)
        return loss(task, prediction, batch)

    monkeypatch.setattr(NBodyTask, "loss", recorded)
    report = train.run(QUICK, [CASE], root=str(tmp_path))
    rows = {row["name"]: row for row in report.rows}
    whole, alone = rows.pop(train.WHOLE), rows.pop(train.ALONE)
    assert whole["turns"] == 3
    assert min(whole["step"], alone["step"]) > 0
    assert {name.strip() for name in rows} == {*train._PARTS.values(), train._LOOP}
    assert all(row["step"] > 0 for row in rows.values())
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1, abs=0.2)  # of medians
    # Turn 0 warms up: 1 + 3 + 3 steps; in turn 1 the model alone sees the last four steps again.
    trained, again = seen[7:11], seen[11:15]
    assert all(torch.equal(one, other) for one, other in zip(trained, again, strict=True))
    assert not torch.equal(trained[0], trained[1])
    assert any("random samples" in note for note in report.notes)


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the model has no weights"):
        train.run(QUICK, ["experiment=nbody model=linear"], root=str(tmp_path))
