from __future__ import annotations

import copy
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data.molecules.parts import (
    AMMONIA,
    FLUOROMETHANE,
    METHANE,
    WATER,
    crowd,
    property_data,
    split_words,
    without,
    write,
)
from se3t.config import (
    TARGETS,
    Config,
    DeepSetModel,
    MPNNModel,
    QM9Data,
    SchNetModel,
    SE3TransformerModel,
    SetTransformerModel,
    TFNModel,
)
from se3t.config import (
    PropertyTask as PropertyTaskConfig,
)
from se3t.data.molecules.dataset import Property, PropertyData, composition
from se3t.data.molecules.scores import scores_of
from se3t.data.qm9.prepare import store_path
from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.models import build_model
from se3t.tasks import build_task
from se3t.tasks.base import rotate_clouds
from se3t.tasks.property import QM9_ELEMENTS, PropertyTask
from se3t.training.evaluation import evaluate_split

GEOMETRIC: dict[str, Any] = {
    "se3_transformer": SE3TransformerModel(num_layers=2, num_degrees=3, channels=4, channels_div=2, pool_channels=8),
    "tfn": TFNModel(num_layers=2, num_degrees=3, channels=4, pool_channels=8),
    "schnet": SchNetModel(channels=8, num_filters=8, num_layers=2, num_gaussians=8),
    "mpnn": MPNNModel(channels=8, edge_hidden=8, num_layers=2, num_gaussians=4),
}
PLAIN: dict[str, Any] = {
    "deepset": DeepSetModel(width=16),
    "set_transformer": SetTransformerModel(width=16, num_layers=2),
}


def task_of(
    data: PropertyData, inputs: str = "atoms", edges: str = "bonds", reference: str = "none", **options: Any
) -> PropertyTask:
    config = PropertyTaskConfig(inputs=inputs, reference=reference)
    return PropertyTask(config, data, edges, **options).to("cpu", torch.float64)


@pytest.fixture(scope="module")
def data() -> PropertyData:
    return property_data()


@pytest.fixture
def task(data: PropertyData) -> PropertyTask:
    return task_of(data)


def model_of(task: PropertyTask, config: Any, pooled: bool = True) -> nn.Module:
    torch.set_default_dtype(torch.float64)
    return build_model(
        config,
        fiber_in=task.fiber_in,
        fiber_out=task.fiber_out,
        num_edge_scalars=task.num_edge_scalars,
        pooled=pooled,
    )


