"""Models that come with the package: found by name, used where none is named, never in place of a path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from se3t import deploy, pretrained
from se3t.cli.completion import script
from se3t.deploy.export import FILES, export
from se3t.deploy.predict import Predictor
from se3t.measure.evaluate import evaluate
from training.molecule_parts import build, config_of, finished_run, molecules, sdf

from .conftest import Run
from .test_predict import table

_LARGEST = 6 * 10**6  # bytes of all models of the package


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return finished_run(folder / "run", config_of(folder, target="homo+mu"))


@pytest.fixture
def folder(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file of molecules, and a package that holds two models."""
    monkeypatch.setattr(pretrained, "ROOT", tmp_path / "package")
    for name in ("qm9", "qm9-homo"):
        export(trained, pretrained.ROOT / name)
    (tmp_path / "a.sdf").write_text(sdf(molecules("test")))
    return tmp_path


def test_without_a_model_that_of_the_package_predicts_and_is_described(run: Run, folder: Path, trained: Path) -> None:
    answer = run("predict", "a.sdf")
    assert (answer.status, answer.err) == (0, "")
    assert "trained on 10 molecules of H, C, N, O (QM9; model qm9 of this package)\n" in answer.out
    valid = json.loads((trained / "result.json").read_text())["valid"]
    assert f"molecular orbital, in meV; mean absolute error on validation {valid['mae_homo']:.3g} meV\n" in answer.out
    assert f"mean absolute error on validation {valid['mae_mu']:.3g} D\n" in answer.out
    expected = deploy.load(trained)(molecules("test"))
    rows = table(folder / "predictions.csv")
    found = torch.tensor([[float(row["homo (meV)"]), float(row["mu (D)"])] for row in rows], dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("words", [("--checkpoint", "qm9", "a.sdf"), ("a.sdf", "qm9")])
def test_a_name_stands_for_the_model(run: Run, folder: Path, words: tuple[str, ...]) -> None:
    assert run("predict", *words, "--out", "named.csv").status == 0
    assert run("predict", "a.sdf").status == 0
    assert (folder / "named.csv").read_bytes() == (folder / "predictions.csv").read_bytes()


def test_python_loads_a_model_by_name(folder: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = deploy.load(trained)(molecules("test"))
    for model in (deploy.load(), deploy.load("qm9"), deploy.load("qm9-homo")):
        assert isinstance(model, Predictor)
        assert torch.equal(model(molecules("test")), expected)
    assert evaluate("qm9", "valid", build=build)["metrics"] == evaluate(trained, "valid", build=build)["metrics"]


def test_a_path_always_wins(run: Run, folder: Path) -> None:
    other = finished_run(folder / "qm9", config_of(folder, target="u0"))
    assert run("predict", "a.sdf", "--checkpoint", "qm9").status == 0
    assert list(table(folder / "predictions.csv")[0])[3] == "u0 atomisation (meV)"
    (other / "checkpoints" / "best.ckpt").unlink()
    answer = run("predict", "a.sdf", "--checkpoint", "qm9", "--force")
    assert answer.status == 2
    assert answer.err.startswith("se3t: qm9: holds no checkpoints/best.ckpt")
    assert answer.err.endswith(f"; the model of this package that has this name is {pretrained.ROOT / 'qm9'}\n")
    assert run("predict", "a.sdf", "--force").status == 0
    assert list(table(folder / "predictions.csv")[0])[3:5] == ["homo (meV)", "mu (D)"]


@pytest.mark.parametrize(
    "words", [("predict", "--checkpoint", "qm8", "a.sdf"), ("eval", "checkpoint=qm8"), ("eval", "qm8")]
)
def test_an_unknown_name_suggests_the_nearest(run: Run, folder: Path, words: tuple[str, ...]) -> None:
    answer = run(*words)
    assert answer.status == 2
    assert answer.err.startswith("se3t: qm8: there is no such ")
    assert answer.err.endswith("; models of this package: did you mean 'qm9'? known: qm9, qm9-homo\n")


def test_evaluation_takes_a_name(run: Run, folder: Path) -> None:
    """As far as the data, which are not there."""
    for words in (("eval", "qm9"), ("eval", "checkpoint=qm9")):
        answer = run(*words)
        assert answer.status == 2
        assert answer.err.startswith("se3t: data/qm9/qm9.h5: the data of this run are not here; ")


def test_the_names_are_told(run: Run, folder: Path) -> None:
    for command in ("predict", "eval"):
        assert "qm9, qm9-homo" in run(command, "--help").out
    assert "trained models\n  qm9, qm9-homo\n" in run("doctor").out
    assert 'compgen -f -W "qm9 qm9-homo"' in script("bash")


def test_models_of_the_package_are_whole_small_and_predict() -> None:
    files = [path for path in pretrained.ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < _LARGEST
    assert pretrained.DEFAULT in pretrained.names()
    assert {path.parent.name for path in files} - {pretrained.ROOT.name} == set(pretrained.names())
    for name in pretrained.names():
        assert {path.name for path in (pretrained.ROOT / name).iterdir()} == set(FILES)
        model = deploy.load(pretrained.ROOT / name)
        assert torch.isfinite(model(molecules("test"))).all()
        assert set(model.facts["elements_seen"]) >= {1, 6, 7, 8}
