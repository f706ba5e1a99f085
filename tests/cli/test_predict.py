"""``se3t predict`` and ``se3t export``: files, flags, what is said, and exit statuses."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import torch

from se3t import pretrained
from se3t.deploy import predict as predict_module
from se3t.deploy.predict import Predictor, load
from training.molecule_parts import config_of, finished_run, molecule, molecules, sdf, xyz

from .conftest import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "homo")


@pytest.fixture
def folder(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the run folder and nothing else: no data, no settings, no model of the package."""
    monkeypatch.setattr(pretrained, "ROOT", tmp_path / "none")
    shutil.copytree(trained, tmp_path / "homo")
    return tmp_path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_of_all_formats_make_one_table(run: Run, folder: Path) -> None:
    (folder / "a.sdf").write_text(sdf([molecule("CCO"), molecule("CF")]))
    (folder / "b.xyz").write_text(xyz(molecule("CC"), "ethane") + xyz(molecule("[NH4+]"), "charge=1"))
    (folder / "c.smi").write_text("C methane\nnonsense\n")
    answer = run("predict", "--checkpoint", "homo", "a.sdf", "b.xyz", "c.smi")
    assert answer.status == 0
    assert answer.err == ""
    rows = table(folder / "predictions.csv")
    assert [(row["file"], row["index"], row["identifier"]) for row in rows] == [
        ("a.sdf", "1", "CCO"), ("a.sdf", "2", "CF"), ("b.xyz", "1", "ethane"), ("b.xyz", "2", "charge=1"),
        ("c.smi", "1", "methane"), ("c.smi", "2", "nonsense"),
    ]  # fmt: skip
    expected = load(folder / "homo")([molecule("CCO"), molecule("CC")])
    found = [float(rows[place]["homo (meV)"]) for place in (0, 2)]
    assert found == pytest.approx(expected[:, 0].tolist(), abs=1e-3)
    assert [row["status"].partition(":")[0] for row in rows] == ["ok", "not predicted"] * 3
    assert [row["homo (meV)"] == "" for row in rows] == [False, True] * 3
    assert rows[0]["geometry"] == "as in the file"
    assert rows[4]["geometry"].startswith("embedded by RDKit 20")
    assert "homo (meV): energy of the highest occupied molecular orbital, in meV; mean absolute error" in answer.out
    assert "predictions.csv: 3 predicted, 0 of them with a warning; 3 not predicted\n" in answer.out
    assert "not predicted: a.sdf 2 (CF): element F not among the training molecules\n" in answer.out
    assert "1 from SMILES: RDKit" in answer.out
    assert answer.files == ["a.sdf", "b.xyz", "c.smi", "homo", "predictions.csv"]


def test_standard_output_gets_the_table_alone(run: Run, folder: Path) -> None:
    (folder / "a.sdf").write_text(sdf(molecules("test")))
    answer = run("predict", "a.sdf", "--out", "-", "--checkpoint", "homo/checkpoints/best.ckpt", "--device", "cpu")
    assert answer.status == 0
    lines = answer.out.splitlines()
    assert lines[0] == "file,index,identifier,homo (meV),geometry,status"
    assert len(lines) == 4
    assert "standard output: 3 predicted" in answer.err
    assert answer.files == ["a.sdf", "homo"]


def test_several_checkpoints_have_a_column_each(run: Run, folder: Path) -> None:
    finished_run(folder / "u0", config_of(folder, target="u0"))
    (folder / "a.sdf").write_text(sdf(molecules("test")))
    answer = run("predict", "--checkpoint", "homo", "--checkpoint=u0", "a.sdf", "--batch-size", "1", "--out", "b.csv")
    assert answer.status == 0
    assert "u0 atomisation (meV): atomisation energy at 0 K, less the energies of the single atoms" in answer.out
    assert all(row["homo (meV)"] and row["u0 atomisation (meV)"] for row in table(folder / "b.csv"))


def test_none_predicted_is_status_1_and_the_reasons_are_written(run: Run, folder: Path) -> None:
    (folder / "a.smi").write_text("CF\nCCF\n" * 4)
    answer = run("predict", "--checkpoint", "homo", "a.smi")
    assert answer.status == 1
    assert "0 predicted, 0 of them with a warning; 8 not predicted" in answer.out
    assert answer.out.count("element F") == 5
    assert "column status has the reason of each" in answer.out
    assert len(table(folder / "predictions.csv")) == 8


