"""Exported models: the same predictions as the run, settings without folders, a card with the numbers of the record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from se3t.config import LoggerConfig, MoleculesData, QM9Data, ScanObjectNNData, SchNetModel
from se3t.deploy import export as export_module
from se3t.deploy.export import FILES, export
from se3t.deploy.predict import load
from se3t.errors import UserError
from se3t.measure.evaluate import evaluate
from se3t.runs import RunFolder
from se3t.runs.files import seal, write_json
from se3t.runs.names import CHECKPOINTS
from se3t.training import checkpoint as ckpt
from se3t.training.finish import finish
from se3t.training.run import Run
from training import cloud_parts, parts
from training.molecule_parts import build, config_of, finished_run, molecules


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "homo")


def result(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "result.json").read_text())
    return found


def row(card: str, first: str) -> list[str]:
    """Cells of the row of a table that begins so."""
    found = re.search(rf"^\| {re.escape(first)} \|(.*)\|$", card, re.MULTILINE)
    assert found is not None, f"{first} not in\n{card}"
    return [cell.strip() for cell in found[1].split("|")]


def card_of(run: Path, folder: Path) -> str:
    export(run, folder)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_an_exported_model_predicts_and_evaluates_as_its_run(tmp_path: Path, run: Path) -> None:
    export(run, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert {path.name for path in (tmp_path / "model").iterdir()} == set(FILES)
    mine, theirs = (load(path)(molecules("test")) for path in (tmp_path / "model", run))
    assert torch.equal(mine, theirs)
    measured = evaluate(tmp_path / "model", build=build)
    assert measured["metrics"]["mae"] == pytest.approx(result(run)["test"]["mae"], rel=1e-6)


def test_weights_are_plain_tensors_and_nothing_of_the_training_is_left(tmp_path: Path, run: Path) -> None:
    content = ckpt.read_checkpoint(ckpt.locate(run)).content
    path = tmp_path / "averaged" / "checkpoints" / "best.ckpt"
    ckpt.write_checkpoint(path, {**content, "current_model_state": {"model.x": torch.zeros(3)}})
    export(tmp_path / "averaged", tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    loaded = ckpt.load(tmp_path / "model")
    assert set(loaded.content) == {"format", "kind", "config", "step", "metrics", "state_dict", "facts"}
    expected = ckpt.load(run)
    assert weights.keys() == loaded.weights.keys() == expected.weights.keys()
    for name, tensor in expected.weights.items():
        assert torch.equal(weights[name], tensor)
        assert torch.equal(loaded.weights[name], tensor)
    assert loaded.facts == expected.facts
    assert loaded.content["metrics"] == expected.content["metrics"]


def test_equal_models_make_equal_files(tmp_path: Path, run: Path) -> None:
    for name in ("a", "b"):
        export(run, tmp_path / name)
    assert len({(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")}) == 1


def test_a_folder_exported_by_an_earlier_version_is_read_and_replaced(tmp_path: Path, run: Path) -> None:
    content, folder = ckpt.load(run).content, tmp_path / "model"
    ckpt.write_checkpoint(folder / "model.ckpt", {**content, "kind": "exported"})
    (folder / "README.md").touch()
    assert torch.equal(load(folder)(molecules("test")), load(run)(molecules("test")))
    export(run, folder, force=True)
    assert {path.name for path in folder.iterdir()} == set(FILES)


def _changed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


@pytest.mark.parametrize(
    ("damage", "told"),
    {
        "truncated": (lambda data: data[: len(data) // 2], "is damaged or no safetensors file"),
        "empty": (lambda data: b"", "is damaged or no safetensors file"),
        "text": (lambda data: b"hello, this is no model", "is damaged or no safetensors file"),
        "a weight": (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "it does not have its checksum"),
        "a fact": (lambda data: _changed(data, b"c0ffee" * 8, b"coffee" * 8), "it does not have its checksum"),
        "no JSON": (lambda data: _changed(data, b'{\\"content', b'(\\"content'), "its metadata cannot be read"),
        "of another program": (lambda _: save({"w": torch.ones(2)}), "holds weights alone, without model and data"),
    }.values(),
)
def test_a_damaged_export_is_refused_in_one_sentence(
    tmp_path: Path, run: Path, damage: Callable[[bytes], bytes], told: str
) -> None:
    export(run, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    for read in (load, evaluate, partial(export, folder=tmp_path / "again")):
        with pytest.raises(UserError, match=rf"model\.safetensors: .*{told}") as error:
            read(tmp_path / "model")
        assert "\n" not in str(error.value)


def test_a_model_that_shares_tensors_is_exported(tmp_path: Path) -> None:
    small = SchNetModel(channels=8, num_filters=8, num_layers=1, num_gaussians=5)
    run = finished_run(tmp_path / "run", config_of(tmp_path, small, QM9Data(graph="complete")))
    export(run, tmp_path / "model")
    assert torch.equal(load(tmp_path / "model")(molecules("test")), load(run)(molecules("test")))


def test_settings_name_no_folder_and_no_account(tmp_path: Path) -> None:
    config = config_of(tmp_path, data=MoleculesData(root="/home/me/data", raw="/home/me/mine.sdf"), column="solubility")
    run = finished_run(tmp_path / "run", replace(config, logger=LoggerConfig(project="secret")))
    export(run, tmp_path / "model")
    settings = (tmp_path / "model" / "config.yaml").read_text()
    stored = str(ckpt.load(tmp_path / "model").content["config"])
    card = (tmp_path / "model" / "README.md").read_text()
    for text in (settings, stored, card):
        assert "/home/me" not in text
        assert str(tmp_path) not in text
        assert "secret" not in text
    assert "raw: mine.sdf" in settings


# --- the card ---------------------------------------------------------------------------------------------------------


def test_the_card_has_the_numbers_of_the_record(tmp_path: Path, run: Path) -> None:
    card, found = card_of(run, tmp_path / "model"), result(run)
    assert card.startswith("# SE(3)-Transformer: homo\n")
    valid, test = found["valid"], found["test"]
    assert row(card, "mean absolute error") == [f"{valid['mae']:.4g}", f"{test['mae']:.4g}", "meV"]
    mean, composition = (found["data"]["baselines"][name][0] for name in ("mean", "composition"))
    mean_on_valid = valid["mae"] / valid["relative_mae"]
    assert row(card, "… mean predictor, without a network") == [f"{mean_on_valid:.4g}", f"{mean:.4g}", "meV"]
    assert row(card, "… linear in composition, without a network") == ["–", f"{composition:.4g}", "meV"]
    errors = [f"{part['equivariance_error']:.4g}" for part in (valid, test)]
    assert row(card, "equivariance error (change when the input is rotated)")[:2] == errors
    assert row(card, "parameters") == [f"{found['parameters']:,}"]
    assert row(card, "target") == ["homo (ε_HOMO)"]
    assert f"`{found['data']['checksum']}`" in card
    assert "- elements of the training molecules: H, C, N, O\n" in card
    assert "- largest training molecule: 12 atoms\n" in card
    assert "\n- not tested on atoms with other bonded neighbours, or bonds of other lengths, than in training; " in card
    assert f"torch {found['versions']['torch']}" in card
    for words in ("B3LYP/6-31G(2df,p)", "neutral molecules", "MIT licence", "arXiv:2006.10503", "sdata.2014.22"):
        assert words in card


def test_the_card_has_the_command_of_the_training_without_its_folders(tmp_path: Path) -> None:
    data = MoleculesData(root="/home/me/data", raw="/home/me/my molecules.sdf")
    run = finished_run(tmp_path / "run", config_of(tmp_path, data=data, column="solubility"))
    assert "\nse3t train" not in card_of(run, tmp_path / "unknown")
    typed = ["experiment=qm9", "data=molecules", "task.column=solubility", "optim.lr=0.002", "data.root=/home/me/data"]
    typed += ["data.raw=/home/me/my molecules.sdf", "runs=/home/me/runs", "logger.project=secret", "resume=true"]
    write_json(run / "provenance.json", {"sessions": [{"overrides": typed}, {"overrides": ["optim.lr=0.001"]}]})
    line = "se3t train experiment=qm9 data=molecules task.column=solubility optim.lr=0.001 'data.raw=my molecules.sdf'"
    assert f"\n```bash\n{line}\n```\n" in card_of(run, tmp_path / "model")


def test_the_card_of_a_record_without_a_digest_says_so(tmp_path: Path) -> None:
    made = finished_run(tmp_path / "run", config_of(tmp_path))
    assert "unverified" not in card_of(made, tmp_path / "model")
    content = {name: value for name, value in result(made).items() if name not in ("digest", "digests")}
    (made / "result.json").write_text(json.dumps(content), encoding="utf-8")
    assert "- **unverified**: the run record is of an earlier version" in card_of(made, tmp_path / "old")


def test_the_card_calls_a_subset_of_qm9_one(tmp_path: Path, run: Path) -> None:
    card = card_of(run, tmp_path / "model")
    assert "- data: QM9 subset: not all molecules of the official splits\n" in card
    assert "- training: 10 of 100,000\n" in card


def test_the_card_says_what_an_atomisation_energy_is(tmp_path: Path) -> None:
    card = card_of(finished_run(tmp_path / "run", config_of(tmp_path, target="u0")), tmp_path / "model")
    assert "atomisation energy at 0 K, less the energies of the single atoms: negative for bound molecules" in card


def test_the_card_of_own_molecules_says_nothing_of_qm9(tmp_path: Path) -> None:
    config = config_of(tmp_path, data=MoleculesData(raw="/nowhere/mine.sdf"), column="solubility")
    card = card_of(finished_run(tmp_path / "run", config), tmp_path / "model")
    assert "column 'solubility' of the training table" in card
    for words in ("B3LYP", "doi", "official", "QM9"):
        assert words not in card


def test_names_of_others_are_text_in_the_card(tmp_path: Path) -> None:
    config = config_of(tmp_path, data=MoleculesData(raw="/nowhere/mine.sdf"), column="[k]|<b>")
    card = card_of(finished_run(tmp_path / "run", config), tmp_path / "model")
    assert "<b>" not in card
    assert re.search(r"^\| target \| \\\[k\\\]\\\|&lt;b&gt; ", card, re.MULTILINE)


def test_an_unfinished_run_is_called_one(tmp_path: Path, run: Path) -> None:
    folder = tmp_path / "run"
    for name in ("checkpoints/best.ckpt", "provenance.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((run / name).read_bytes())
    card, valid = card_of(folder, tmp_path / "model"), result(run)["valid"]
    assert "**this run had not finished**" in card
    assert "Not measured on test: the run has not finished." in card
    assert row(card, "mean absolute error") == [f"{valid['mae']:.4g}", "–", "meV"]
    assert row(card, "… mean predictor, without a network")[0] == f"{valid['mae'] / valid['relative_mae']:.4g}"
    assert "torch " in card


def test_a_time_that_limits_a_training_is_told(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    config = replace(config, trainer=replace(config.trainer, max_time="00:00:01", max_steps=10**6))
    folder = finished_run(tmp_path / "run", config)
    content = result(folder)
    content["budget"] |= {"steps_done": 1234, "ended_by": "time"}
    write_json(folder / "result.json", content, sealed=True)
    assert "- steps: 1,234 in 1 s of training, batches of " in card_of(folder, tmp_path / "model")
    (folder / "result.json").unlink()
    assert " of 1,000,000 planned, in at most 1 s of training, batches of " in card_of(folder, tmp_path / "again")


def test_a_result_of_other_weights_is_not_used(tmp_path: Path, run: Path) -> None:
    """As when a finished run is continued: its best weights are newer than its result."""
    content = ckpt.read_checkpoint(ckpt.locate(run)).content
    ckpt.write_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", {**content, "step": 4})
    (tmp_path / "run" / "result.json").write_bytes((run / "result.json").read_bytes())
    assert "**this run had not finished**" in card_of(tmp_path / "run", tmp_path / "model")


def test_a_run_without_test_molecules_says_so(tmp_path: Path, run: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    found = result(run)
    found["data"]["baseline_split"] = "valid"
    found["data"]["sizes"]["test"] = 0
    (folder / "result.json").write_text(json.dumps(seal({**found, "test": None})))
    card = card_of(folder, tmp_path / "model")
    assert "Not measured on test: the data hold no test split." in card
    mean = found["data"]["baselines"]["mean"][0]
    assert row(card, "… mean predictor, without a network") == [f"{mean:.4g}", "–", "meV"]


def test_a_run_of_particles_has_a_card_without_chemistry(tmp_path: Path) -> None:
    config, run = parts.small_config(tmp_path), tmp_path / "run"
    task, model = parts.build(config)
    finish(Run(config, RunFolder(run), task, model, torch.device("cpu")))
    card, found = card_of(run, tmp_path / "model"), result(run)
    baseline = found["data"]["baselines"]["constant_velocity"][0]
    test = found["test"]["mse_x"]
    assert row(card, "mean squared error of positions")[1] == f"{test:.4g}"
    assert row(card, "… constant velocity, without a network")[1] == f"{baseline:.4g}"
    for words in ("QM9", "molecule", "predict --checkpoint"):
        assert words not in card
    measured = evaluate(tmp_path / "model", build=parts.build)
    assert measured["metrics"]["mse_x"] == pytest.approx(test, rel=1e-6)


# --- what is in the way -----------------------------------------------------------------------------------------------


def test_a_folder_is_replaced_only_by_force_and_only_if_it_was_exported(tmp_path: Path, run: Path) -> None:
    folder = tmp_path / "model"
    export(run, folder)
    before = (folder / "README.md").read_bytes()
    (folder / "README.md").write_text("changed")
    with pytest.raises(UserError, match=r"model: exists; give another name, or --force to replace it"):
        export(run, folder)
    export(run, folder, force=True)
    assert (folder / "README.md").read_bytes() == before
    (folder / "notes.txt").touch()
    with pytest.raises(UserError, match=r"model: exists and holds notes.txt; give the name of a new folder"):
        export(run, folder, force=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: exists and is no exported model"):
        export(run, tmp_path / "empty", force=True)
    with pytest.raises(UserError, match=r"notes.txt: is a file"):
        export(run, folder / "notes.txt", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "model"]


@pytest.mark.parametrize("exists", [False, True])
def test_an_interrupted_export_leaves_what_was_there(
    tmp_path: Path, run: Path, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    if exists:
        export(run, folder)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "write_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(run, folder, force=True)
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if exists else [])
    if exists:
        assert {path.name for path in folder.iterdir()} == set(FILES)


def test_weights_that_validation_did_not_choose_are_refused(tmp_path: Path, run: Path) -> None:
    content = ckpt.read_checkpoint(ckpt.locate(run)).content
    ckpt.write_checkpoint(tmp_path / "step.ckpt", {**content, "kind": "step", "run": {}})
    with pytest.raises(UserError, match=r"step.ckpt: a checkpoint to continue from, .*: give the run folder"):
        export(tmp_path / "step.ckpt", tmp_path / "model")
    ckpt.write_checkpoint(tmp_path / "model.pt", {"format": 1, "kind": "model", "model": {}})
    with pytest.raises(UserError, match=r"model.pt: a converted model"):
        export(tmp_path / "model.pt", tmp_path / "model")
    with pytest.raises(UserError, match=CHECKPOINTS):
        export(tmp_path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_classifier_is_exported_with_its_classes_and_synthetic_data_are_called_so(tmp_path: Path) -> None:
    config = cloud_parts.config_of(tmp_path)
    config = replace(config, data=ScanObjectNNData(root="/home/me/data", raw="/home/me/h5_files.zip"))
    run = cloud_parts.finished_run(tmp_path / "run", config)
    card = card_of(run, tmp_path / "model")
    facts = ckpt.read_checkpoint(ckpt.locate(run)).content["facts"]
    assert facts["synthetic"]
    assert "- data: synthetic" in card
    assert "trained on synthetic scans: not tested on real ones" in card
    assert f"- classes: {', '.join(facts['classes'])}" in card
    accuracy, majority = result(run)["test"]["accuracy"], result(run)["data"]["baselines"]["majority"][0]
    assert row(card, "accuracy (share of objects)")[1] == f"{accuracy:.4g}"
    assert row(card, "… majority class, without a network")[1] == f"{majority:.4g}"
    assert "/home/me" not in (tmp_path / "model" / "config.yaml").read_text()
