from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from se3t.errors import UserError
from se3t.training import checkpoint as ckpt


def content(step: int = 3, **more: Any) -> dict[str, Any]:
    weights = {"model.0.weight": torch.arange(1000.0)}
    return {"format": ckpt.FORMAT, "step": step, "config": {"seed": 0}, "state_dict": weights, **more}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    ckpt.write_checkpoint(tmp_path / "a.ckpt", content(run={"best_loss": 0.5}))
    found = ckpt.read_checkpoint(tmp_path / "a.ckpt")
    assert (found.step, found.settings, found.state.best_loss) == (3, {"seed": 0}, 0.5)
    assert torch.equal(found.content["state_dict"]["model.0.weight"], torch.arange(1000.0))
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = data.index(torch.arange(1000.0).numpy().tobytes()[400:440])
    data[place] ^= 1
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "a.ckpt"
    ckpt.write_checkpoint(path, content())
    damage(path)
    with pytest.raises(UserError, match=r"a\.ckpt: is (damaged or was not written by torch\.save|empty)"):
        ckpt.read_checkpoint(path)


class Malicious:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("/nonexistent/never"),)  # type: ignore[return-value]


def test_reading_runs_no_code_of_the_file(tmp_path: Path) -> None:
    torch.save(content(extra=Malicious()), tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt"):
        ckpt.read_checkpoint(tmp_path / "a.ckpt")


def test_a_foreign_file_and_a_missing_one_are_named(tmp_path: Path) -> None:
    torch.save({"weights": torch.ones(1)}, tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match=r"foreign\.ckpt: not a checkpoint of se3t"):
        ckpt.read_checkpoint(tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match=r"missing\.ckpt: there is no such checkpoint"):
        ckpt.read_checkpoint(tmp_path / "missing.ckpt")


def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (4, 8, 12):
        ckpt.write_checkpoint(ckpt.step_path(tmp_path, step), content(step))
    truncate(ckpt.step_path(tmp_path, 12))
    with caplog.at_level(logging.WARNING):
        found = ckpt.newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 8
    assert "step-0000000012.ckpt" in caplog.text


def test_no_checkpoint_is_not_the_same_as_damaged_ones_only(tmp_path: Path) -> None:
    assert ckpt.newest_checkpoint(tmp_path) is None
    ckpt.write_checkpoint(ckpt.step_path(tmp_path, 4), content(4))
    truncate(ckpt.step_path(tmp_path, 4))
    with pytest.raises(UserError, match="none of the 1 checkpoints is whole"):
        ckpt.newest_checkpoint(tmp_path)


def test_pruning_keeps_the_two_newest(tmp_path: Path) -> None:
    for step in (4, 8, 100, 12):
        ckpt.write_checkpoint(ckpt.step_path(tmp_path, step), content(step))
    ckpt.write_checkpoint(tmp_path / ckpt.BEST, content())
    ckpt.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ckpt.BEST,
        "step-0000000012.ckpt",
        "step-0000000100.ckpt",
    ]


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)), "1.bias"),
        (nn.Sequential(nn.Linear(3, 5)), "0.bias"),
        (nn.Sequential(nn.Linear(3, 4, bias=False)), "0.bias"),
    ],
)
def test_weights_of_another_model_name_the_first_parameter(other: nn.Module, name: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(UserError, match=rf"another model: parameter '{name}'"):
        ckpt.load_weights(model, other.state_dict(), Path("x.ckpt"))


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float, float]:
        return float(torch.rand(())), random.random(), float(np.random.rand()), random.gauss(0, 1)

    ckpt.seed_everything(5)
    draw()
    ckpt.write_checkpoint(tmp_path / "a.ckpt", content(random=[ckpt.random_state()]))
    expected = draw()
    ckpt.seed_everything(6)
    ckpt.set_random_state(ckpt.read_checkpoint(tmp_path / "a.ckpt").content["random"][0])
    assert draw() == expected


def test_a_folder_stands_for_its_best_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluated at least once"):
        ckpt.locate(tmp_path)
    best = tmp_path / "checkpoints" / ckpt.BEST
    best.parent.mkdir()
    ckpt.write_checkpoint(best, content())
    assert ckpt.locate(tmp_path) == best
    assert ckpt.locate(best.parent) == best
    assert ckpt.locate(best) == best