class Constant(nn.Module):
    """Predicts one z-score for every molecule."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, graph: Graph) -> Features:
        return {0: graph.positions.new_full((graph.num_graphs, 1, 1), self.value)}


def measure(task: PropertyTask, model: nn.Module, split: str, batch_size: int = 3) -> dict[str, float]:
    return evaluate_split(
        model, task, split, batch_size=batch_size, num_equivariance_samples=1, seed=0, device=torch.device("cpu")
    )


# --- samples --------------------------------------------------------------------------------------------------------


def test_a_batch_is_the_molecules_of_the_split_that_it_names(task: PropertyTask, data: PropertyData) -> None:
    index = torch.tensor([4, 0, 4])
    batch = task.batch("valid", index)
    members = data.splits["valid"][index.numpy()]
    assert batch.molecule.tolist() == members.tolist()
    assert batch.values.tolist() == data.values[members].tolist()
    graph = task.graph(batch).check()
    assert graph.batch.bincount().tolist() == data.arrays["num_atoms"][members].tolist()


def test_targets_are_z_scores_by_mean_and_deviation_of_the_training_molecules(
    task: PropertyTask, data: PropertyData
) -> None:
    train = task.batch("train", torch.arange(20))
    assert float(train.targets.mean()) == pytest.approx(0, abs=1e-12)
    assert float(train.targets.square().mean()) == pytest.approx(1, rel=1e-12)
    for split in ("valid", "test"):
        batch = task.batch(split, torch.arange(task.size(split)))
        torch.testing.assert_close(
            batch.targets * task.scores[0].std + task.scores[0].mean, batch.values, rtol=1e-13, atol=0
        )
    assert abs(float(task.batch("test", torch.arange(6)).targets.mean())) > 1e-3


def test_statistics_do_not_change_when_test_molecules_are_altered_or_removed(data: PropertyData) -> None:
    task = task_of(data)
    altered = data.values.copy()
    altered[data.splits["test"]] *= -100
    for other in (task_of(replace(data, values=altered)), task_of(without(data, "test"))):
        assert (other.scores[0].mean, other.scores[0].std) == (task.scores[0].mean, task.scores[0].std)
        index = torch.arange(7)
        assert torch.equal(other.batch("valid", index).targets, task.batch("valid", index).targets)
    altered = data.values.copy()
    altered[data.splits["train"][0]] += 1
    assert task_of(replace(data, values=altered)).scores[0].mean != task.scores[0].mean


def test_references_leave_nothing_that_the_numbers_of_atoms_of_training_molecules_explain(data: PropertyData) -> None:
    task = task_of(data, reference="composition")
    train = data.splits["train"]
    counts = composition(data.arrays, QM9_ELEMENTS)
    batch = task.batch("train", torch.arange(20))
    assert float(batch.targets.square().mean()) == pytest.approx(1, rel=1e-12)
    torch.testing.assert_close(
        torch.from_numpy(counts[train]).T @ batch.targets, torch.zeros(5, 1, dtype=torch.float64)
    )
    assert batch.values.tolist() == data.values[train].tolist()
    altered = data.values.copy()
    altered[data.splits["test"]] *= -100
    other = task_of(replace(data, values=altered), reference="composition")
    assert (other.scores[0].mean, other.scores[0].std, other.scores[0].reference) == (
        task.scores[0].mean,
        task.scores[0].std,
        task.scores[0].reference,
    )
    altered[train[0]] += 1
    other = task_of(replace(data, values=altered), reference="composition")
    assert other.scores[0].reference != task.scores[0].reference


def test_metrics_have_references_added_again(data: PropertyData) -> None:
    """A z-score of zero is then what least squares on the numbers of atoms predict."""
    task = task_of(data, reference="composition")
    for split in ("valid", "test"):
        assert measure(task, Constant(0.0), split)["mae"] == pytest.approx(task.baselines(split)["composition"][0])
        shifted = measure(task, Constant(2.0), split)["mae"]
        assert shifted != pytest.approx(task.baselines(split)["composition"][0])
        assert task.baselines(split) == task_of(data).baselines(split)


def test_trained_weights_keep_the_references_they_were_trained_with(data: PropertyData) -> None:
    task = task_of(data, reference="composition")
    altered = data.values.copy()
    altered[data.splits["train"], 0] += np.arange(20.0)
    other = task_of(replace(data, values=altered), reference="composition")
    before = other.batch("valid", torch.arange(7)).targets
    other.restore(json.loads(json.dumps(task.facts())))
    assert other.scores[0].reference == task.scores[0].reference
    after, expected = (one.batch("valid", torch.arange(7)).targets for one in (other, task))
    assert torch.equal(after, expected)
    assert not torch.equal(before, after)
    assert "reference" not in task_of(data).facts()


@pytest.mark.parametrize(("trained", "restored"), [("none", "composition"), ("composition", "none")])
def test_weights_decide_about_references_and_not_the_task_that_measures_them(
    data: PropertyData, trained: str, restored: str
) -> None:
    task, other = task_of(data, reference=trained), task_of(data, reference=restored)
    other.restore(json.loads(json.dumps(task.facts())))
    ours, theirs = (one.batch("valid", torch.arange(7)).targets for one in (task, other))
    assert torch.equal(ours, theirs)
    assert other.facts() == task.facts()


def test_a_property_that_the_numbers_of_atoms_explain_is_an_error() -> None:
    molecules = crowd(33)
    values = [2.0 * len(one) + 1 for one in molecules]
    words = "task.reference=composition: the numbers of atoms of 20 training molecules explain value exactly"
    with pytest.raises(UserError, match=words):
        task_of(property_data(molecules, values=values), reference="composition")


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_a_property_that_is_the_same_for_all_training_molecules_is_an_error(value: float) -> None:
    with pytest.raises(UserError, match=r"value: is .* for all 20 training molecules: nothing to learn"):
        task_of(property_data(values=[value] * 20 + [1.0, 2.0] * 6 + [3.0]))


def test_weights_are_not_measured_on_another_random_split_than_they_were_trained_with(
    task: PropertyTask, data: PropertyData, caplog: pytest.LogCaptureFixture
) -> None:
    facts = task.facts()
    task.restore(facts)
    task.restore({})
    changed = task_of(replace(data, checksum="other"))
    if data.kind == "qm9":
        changed.restore(facts)  # splits by number: they are the same
        assert "the data have checksum other" in caplog.text
    with pytest.raises(UserError, match=r"data\.raw: these weights were trained on data with checksum .* bring back"):
        task_of(replace(data, checksum="other", kind="molecules")).restore(facts)
    assert (changed.scores[0].mean, changed.scores[0].std) == (task.scores[0].mean, task.scores[0].std)


def test_there_is_no_relative_error_where_the_training_mean_is_exact() -> None:
    task = task_of(property_data(values=[1.0, 3.0] * 10 + [2.0] * 13))
    found = measure(task, Constant(1.0), "valid")
    assert found["mae"] == pytest.approx(1)
    assert "relative_mae" not in found


def test_values_stay_in_double_precision_whatever_the_model_computes_in(data: PropertyData) -> None:
    batch = task_of(data).to("cpu", torch.float32).batch("train", torch.arange(20))
    assert (batch.targets.dtype, batch.values.dtype) == (torch.float32, torch.float64)
    assert batch.values.tolist() == data.values[data.splits["train"]].tolist()


@pytest.mark.parametrize(("edges", "channels"), [("bonds", 4), ("complete", 5), ("radius", 5)])
def test_a_graph_has_the_fields_that_the_task_promises(edges: str, channels: int, data: PropertyData) -> None:
    task = task_of(data, "atoms_positions", edges, radius=2.0)
    graph = task.graph(task.batch("test", torch.arange(6))).check()
    assert Fiber.of(graph.features) == task.fiber_in == Fiber("6x0+1x1")
    assert graph.edge_scalars is not None
    assert graph.edge_scalars.shape[1] == task.num_edge_scalars == channels


def test_elements_of_qm9_are_fixed_and_those_of_other_data_the_ones_that_occur() -> None:
    molecules, counts = crowd(9, kinds=(METHANE, FLUOROMETHANE, WATER)), {"train": 5, "valid": 2, "test": 2}
    assert task_of(property_data(molecules, counts)).settings.elements == QM9_ELEMENTS == (1, 6, 7, 8, 9)
    assert task_of(property_data(molecules, counts, kind="molecules")).settings.elements == (1, 6, 8, 9)


# --- loss and metrics -----------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_absolute_error_of_z_scores(task: PropertyTask) -> None:
    batch = task.batch("train", torch.tensor([3, 1, 7]))
    prediction = torch.randn(3, 1, 1, dtype=torch.float64)
    by_hand = sum(abs(float(z) - float(y)) for z, y in zip(prediction.flatten(), batch.targets, strict=True)) / 3
    assert float(task.loss({0: prediction}, batch)) == pytest.approx(by_hand, rel=1e-12)


def test_metrics_are_in_the_unit_of_the_property(task: PropertyTask, data: PropertyData) -> None:
    found = measure(task, Constant(0.5), "valid")
    predicted = task.scores[0].mean + 0.5 * task.scores[0].std
    expected = np.abs(data.values[data.splits["valid"]] - predicted).mean()
    assert found["mae"] == pytest.approx(expected, rel=1e-12)
    assert found["loss"] == pytest.approx(expected / task.scores[0].std, rel=1e-12)
    assert task.units["mae"] == data.properties[0].unit == "meV"


def test_metrics_do_not_depend_on_the_size_of_the_batches(task: PropertyTask) -> None:
    model = model_of(task, GEOMETRIC["se3_transformer"])
    whole = measure(task, model, "valid", batch_size=7)
    for size in (1, 2, 4):
        found = measure(task, model, "valid", batch_size=size)
        for name in ("mae", "loss", "relative_mae"):
            assert found[name] == pytest.approx(whole[name], rel=1e-10), name


def test_the_loss_of_a_whole_split_is_that_of_training(task: PropertyTask) -> None:
    model = model_of(task, GEOMETRIC["schnet"])
    batch = task.batch("valid", torch.arange(7))
    with torch.no_grad():
        loss = float(task.loss(model(task.graph(batch)), batch))
    assert measure(task, model, "valid")["loss"] == pytest.approx(loss, rel=1e-12)


def test_large_values_lose_nothing_to_single_precision() -> None:
    values = [-1_000_000 + 0.001 * number for number in range(33)]  # such as total energies
    task = task_of(property_data(values=values)).to("cpu", torch.float32)
    assert measure(task, Constant(0.0), "train")["mae"] == pytest.approx(0.005, rel=1e-5)


def test_the_mean_predictor_is_the_unit_of_the_relative_error(task: PropertyTask) -> None:
    found = measure(task, Constant(0.0), "valid")
    assert found["relative_mae"] == pytest.approx(1, rel=1e-12)
    assert found["mae"] == pytest.approx(task.baselines("valid")["mean"][0], rel=1e-12)
    assert set(task.baselines("valid")) == {"mean", "composition"}


def test_every_metric_has_a_unit(task: PropertyTask) -> None:
    assert set(measure(task, Constant(0.0), "test")) == set(task.units)
    assert set(task.headline) <= set(task.units)


# --- several properties ---------------------------------------------------------------------------------------------


def several(data: PropertyData, **options: Any) -> PropertyTask:
    """Three properties: the one of ``data``, one a thousand times smaller, and one that is not related to it."""
    other = np.random.RandomState(1).normal(size=len(data.values))
    values = np.column_stack([data.values[:, 0], -1e-3 * data.values[:, 0] + 5, other])
    properties = (*data.properties, Property("small", "s", "D"), Property("other", "o", ""))
    return task_of(replace(data, values=values, properties=properties), **options)


def test_each_of_several_properties_has_its_own_z_score(task: PropertyTask, data: PropertyData) -> None:
    together = several(data)
    batch, alone = together.batch("train", torch.arange(20)), task.batch("train", torch.arange(20))
    assert together.fiber_out == Fiber({0: 3})
    torch.testing.assert_close(batch.targets[:, 0], alone.targets[:, 0], rtol=0, atol=0)
    torch.testing.assert_close(batch.targets[:, 1], -alone.targets[:, 0], rtol=0, atol=1e-9)
    torch.testing.assert_close(batch.targets.square().mean(0), torch.ones(3, dtype=torch.float64))


def test_errors_of_several_properties_are_those_of_each_alone(task: PropertyTask, data: PropertyData) -> None:
    together = several(data)
    found, alone = measure(together, Constant(0.5), "valid"), measure(task, Constant(0.5), "valid")
    assert together.headline == ("mae_value", "mae_small", "mae_other")
    assert found["mae_value"] == pytest.approx(alone["mae"], rel=1e-12)
    assert [together.units[name] for name in together.headline] == ["meV", "D", ""]
    scores = {score.target: score for score in together.scores}
    losses = [found[f"mae_{name}"] / score.std for name, score in scores.items()]
    assert found["loss"] == pytest.approx(sum(losses) / 3, rel=1e-12)
    relative = [
        found[f"mae_{name}"] / mean for name, mean in zip(scores, together.baselines("valid")["mean"], strict=True)
    ]
    assert found["relative_mae"] == pytest.approx(sum(relative) / 3, rel=1e-12)
    assert set(measure(together, Constant(0.0), "test")) == set(together.units)


def test_several_properties_are_known_again_from_the_facts(data: PropertyData) -> None:
    together = several(data, reference="composition")
    facts = json.loads(json.dumps(together.facts()))
    assert scores_of(facts) == together.scores
    assert (facts["target"], facts["unit"]) == ("value+small+other", "")
    assert "mean" not in facts
    changed = several(replace(data, values=2 * data.values), reference="composition")
    changed.restore(facts)
    assert changed.scores == together.scores


def test_facts_of_one_property_are_read_whether_it_has_references_or_not(data: PropertyData) -> None:
    for reference in ("none", "composition"):
        task = task_of(data, reference=reference)
        assert scores_of(task.facts()) == task.scores
        assert ("reference" in task.facts()) == (reference == "composition")


# --- invariance -----------------------------------------------------------------------------------------------------


def invariance_error(task: PropertyTask, config: Any, dtype: torch.dtype = torch.float32) -> float:
    model = model_of(task, config).to(dtype)
    task.to("cpu", dtype)
    return measure(task, model, "test", batch_size=6)["equivariance_error"]


@pytest.mark.parametrize("edges", ["bonds", "complete", "radius"])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_models_that_see_geometry_as_such_are_invariant_to_rotations(name: str, edges: str, data: PropertyData) -> None:
    task = task_of(data, edges=edges, radius=2.0)
    assert invariance_error(task, GEOMETRIC[name]) < 5e-6
    assert invariance_error(task, GEOMETRIC[name], torch.float64) < 1e-13
    graph, model = task.graph(task.batch("test", torch.arange(6))), model_of(task, GEOMETRIC[name])
    stretched = replace(graph, positions=1.1 * graph.positions)
    assert float((model(stretched)[0] - model(graph)[0]).detach().abs().max()) > 1e-4  # it does look at them


@pytest.mark.parametrize("name", PLAIN)
def test_models_that_see_coordinates_as_numbers_are_not(name: str, data: PropertyData) -> None:
    assert invariance_error(task_of(data, "atoms_positions"), PLAIN[name]) > 1e-4
    assert invariance_error(task_of(data), PLAIN[name]) == 0  # without positions there is nothing to turn


class FirstCoordinate(nn.Module):
    """A prediction that a rotation changes in a way that is known."""

    def forward(self, graph: Graph) -> Features:
        first = graph.positions.new_zeros(graph.num_graphs).index_add_(0, graph.batch, graph.positions[:, 0])
        return {0: first[:, None, None]}


def test_the_error_is_the_change_of_the_z_score_under_the_rotation(task: PropertyTask) -> None:
    graph, model = task.graph(task.batch("test", torch.arange(6))), FirstCoordinate()
    found = task.equivariance(model, graph, model(graph), torch.Generator().manual_seed(3))["equivariance_error"]
    rotated, rotation = rotate_clouds(graph, torch.Generator().manual_seed(3))
    for cloud in range(6):
        own = graph.batch == cloud
        turned = graph.positions[own] @ rotation[own][0].T
        torch.testing.assert_close(rotated.positions[own], turned)
        assert float(found[cloud]) == pytest.approx(abs(float((graph.positions[own] - turned)[:, 0].sum())), abs=1e-12)


def test_clouds_turn_each_by_itself_and_keep_their_shape(data: PropertyData) -> None:
    task = task_of(data, "atoms_positions").to("cpu", torch.float32)
    graph = task.graph(task.batch("train", torch.tensor([0, 0, 3])))
    rotated, rotation = rotate_clouds(graph, torch.Generator().manual_seed(0))
    first, second = (rotation[graph.batch == cloud][0] for cloud in (0, 1))
    assert float((first - second).abs().max()) > 0.1
    for one in (first, second):
        torch.testing.assert_close(one @ one.T, torch.eye(3, dtype=torch.float64))
        assert float(torch.linalg.det(one)) == pytest.approx(1)
    for cloud in range(3):
        own = graph.batch == cloud
        before, after = (torch.cdist(one.positions[own], one.positions[own]) for one in (graph, rotated))
        torch.testing.assert_close(before, after)
        centred = rotated.positions[own] - rotated.positions[own].mean(dim=0)
        torch.testing.assert_close(rotated.features[1][own, 0], centred, rtol=0, atol=1e-5)
    assert torch.equal(rotated.features[0], graph.features[0])
    assert rotated.positions.dtype == rotated.features[1].dtype == torch.float32


# --- what others ask of a task --------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [*GEOMETRIC.values(), *PLAIN.values()], ids=lambda one: one.name)
def test_every_model_gives_one_number_for_each_molecule_and_learns(config: Any, data: PropertyData) -> None:
    task = task_of(data, "atoms_positions" if config.name in PLAIN else "atoms")
    model, batch = model_of(task, config), task.batch("train", torch.arange(20))
    task.select_inputs(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        prediction = model(task.graph(batch))
        assert prediction[0].shape == (20, 1, 1)
        loss = task.loss(prediction, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_model_with_an_output_for_each_atom_is_refused(task: PropertyTask) -> None:
    with pytest.raises(
        UserError, match=r"the model has an output for each node; task property needs one for each clou"
    ):
        task.select_inputs(model_of(task, GEOMETRIC["tfn"], pooled=False))
    with pytest.raises(UserError, match="task property has inputs 6x0"):
        task.select_inputs(model_of(task_of(task.data, "atoms_positions"), PLAIN["deepset"]))


def test_the_record_names_property_graph_and_sizes(task: PropertyTask, data: PropertyData) -> None:
    found = task.describe()
    assert json.loads(json.dumps(found)) == found
    assert found["sizes"] == {"train": 20, "valid": 7, "test": 6}
    assert (found["target"], found["unit"], found["graph"]) == ("value", "meV", "bonds")
    assert (found["mean"], found["std"]) == (task.scores[0].mean, task.scores[0].std)
    assert found["baselines"]["mean"] == list(task.baselines("test")["mean"])
    assert found["baseline_split"] == "test"


def test_baselines_are_those_of_the_validation_split_where_there_is_no_other(data: PropertyData) -> None:
    task = task_of(without(data, "test"))
    found = task.describe()
    assert found["sizes"]["test"] == 0
    assert found["baseline_split"] == "valid"
    assert found["baselines"]["mean"] == list(task.baselines("valid")["mean"])


def test_facts_are_those_of_the_training_molecules_and_go_into_a_checkpoint() -> None:
    molecules = [*crowd(6, kinds=(METHANE, WATER)), AMMONIA, FLUOROMETHANE]
    task = task_of(
        property_data(molecules, {"train": 6, "valid": 1, "test": 1}), "atoms_positions", "radius", radius=3.0
    )
    facts = task.facts()
    assert facts["elements"] == [1, 6, 7, 8, 9]
    assert facts["elements_seen"] == [1, 6, 8]
    assert (facts["max_atoms"], facts["num_train"]) == (5, 6)
    assert (facts["edges"], facts["radius"], facts["inputs"]) == ("radius", 3.0, "atoms_positions")
    assert (facts["mean"], facts["std"], facts["unit"]) == (task.scores[0].mean, task.scores[0].std, "meV")
    file = io.BytesIO()
    torch.save(facts, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == facts


def test_copies_share_the_data(task: PropertyTask) -> None:
    assert copy.deepcopy(task) is task


def test_a_configuration_builds_the_task_on_prepared_data(tmp_path: Path) -> None:
    columns = {name: [float(number) for number in range(9)] for name in TARGETS}
    data = QM9Data(root=str(tmp_path), graph="radius", radius=1.25)
    write(store_path(data), crowd(9), split_words({"train": 6, "valid": 3}), columns)
    config = Config(experiment="qm9", data=data, task=PropertyTaskConfig(target="mu"))
    config.trainer.progress = False
    task = build_task(config)
    assert isinstance(task, PropertyTask)
    assert (task.settings.edges, task.settings.radius) == ("radius", 1.25)
    assert (task.size("train"), task.size("test"), task.scores[0].mean) == (6, 0, 2.5)
    assert task.units["mae"] == "D"
