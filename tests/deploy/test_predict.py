"""Predictions from a checkpoint alone: they do not depend on how they are asked for, and refusals have reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from se3t.config import (
    DeepSetModel,
    MoleculesData,
    MPNNModel,
    QM9Data,
    SchNetModel,
    SetTransformerModel,
    TFNModel,
)
from se3t.data.molecules.inputs import Entry, read_molecules
from se3t.data.molecules.molecule import Molecule
from se3t.deploy import predict as predict_module
from se3t.deploy.predict import Predictor, load, num_edges, predict, write_table
from se3t.errors import UserError
from se3t.experiments.qm9 import mae_names
from se3t.so3 import random_rotation
from se3t.training import checkpoint as ckpt
from training import parts
from training.molecule_parts import SMILES, config_of, finished_run, molecule, molecules, sdf, task_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "homo")


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return load(run)


def entries(found: Sequence[Molecule]) -> list[Entry]:
    return [Entry("file.sdf", number, one.identifier, one) for number, one in enumerate(found, start=1)]


def values(predictor: Predictor, found: Sequence[Molecule], **options: Any) -> list[float]:
    rows = list(predict([predictor], entries(found), **options))
    return [value for row in rows for value in row.values if value is not None]


def everything() -> list[Molecule]:
    return [molecule(smiles) for members in SMILES.values() for smiles in members]


MODELS = {
    "se3_transformer": (None, {}, "bonds"),
    "reference": (None, {"reference": "composition"}, "bonds"),
    "several": (None, {"target": "homo+mu+alpha", "reference": "composition"}, "bonds"),
    "complete": (None, {}, "complete"),
    "radius": (None, {}, "radius"),
    "tfn": (TFNModel(num_layers=1, num_degrees=2, channels=4, pool_channels=8), {}, "bonds"),
    "schnet": (SchNetModel(channels=8, num_filters=8, num_layers=1, num_gaussians=5), {}, "complete"),
    "mpnn": (MPNNModel(channels=8, edge_hidden=8, num_layers=1, num_gaussians=4, set2set_steps=2), {}, "complete"),
    "deepset": (DeepSetModel(width=8), {"inputs": "atoms_positions"}, "bonds"),
    "set_transformer": (
        SetTransformerModel(width=8, num_layers=1, num_heads=2),
        {"inputs": "atoms_positions"},
        "bonds",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_the_evaluation_of_the_run(tmp_path: Path, name: str) -> None:
    model, task, graph = MODELS[name]
    config = config_of(tmp_path, model, QM9Data(graph=graph, radius=2.0), **task)
    run = finished_run(tmp_path / "run", config)
    data = task_of(config).data
    predicted = np.array(values(load(run), molecules("test"))).reshape(-1, len(data.properties))
    errors = np.abs(predicted - data.values[data.splits["test"]]).mean(0)
    measured = json.loads((run / "result.json").read_text())["test"]
    names = mae_names([learned.name for learned in data.properties])
    assert errors.tolist() == pytest.approx([measured[name] for name in names], rel=1e-6)
    assert len(set(predicted[:, 0].round(3))) == len(predicted)


def test_a_file_gives_the_predictions_of_its_molecules(tmp_path: Path, predictor: Predictor) -> None:
    path = tmp_path / "molecules.sdf"
    path.write_text(sdf(molecules("train")))
    rows = list(predict([predictor], read_molecules([path])))
    assert [row.status for row in rows] == ["ok"] * len(rows)
    assert [row.entry.identifier for row in rows] == list(SMILES["train"])
    assert [row.values[0] for row in rows] == pytest.approx(values(predictor, molecules("train")), rel=1e-7)


def test_a_rotated_and_moved_molecule_has_the_same_prediction(predictor: Predictor, generator: torch.Generator) -> None:
    rotation = random_rotation(1, generator=generator, dtype=torch.float64)[0].numpy()
    moved = [
        replace(one, positions=(one.positions.astype(np.float64) @ rotation.T + [3.0, -2.0, 1.0]).astype(np.float32))
        for one in everything()
    ]
    assert values(predictor, moved) == pytest.approx(values(predictor, everything()), abs=1e-4 * predictor.facts["std"])


def test_order_and_batches_do_not_matter(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    tolerance = 1e-5 * predictor.facts["std"]
    expected = values(predictor, everything())
    assert values(predictor, everything(), batch_size=1) == pytest.approx(expected, abs=tolerance)
    assert values(predictor, everything()[::-1], batch_size=3)[::-1] == pytest.approx(expected, abs=tolerance)
    monkeypatch.setattr(predict_module, "MAX_EDGES", 20)
    assert values(predictor, everything()) == pytest.approx(expected, abs=tolerance)


def test_the_same_call_gives_the_same_bits(run: Path) -> None:
    assert values(load(run), everything()) == values(load(run), everything())


def test_batches_are_bounded_by_molecules_and_by_edges(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[list[int]] = []
    call = Predictor.__call__

    def counted(self: Predictor, found: Sequence[Molecule]) -> Any:
        sizes.append([num_edges(one, self.settings) for one in found])
        return call(self, found)

    monkeypatch.setattr(Predictor, "__call__", counted)
    values(predictor, everything(), batch_size=3)
    assert [len(batch) for batch in sizes] == [3] * 5 + [1]
    sizes.clear()
    monkeypatch.setattr(predict_module, "MAX_EDGES", 23)
    values(predictor, everything())
    assert sum(map(len, sizes)) == len(everything())
    assert all(sum(edges) <= 23 or len(edges) == 1 for edges in sizes)
    assert max(map(len, sizes)) > 1
    assert max(map(sum, sizes)) > 23  # benzene, on its own


def test_a_molecule_without_bonds_is_predicted(predictor: Predictor) -> None:
    alone = replace(
        molecule("C"), numbers=molecule("C").numbers[:1], positions=molecule("C").positions[:1],
        bonds=molecule("C").bonds[:0], bond_classes=molecule("C").bond_classes[:0],
    )  # fmt: skip
    assert np.isfinite(values(predictor, [alone])).all()
    mixed = values(predictor, [molecule("CCO"), alone, molecule("CC")])
    assert mixed[1] == pytest.approx(values(predictor, [alone])[0], rel=1e-6)


# --- refusals and warnings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("CF", "element F not among the training molecules"),
        ("F[SiH3]", "elements F, Si not among the training molecules"),
    ],
)
def test_what_the_model_knows_nothing_about_is_refused(predictor: Predictor, smiles: str, reason: str) -> None:
    rows = list(predict([predictor], entries([molecule("CCO"), molecule(smiles), molecule("CC")])))
    assert [row.status for row in rows] == ["ok", f"not predicted: {reason}", "ok"]
    assert rows[1].values == (None,)


def test_a_zwitterion_is_neutral(predictor: Predictor) -> None:
    assert not next(predict([predictor], entries([molecule("[NH3+]CC(=O)[O-]")]))).reason


def test_more_atoms_than_the_largest_training_molecule_are_a_warning(predictor: Predictor) -> None:
    row = next(predict([predictor], entries([molecule("CCCCCC")])))
    assert predictor.facts["max_atoms"] == 12
    assert row.status == "warning: size: 20 atoms, more than the 12 of the largest training molecule"
    assert row.values[0] is not None


def test_molecules_unlike_those_of_the_training_are_a_warning(predictor: Predictor) -> None:
    """Also among others, in their own row, and for the geometry as it is."""
    ethanol = molecule("CCO")
    stretched = replace(ethanol, positions=ethanol.positions * np.float32(1.25))
    found = [ethanol, molecule("CO"), stretched, molecule("CC")]
    status = [row.status for row in predict([predictor], entries(found))]
    assert status[::3] == ["ok", "ok"]
    assert status[1] == "warning: environment: C(-H,-H,-H,-O) in no training molecule"
    numbers = r"of 1\.\d\d angstrom, [01]\.\d\d … 1\.\d\d among the training molecules"
    assert re.fullmatch(rf"warning: bond length: (C-C|C-O|H-C|H-O) {numbers}", status[2])


def test_a_model_of_an_earlier_version_gives_no_such_warning(predictor: Predictor) -> None:
    facts = {name: value for name, value in predictor.facts.items() if name not in predictor.domain.facts()}
    earlier = replace(predictor, facts=facts)
    assert next(predict([earlier], entries([molecule("CO")]))).status == "ok"


def test_models_share_a_warning_that_both_give(predictor: Predictor) -> None:
    row = next(predict([predictor, replace(predictor)], entries([molecule("CO")])))
    assert row.warnings == ("environment: C(-H,-H,-H,-O) in no training molecule",)


def test_warnings_are_summed_up_by_kind(predictor: Predictor) -> None:
    found = entries([molecule(smiles) for smiles in ("CCCCCC", "CCCCCCC", "CCCCCC", "CCO")])
    summary = write_table(lambda cells: None, [predictor], predict([predictor], found))
    assert {kind: texts.total() for kind, texts in summary.warnings.items()} == {"size": 3}
    assert list(summary.warnings["size"].values()) == [2, 1]


def test_too_large_a_graph_is_refused(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_module, "MAX_EDGES_OF_ONE", 20)
    row = next(predict([predictor], entries([molecule("CCCCCC")])))
    assert row.status == "not predicted: 20 atoms are too many for graphs of this kind (bonds)"


def test_an_output_that_is_no_number_is_refused(predictor: Predictor) -> None:
    broken = replace(predictor, facts={**predictor.facts, "std": float("nan")})
    row = next(predict([broken], entries([molecule("C")])))
    assert row.values == (None,)
    assert row.status == "not predicted: the network's output is not a finite number"


def test_no_molecules_give_no_rows(predictor: Predictor) -> None:
    assert list(predict([predictor], [])) == []


# --- several models, headings -----------------------------------------------------------------------------------------


def table(predictors: list[Predictor], found: Sequence[Molecule]) -> list[list[str]]:
    rows: list[list[str]] = []
    write_table(rows.append, predictors, predict(predictors, entries(found)))
    return rows


def test_a_large_mean_costs_no_digits_of_the_score(predictor: Predictor) -> None:
    far = replace(predictor, facts={**predictor.facts, "mean": 1e6 * predictor.facts["std"]})
    (_, *rows), exact = table([far], molecules("train")), values(far, molecules("train"))
    assert [float(row[3]) for row in rows] == pytest.approx(exact, rel=0, abs=1e-6 * predictor.facts["std"])


def test_several_models_have_a_column_each(tmp_path: Path, predictor: Predictor) -> None:
    other = load(finished_run(tmp_path / "u0", replace(config_of(tmp_path, target="u0"), seed=3)))
    knows_less = replace(other, facts={**other.facts, "elements_seen": [1, 6]})
    header, ethane, ethanol, fluoride = table(
        [predictor, knows_less], [molecule("CC"), molecule("CCO"), molecule("CF")]
    )
    assert header == ["file", "index", "identifier", "homo (meV)", "u0 atomisation (meV)", "geometry", "status"]
    assert float(ethane[3]) == pytest.approx(values(predictor, [molecule("CC")])[0], rel=1e-6)
    assert float(ethane[4]) == pytest.approx(values(other, [molecule("CC")])[0], rel=1e-6)
    assert ethane[5:] == ["as in the file", "ok"]
    assert ethanol[4] == ""
    assert ethanol[6] == "warning: no u0: element O not among the training molecules"
    assert fluoride[3:5] == ["", ""]


def test_what_one_model_lacks_is_said_once_and_of_that_model(tmp_path: Path, predictor: Predictor) -> None:
    config = replace(config_of(tmp_path, target="mu+alpha"), seed=3)
    other = load(finished_run(tmp_path / "two", config))
    knows_less = replace(other, facts={**other.facts, "elements_seen": [1, 6]})
    _, ethanol = table([predictor, knows_less], [molecule("CCO")])
    assert ethanol[7] == "warning: no mu, alpha: element O not among the training molecules"
    strange = replace(other, facts={**other.facts, "environments": []})
    _, both = table([predictor, strange], [molecule("CCO")])
    assert both[7].count("environment") == 1
    assert both[7].endswith("training molecule (two)")


def test_two_models_of_one_property_are_told_apart(tmp_path: Path, run: Path, predictor: Predictor) -> None:
    other = load(finished_run(tmp_path / "again", replace(config_of(tmp_path), seed=3)))
    header, row = table([predictor, other], [molecule("CC")])
    assert header[3:5] == ["homo (meV) [homo]", "homo (meV) [again]"]
    assert row[3] != row[4]


def test_a_column_of_ones_own_has_its_name_and_no_unit(tmp_path: Path) -> None:
    config = config_of(tmp_path, data=MoleculesData(raw="/nowhere/mine.sdf"), column="solubility")
    predictor = load(finished_run(tmp_path / "own", config))
    assert table([predictor], [molecule("C")])[0][3] == "solubility"
    assert predict_module.what_it_is("molecules", predictor.scores[0]).endswith("in the unit of the table")


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_kernel_of_another_machine_is_no_obstacle(tmp_path: Path, predictor: Predictor) -> None:
    config = config_of(tmp_path)
    run = finished_run(tmp_path / "run", replace(config, model=replace(config.model, kernel="reference")))
    found = ckpt.read_checkpoint(ckpt.locate(run))
    settings = {**found.settings, "model": {**found.settings["model"], "kernel": "triton"}}
    ckpt.write_checkpoint(tmp_path / "triton.ckpt", {**found.content, "config": settings})
    expected = values(predictor, molecules("test"))
    assert values(load(tmp_path / "triton.ckpt"), molecules("test")) == pytest.approx(expected, rel=1e-5)


def test_weights_of_double_precision_are_rounded_once(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    run = finished_run(tmp_path / "run", replace(config, trainer=replace(config.trainer, precision="64")))
    predictor = load(run)
    assert next(predictor.model.parameters()).dtype == torch.float32
    assert np.isfinite(values(predictor, molecules("test"))).all()


def test_a_checkpoint_of_another_task_is_refused_in_one_sentence(tmp_path: Path) -> None:
    config = parts.small_config(tmp_path)
    task, model = parts.build(config)
    weights = {ckpt.PREFIX + name: value for name, value in model.state_dict().items()}
    best = {"step": 0, "metrics": {}, "state_dict": weights, "facts": task.facts()}
    ckpt.write_best(tmp_path / "checkpoints", asdict(config), best)
    with pytest.raises(UserError, match=r"for experiment=nbody, not for a property of molecules; .* experiment=qm9$"):
        load(tmp_path)


def test_a_checkpoint_without_facts_is_refused(tmp_path: Path, run: Path) -> None:
    content = ckpt.read_checkpoint(ckpt.locate(run)).content
    ckpt.write_checkpoint(tmp_path / "old.ckpt", {name: value for name, value in content.items() if name != "facts"})
    with pytest.raises(UserError, match=r"old.ckpt: has no record of its training molecules; train"):
        load(tmp_path / "old.ckpt")


def test_a_converted_model_is_refused(tmp_path: Path) -> None:
    ckpt.write_checkpoint(tmp_path / "model.pt", {"format": ckpt.FORMAT, "kind": "model", "model": {}})
    with pytest.raises(UserError, match=r"model.pt: a converted model, which has no property"):
        load(tmp_path / "model.pt")