def test_a_table_is_replaced_only_by_force(run: Run, folder: Path) -> None:
    (folder / "a.sdf").write_text(sdf(molecules("test")))
    (folder / "predictions.csv").write_text("mine")
    answer = run("predict", "--checkpoint", "homo", "a.sdf")
    assert answer.status == 2
    assert answer.err == ("se3t: predictions.csv: exists; give another name with --out, or --force to replace it\n")
    assert (folder / "predictions.csv").read_text() == "mine"
    assert run("predict", "--checkpoint", "homo", "a.sdf", "--force").status == 0
    assert len(table(folder / "predictions.csv")) == 3
    answer = run("predict", "--checkpoint", "homo", "a.sdf", "--out", "a.sdf", "--force")
    assert answer.status == 2
    assert "--out a.sdf: is one of the files to be read; give another name" in answer.err


def test_ctrl_c_leaves_no_table(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.sdf").write_text(sdf(molecules("train")))
    calls: list[int] = []

    def interrupted(self: Predictor, found: list[object]) -> torch.Tensor:
        calls.append(len(found))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return torch.zeros(len(found), dtype=torch.float64)

    monkeypatch.setattr(predict_module.Predictor, "__call__", interrupted)
    answer = run("predict", "--checkpoint", "homo", "a.sdf", "--batch-size", "2")
    assert answer.status == 130
    assert calls == [2, 2, 2]
    assert answer.files == ["a.sdf", "homo"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "predict: the following arguments are required: "),
        (["a.sdf"], "predict: the model is missing; add its run folder, such as --checkpoint runs/qm9/"),
        (["b.sdf"], "b.sdf: cannot be read (No such file or directory)"),
        (["--checkpoint", "homo"], "predict: the following arguments are required: FILE"),
        (["--checkpoint", "none", "a.sdf"], "none: there is no such checkpoint; give a run folder"),
        (["--checkpoint", ".", "a.sdf"], ".: holds no checkpoints/best.ckpt"),
        (["--checkpoint", "a.sdf", "a.sdf"], "a.sdf: is damaged or was not written by torch.save"),
        (["--checkpoint", "homo", "b.sdf"], "b.sdf: cannot be read (No such file or directory)"),
        (["--checkpoint", "homo", "homo"], "homo: of no known format; expected a file that ends with .sdf"),
        (
            ["--checkpoint", "homo", "a.sdf", "--batch-size", "0"],
            "argument --batch-size: got '0', expected a whole",
        ),
        (["--checkpoint", "homo", "a.sdf", "--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["--checkpoint", "homo", "a.sdf", "--force=yes"], "argument --force: ignored explicit argument"),
        (["--checkpoint", "homo", "a.sdf", "--colour"], "unrecognized arguments: --colour"),
        (["--checkpoint", "homo", "a.sdf", "--out", "homo"], "--out homo: is a folder or a device"),
        (["--checkpoint", "homo", "a.sdf", "--out", "a.sdf/b"], "a.sdf/b: cannot be written, "),
    ],
)
def test_a_wrong_command_is_one_sentence_and_leaves_nothing(
    run: Run, folder: Path, words: list[str], message: str
) -> None:
    (folder / "a.sdf").write_text(sdf(molecules("test")))
    answer = run("predict", *words)
    assert answer.status == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert answer.files == ["a.sdf", "homo"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(run: Run, folder: Path) -> None:
    (folder / "a.sdf").write_text(sdf(molecules("test")))
    answer = run("predict", "--checkpoint", "homo", "a.sdf", "--device", "cuda")
    assert answer.status == 2
    assert answer.err == "se3t: --device cuda: torch finds no GPU here; use --device cpu (`se3t doctor` says why)\n"


# --- export -----------------------------------------------------------------------------------------------------------


def test_an_exported_folder_is_all_that_a_prediction_needs(run: Run, folder: Path) -> None:
    (folder / "a.sdf").write_text(sdf(molecules("test")))
    answer = run("export", "--checkpoint", "homo", "--to", "given/model")
    assert answer.status == 0
    assert answer.out.startswith("given/model: model.safetensors, config.yaml, README.md\n")
    assert "use: se3t predict molecules.sdf given/model\n" in answer.out
    assert run("predict", "--checkpoint", "homo", "a.sdf", "--out", "before.csv").status == 0
    shutil.rmtree(folder / "homo")
    assert run("predict", "--checkpoint", "given/model", "a.sdf", "--out", "after.csv").status == 0
    assert (folder / "after.csv").read_bytes() == (folder / "before.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint", "homo"], "export: the following arguments are required: --to"),
        (["--checkpoint", "none", "--to", "model"], "none: there is no such checkpoint"),
        (["--checkpoint", "homo", "--to", "homo"], "homo: exists and holds checkpoints; give the name of a new folder"),
    ],
)
def test_a_wrong_export_is_one_sentence_and_leaves_nothing(
    run: Run, folder: Path, words: list[str], message: str
) -> None:
    answer = run("export", *words)
    assert answer.status == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert answer.files == ["homo"]
