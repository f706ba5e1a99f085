"""The synthetic stand-in goes the way of the real data, and is called synthetic wherever it shows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from se3t.cli.main import main
from se3t.config import Shapes15Data
from se3t.data.clouds.dataset import load_clouds
from se3t.data.clouds.objects import CLASSES
from se3t.experiments.scanobjectnn import SHAPES15


def test_synthetic_objects_have_the_schema_of_the_real_ones(tmp_path: Path) -> None:
    config = Shapes15Data(root=str(tmp_path), num_train=30, num_test=15)
    assert SHAPES15.recorded_checksum(config) is None
    data = load_clouds(config, progress=False)
    assert data.checksum == SHAPES15.recorded_checksum(config)
    assert (data.kind, data.synthetic, data.classes, data.up_axis) == ("shapes15", True, CLASSES, 1)
    assert (data.variant, data.official) == ("object only", {})
    assert data.points.shape == (45, 2048, 3)
    np.testing.assert_allclose(data.points.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(data.points, axis=-1).max(axis=1), 1, rtol=1e-5)
    assert [len(members) for members in data.splits.values()] == [15, 15, 15]


def test_the_command_calls_them_synthetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/se3t"])
    assert main(["data", "prepare", "shapes15", "data.num_train=30", "data.num_test=15"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("synthetic shapes15, object only, up is y: 15 train, 15 valid, 15 test\n")
    assert "nearest centroid" in out
    assert main(["data", "prepare", "shapes15", "seed=4"]) == 2
    assert "data.data_seed=4" in capsys.readouterr().err
