"""An experiment and a model of another package: installed beside this one, trained, listed, and tabled."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e  # another package
ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tests" / "example_package"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package is installed, as pip does it."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(PACKAGE)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(folder)}
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def trained(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the experiment was trained, with two models."""
    folder = tmp_path_factory.mktemp("work")
    se3t(site, folder, "train", "experiment=toy", "trainer.progress=false")
    se3t(site, folder, "train", "experiment=toy", "model=tfn", "model.num_layers=1", "trainer.progress=false")
    return folder


def se3t(site: Path, folder: Path, *words: str) -> str:
    path = os.pathsep.join([str(ROOT / "src"), str(site)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    command = [sys.executable, "-m", "se3t", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_experiment_from_outside_is_trained(trained: Path) -> None:
    (result,) = trained.glob("runs/toy/toy_model/*/result.json")
    content = json.loads(result.read_text(encoding="utf-8"))
    assert (content["experiment"], content["model"]) == ("toy", "toy_model")
    assert content["units"] == {"loss": "1", "mse": "length²"}
    assert content["test"]["mse"] < 0.1  # 1/5 of the sum over neighbours is exact
    assert len(list(trained.glob("runs/toy/tfn/*/result.json"))) == 1


def test_a_run_of_it_is_listed_and_evaluated(site: Path, trained: Path) -> None:
    assert "MSE 0." in se3t(site, trained, "runs", "experiment=toy")
    (run,) = trained.glob("runs/toy/toy_model/*")
    assert "mse" in se3t(site, trained, "eval", str(run))


def test_its_settings_are_checked_and_its_words_offered(site: Path, trained: Path) -> None:
    assert "num_points: 5" in se3t(site, trained, "train", "experiment=toy", "--cfg", "job")
    wrong = [sys.executable, "-m", "se3t", "train", "experiment=toy", "data.num_points=0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(site)])}
    done = subprocess.run(wrong, cwd=trained, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "data.num_points=0 is out of range" in done.stderr


def test_its_runs_fill_a_table_that_nobody_wrote(site: Path, trained: Path) -> None:
    for words in (["table"], ["table", "toy"]):
        printed = se3t(site, trained, *words)
        assert "Centres of clouds" in printed
        assert re.search(r"toy_model.*\n.*measured, 1 seed +0\.\d+ +1 +20", printed)
        assert "TFN" in printed
    rows = list(csv.DictReader(io.StringIO(se3t(site, trained, "table", "toy", "--format", "csv"))))
    (measured,) = [row["mean"] for row in rows if row["system"] == "toy_model" and row["metric"] == "mse"]
    (result,) = trained.glob("runs/toy/toy_model/*/result.json")
    assert float(measured) == json.loads(result.read_text(encoding="utf-8"))["test"]["mse"]
