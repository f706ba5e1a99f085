"""Files that are no checkpoint of the run they should be of: one sentence that says what they are, and no code runs."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from se3t.cli.main import main
from se3t.config import Config, QM9Data
from se3t.deploy.export import export
from se3t.deploy.predict import load
from se3t.errors import UserError
from se3t.measure.evaluate import evaluate
from se3t.reporting.report.runs import read_run
from se3t.runs import RunFolder
from se3t.runs.checks import require_file_unchanged
from se3t.runs.files import digest_of_metrics, read_metrics, require_sealed, seal
from se3t.runs.names import CONFIG, DAMAGED, DIGESTS, FAILED, FAILURE, METRICS, RESULT
from se3t.tasks import require_no_download
from se3t.training import checkpoint as ckpt
from se3t.training.train import train

from .parts import build, small_config

STATE = {"linear.weight": torch.ones(2, 3)}
MINE = {"format": ckpt.FORMAT, "kind": "best", "config": {}, "step": 1, "state_dict": {"model.w": torch.ones(2)}}


class Unknown:
    pass


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trap",)


def save(value: object) -> Callable[[Path], None]:
    return lambda path: torch.save(value, path)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in MINE.items() if key != name}


def truncated(path: Path) -> None:
    torch.save(MINE, path)
    os.truncate(path, path.stat().st_size // 2)


def another_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))


def script(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/m.py"):
            archive.writestr(name, "x")


FOREIGN: dict[str, tuple[Callable[[Path], None], str]] = {
    "of Lightning": (save({"pytorch-lightning_version": "2.5", "state_dict": STATE}), "but one of PyTorch Lightning"),
    "weights alone": (save(STATE), "but weights alone, without model and data"),
    "of a training script": (save({"epoch": 3, "model_state_dict": STATE}), "a file that holds 'epoch', 'model_state"),
    "of another format": (save({**MINE, "format": 99}), "but one of another format, 99 where this version reads 1"),
    "an empty mapping": (save({}), "but a file that holds nothing"),
    "a list": (save([1, 2]), "holds a list"),
    "a tensor": (save(torch.ones(3)), "holds a Tensor"),
    "without settings": (save(without("config")), "its part 'config' is missing"),
    "without weights": (save(without("state_dict")), "its part 'state_dict' is missing"),
    "without a step": (save(without("step")), "its part 'step' is missing"),
    "settings that are none": (save({**MINE, "config": "x"}), "its part 'config' is a str"),
    "weights that are none": (save({**MINE, "state_dict": {"model.w": 3}}), "'model.w' is not a weight but a int"),
    "facts that are none": (save({**MINE, "facts": [1]}), "its part 'facts' is a list"),
    "no state to go on": (save({**MINE, "kind": "step"}), "its part 'run' is missing"),
    "an unknown class": (save({**MINE, "extra": Unknown()}), "refused: it asks for"),
    "a command": (save({**MINE, "extra": Command()}), "refused: it asks for"),
    "a whole model": (save(torch.nn.Linear(2, 2)), "refused: it asks for torch.nn.modules.linear.Linear"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(Command())) and None, "is damaged or was not written by"),
    "truncated": (truncated, "is damaged or was not written by torch.save"),
    "another zip archive": (another_archive, "another zip archive"),
    "a compressed archive": (bomb, "a compressed zip archive"),
    "TorchScript": (script, "a TorchScript archive"),
    "ONNX": (lambda path: path.write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(200)) and None, "is damaged or was not"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)) and None, "is damaged or was not"),
    "text": (lambda path: path.write_text("hello") and None, "is damaged or was not written by torch.save"),
    "empty": (lambda path: path.write_bytes(b"") and None, "is empty"),
    "a folder": (lambda path: path.mkdir(), "holds no checkpoints/best.ckpt"),
}
READERS: dict[str, Callable[[Path], object]] = {
    "eval": evaluate,
    "predict": load,
    "export": lambda path: export(path, Path("model")),
}


@pytest.mark.parametrize(("make", "told"), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_file_is_refused_in_one_sentence(
    make: Callable[[Path], None], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("a.ckpt")
    make(path)
    for read in READERS.values():
        with pytest.raises(UserError) as error:
            read(path)
        text = str(error.value)
        assert text.startswith("a.ckpt: ")
        assert told in text
        assert "\n" not in text
        assert "weights_only" not in text
        assert "torch.load" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("text", ["${oc.env:SECRET}", "${oc.decode:x}", "runs/${seed}", "a${oc.env:SECRET}b"])
@pytest.mark.parametrize("name", ["runs", "preset"])
def test_an_interpolation_in_the_settings_of_a_checkpoint_is_not_resolved(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    path = tmp_path / "a.ckpt"
    torch.save({**MINE, "config": {**asdict(Config()), name: text}}, path)
    for read in READERS.values():
        with pytest.raises(UserError, match=rf"a\.ckpt: its setting {name} is .*; expected a plain value") as error:
            read(path)
        assert "hunter2" not in str(error.value)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path, Path]:
    config = small_config(tmp_path_factory.mktemp("runs"))
    return config, train(config, build=build).parent, train(replace(config, seed=1), build=build).parent


@pytest.fixture
def folder(folders: tuple[Config, Path, Path], tmp_path: Path) -> Path:
    """A copy of a finished run."""
    import shutil

    return Path(shutil.copytree(folders[1], tmp_path / folders[1].name))


def refused(folder: Path, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        evaluate(folder, build=build)
    assert "\n" not in str(error.value)


def test_a_run_is_written_with_digests_that_hold(folder: Path) -> None:
    result = RunFolder(folder).read_result()
    assert require_sealed(result, "it")
    assert set(result[DIGESTS]) == {"metrics.jsonl", "checkpoints/best.ckpt"}
    lines = read_metrics(folder / METRICS)
    require_file_unchanged(folder, METRICS, digest_of_metrics(lines))
    assert evaluate(folder, build=build)["metrics"] == result["test"]


def test_the_checkpoint_of_another_run_is_refused(folders: tuple[Config, Path, Path], folder: Path) -> None:
    other = (folders[2] / "checkpoints" / ckpt.BEST).read_bytes()
    (folder / "checkpoints" / ckpt.BEST).write_bytes(other)
    refused(folder, r"best\.ckpt: field 'config\.seed' is 1, but 0 in .*config\.yaml; it is one of another run")


@pytest.mark.parametrize("part", ["state_dict", "facts"])
def test_a_changed_checkpoint_is_refused_and_one_of_a_run_that_goes_on_is_not(folder: Path, part: str) -> None:
    path = folder / "checkpoints" / ckpt.BEST
    content = ckpt.read_checkpoint(path).content
    weights = {name: value + 1e-3 for name, value in content["state_dict"].items()}
    ckpt.write_checkpoint(path, {**content, **({"facts": {"mean": 1.0}} if part == "facts" else {part: weights})})
    refused(folder, r"checkpoints/best\.ckpt: does not match the digest in .*result\.json")
    text = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(text.replace("max_steps: 12", "max_steps: 24"))
    evaluate(folder, build=build)


def test_a_changed_result_is_not_reported_as_the_finished_run(folders: tuple[Config, Path, Path], folder: Path) -> None:
    content = json.loads((folder / RESULT).read_text())
    content["test"]["mse_x"] *= 0.5
    (folder / RESULT).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"result\.json: its content does not match its field 'digest'"):
        train(folders[0], folder, build=build)
    assert read_run(folder).state == DAMAGED


@pytest.mark.parametrize("name", ["config", "budget", "data"])
def test_a_result_with_something_else_in_a_part_is_refused_by_field(
    name: str, folders: tuple[Config, Path, Path], folder: Path
) -> None:
    content = json.loads((folder / RESULT).read_text()) | {name: [1]}
    (folder / RESULT).write_text(json.dumps(seal(content)))
    with pytest.raises(UserError, match=rf"result\.json: field '{name}' should be an object, got \[1\]"):
        train(folders[0], folder, build=build)


def test_damaged_measurements_are_named_when_a_run_is_continued(
    folders: tuple[Config, Path, Path], folder: Path
) -> None:
    (folder / RESULT).unlink()
    path = folder / METRICS
    path.write_text("{\n" + path.read_text())
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 1 is not valid JSON"):
        train(replace(folders[0], resume=True), folder, build=build)


def test_why_a_run_failed_stands_in_its_folder_until_it_goes_on(
    folders: tuple[Config, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise UserError("the training loss became nan")

    config, folder = folders[0], tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("se3t.training.train.finish", fail)
        with pytest.raises(UserError):
            train(config, folder, build=build)
    run = read_run(folder)
    assert (run.state, run.problem, run.steps[0]) == (FAILED, "the training loss became nan", 10)
    train(replace(config, resume=True), folder, build=build)
    assert not (folder / FAILURE).exists()


def test_nothing_is_downloaded_to_measure_a_model(tmp_path: Path) -> None:
    data = QM9Data(root=str(tmp_path))
    with pytest.raises(UserError, match=r"the data of this run are not here; get them first: se3t data prepare qm9"):
        require_no_download(replace(Config(), data=data))
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_says_it_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(STATE)(Path("a.ckpt"))
    assert main(["eval", "checkpoint=a.ckpt"]) == 2
    assert main(["export", "--checkpoint", "a.ckpt", "--to", "model"]) == 2
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 2
    assert all("a.ckpt: not a checkpoint of se3t but weights alone" in line for line in told)
