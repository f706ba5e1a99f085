from __future__ import annotations

import copy
import io
import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from se3t.config import TFNModel
from se3t.data.clouds.dataset import CloudData, accuracies, baseline_accuracies
from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.models.tfn import TFN
from se3t.neighbors import farthest_point_sampling
from se3t.tasks.classification import ClassificationTask
from se3t.training.evaluation import evaluate_split
from training.cloud_parts import (
    COUNTS,
    NAMES,
    PLAIN,
    SIZE,
    SMALL,
    boxes,
    cloud_data,
    logits_of,
    measure,
    model_of,
    task_of,
)


@pytest.fixture(scope="module")
def data() -> CloudData:
    return cloud_data()


class Fixed(nn.Module):
    """The same logits for every object, or for each object those of a table, in the order of the calls."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.place = logits, 0

    def forward(self, graph: Graph) -> Features:
        begin, self.place = self.place, self.place + graph.num_graphs
        return {0: self.logits[begin : self.place, :, None]}


def everything(task: ClassificationTask, split: str) -> Tensor:
    return torch.arange(task.size(split))


def rows_of(chosen: Tensor, points: np.ndarray) -> list[list[int]]:
    """Which of its points were chosen from each object."""
    found = (chosen[:, :, None].float() == torch.from_numpy(points)[:, None]).all(dim=-1)
    assert bool((found.sum(dim=-1) == 1).all())
    return found.long().argmax(dim=-1).tolist()


# --- points of validation and test ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["farthest", "random"])
@pytest.mark.parametrize("split", COUNTS)
def test_points_are_those_of_the_object_and_depend_on_no_batch_and_no_order(
    sampling: str, split: str, data: CloudData
) -> None:
    task = task_of(data, torch.float32, sampling=sampling)
    whole = task.batch(split, everything(task, split))
    members = data.splits[split]
    assert whole.labels.tolist() == data.labels[members].tolist()
    rows = rows_of(whole.points, data.points[members])
    assert all(len(set(row)) == 24 for row in rows)
    if sampling == "farthest":
        for row, number in zip(rows, members, strict=True):
            cloud = torch.from_numpy(data.points[number])
            assert row == farthest_point_sampling(cloud, 24, start=torch.tensor(row[:1])).tolist()
    again = task_of(data, torch.float32, sampling=sampling)
    torch.manual_seed(99)
    order = torch.randperm(task.size(split))
    for index in order.split(3):
        batch = again.batch(split, index)
        assert torch.equal(batch.points, whole.points[index])
        assert torch.equal(batch.labels, whole.labels[index])


def test_points_of_an_object_are_the_same_in_whichever_split_it_lies(data: CloudData) -> None:
    moved = replace(data, splits={"train": data.splits["test"], "valid": data.splits["train"], "test": np.array([5])})
    first, second = (task_of(one).batch(split, torch.arange(13)) for one, split in ((data, "test"), (moved, "train")))
    assert torch.equal(first.points, second.points)


def test_the_same_points_are_chosen_in_single_and_in_double_precision(data: CloudData) -> None:
    single, double = (task_of(data, dtype).batch("train", torch.arange(36)) for dtype in (torch.float32, torch.float64))
    assert torch.equal(single.points.double(), double.points)


def test_another_device_or_precision_begins_anew(data: CloudData) -> None:
    task = task_of(data, torch.float32)
    task.batch("test", torch.arange(3))
    assert task.to("cpu", torch.float64).batch("test", torch.arange(3)).points.dtype == torch.float64


# --- points of training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["farthest", "random"])
@pytest.mark.parametrize("augmentation", ["none", "vertical", "so3"])
def test_training_points_are_a_function_of_the_draw_and_of_the_object(
    sampling: str, augmentation: str, data: CloudData
) -> None:
    task = task_of(data, sampling=sampling, augmentation=augmentation, jitter=0.01)
    whole = task.batch("train", torch.arange(36), 7)
    order = torch.randperm(36)
    for index in order.split(5):
        assert torch.equal(task.batch("train", index, 7).points, whole.points[index])
    twice = task.batch("train", torch.tensor([3, 8, 3]), 7)  # where one epoch ends and the next begins
    assert torch.equal(twice.points[0], twice.points[2])
    other = task.batch("train", torch.arange(36), 8)
    assert torch.equal(other.labels, whole.labels)
    assert all(not torch.equal(one, two) for one, two in zip(whole.points, other.points, strict=True))


def test_points_are_new_in_every_step_of_training(data: CloudData) -> None:
    task = task_of(data, torch.float32)
    members = data.points[data.splits["train"]]
    rows = [rows_of(task.batch("train", torch.arange(36), draw).points, members) for draw in (2, 3, 4)]
    for one, two in itertools.combinations(rows, 2):
        assert sum(sorted(left) == sorted(right) for left, right in zip(one, two, strict=True)) < 12


def drawn(data: CloudData, **settings: Any) -> Tensor:
    return task_of(data, **settings).batch("train", torch.arange(36), 7).points


def test_turning_and_shaking_change_no_choice_of_points(data: CloudData) -> None:
    plain, shaken = drawn(data), drawn(data, jitter=1e-9)
    torch.testing.assert_close(shaken, plain, rtol=0, atol=1e-8)
    turned = drawn(data, augmentation="so3")
    torch.testing.assert_close(turned.norm(dim=2), plain.norm(dim=2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("up_axis", [0, 1, 2])
def test_vertical_augmentation_keeps_heights_and_so3_does_not(up_axis: int) -> None:
    tilted = cloud_data(up_axis=up_axis)
    plain, vertical, anywhere = (drawn(tilted, augmentation=kind) for kind in ("none", "vertical", "so3"))
    torch.testing.assert_close(vertical[..., up_axis], plain[..., up_axis], rtol=0, atol=1e-14)
    for turned in (vertical, anywhere):
        torch.testing.assert_close(torch.cdist(turned, turned), torch.cdist(plain, plain), rtol=0, atol=1e-7)
        assert float((turned - plain).abs().amax(dim=(1, 2)).median()) > 0.3
    assert float((anywhere - plain)[..., up_axis].abs().amax(dim=1).median()) > 0.3


def test_jitter_has_the_deviation_asked_for(data: CloudData) -> None:
    noise = drawn(data, jitter=0.02) - drawn(data)
    assert float(noise.std()) == pytest.approx(0.02, rel=0.05)
    assert float(noise.mean()) == pytest.approx(0, abs=0.002)
    torch.testing.assert_close(drawn(data, jitter=0.04) - drawn(data), 2 * noise, rtol=0, atol=1e-12)


def test_augmentation_is_for_training_alone(data: CloudData) -> None:
    plain, strong = task_of(data), task_of(data, augmentation="so3", jitter=0.5)
    for split in COUNTS:  # a training split that is measured is no step of training
        index = everything(plain, split)
        assert torch.equal(plain.batch(split, index).points, strong.batch(split, index).points)


# --- rotations of the test split --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", ["0", "30", "180", "so3"])
@pytest.mark.parametrize("sampling", ["farthest", "random"])
def test_test_objects_are_turned_after_their_points_were_drawn(sampling: str, rotation: str, data: CloudData) -> None:
    plain, turned = (task_of(data, sampling=sampling, test_rotation=text) for text in ("0", rotation))
    index = everything(plain, "test")
    before, after = (task.batch("test", index).points for task in (plain, turned))
    # The relative places of the chosen points, in their order, are those of before.
    gram = [points @ points.transpose(1, 2) for points in (before, after)]
    torch.testing.assert_close(gram[1], gram[0], rtol=0, atol=1e-13)
    assert bool(torch.linalg.det(torch.linalg.lstsq(before, after).solution).gt(0.99).all())  # and no mirror image
    assert torch.equal(before, after) == (rotation == "0")
    for split in ("train", "valid"):
        assert torch.equal(*(task.batch(split, torch.arange(11)).points for task in (plain, turned)))


def test_the_rotation_of_a_test_object_depends_on_that_object_alone(data: CloudData) -> None:
    fewer = replace(data, splits={**data.splits, "test": data.splits["test"][3:6]})
    for rotation in ("60", "so3"):
        all_of_them, some = (task_of(one, test_rotation=rotation) for one in (data, fewer))
        assert torch.equal(
            all_of_them.batch("test", torch.tensor([3, 4, 5])).points, some.batch("test", torch.arange(3)).points
        )


def test_larger_tilts_turn_further_about_the_same_axes(data: CloudData) -> None:
    index = torch.arange(13)
    points = {text: task_of(data, test_rotation=text).batch("test", index).points for text in ("0", "50", "100")}
    rotation = {text: torch.linalg.lstsq(points["0"], points[text]).solution.mT for text in ("50", "100")}
    torch.testing.assert_close(rotation["50"] @ rotation["50"], rotation["100"], rtol=0, atol=1e-9)
    trace = rotation["50"].diagonal(dim1=1, dim2=2).sum(dim=1)
    angle = torch.rad2deg(torch.arccos((trace - 1) / 2))
    assert 25 < float(angle.max()) <= 50 + 1e-6
    crossed = rotation["50"] - rotation["50"].mT
    assert float(crossed[:, 0, 2].abs().max()) < 1e-9  # the axes have no component along y


def test_a_task_with_another_test_rotation_is_as_if_configured_so(data: CloudData) -> None:
    task = task_of(data, test_rotation="20")
    index = everything(task, "test")
    before = task.batch("test", index).points
    for rotation in ("0", "75", "so3"):
        other, expected = task.with_test_rotation(rotation), task_of(data, test_rotation=rotation)
        assert other.config == expected.config
        assert torch.equal(other.batch("test", index).points, expected.batch("test", index).points)
        assert torch.equal(other.batch("valid", index[:11]).points, task.batch("valid", index[:11]).points)
    assert torch.equal(task.batch("test", index).points, before)
    with pytest.raises(UserError, match=r"^task\.test_rotation=sideways: expected degrees from 0 to 180"):
        task.with_test_rotation("sideways")


# --- graphs -----------------------------------------------------------------------------------------------------------


def test_edges_carry_the_relative_position_of_the_source() -> None:
    task = task_of()
    graph = task.graph(task.batch("test", torch.arange(4))).check()
    assert (task.fiber_in, task.fiber_edge, task.fiber_out) == (Fiber("1x0"), Fiber("1x1"), Fiber("3x0"))
    assert Fiber.of(graph.features) == task.fiber_in
    assert graph.edge_features is not None
    assert Fiber.of(graph.edge_features) == task.fiber_edge
    relative = graph.positions[graph.edge_index[0]] - graph.positions[graph.edge_index[1]]
    assert torch.equal(graph.edge_features[1][:, 0], relative)
    assert torch.equal(graph.features[0], torch.ones(96, 1, 1, dtype=torch.float64))
    assert graph.edge_index[1].bincount().tolist() == [6] * 96
    assert torch.equal(graph.batch[graph.edge_index[0]], graph.batch[graph.edge_index[1]])


@pytest.mark.parametrize("up_axis", [0, 1, 2])
def test_height_splits_the_vertical_off_from_the_relative_position(up_axis: int) -> None:
    task = task_of(cloud_data(up_axis=up_axis), height=True)
    graph = task.graph(task.batch("test", torch.arange(4))).check()
    assert (task.fiber_in, task.fiber_edge) == (Fiber("2x0"), Fiber("1x0+1x1"))
    assert graph.edge_features is not None
    relative = graph.positions[graph.edge_index[0]] - graph.positions[graph.edge_index[1]]
    assert torch.equal(graph.features[0][:, 1, 0], graph.positions[:, up_axis])
    assert torch.equal(graph.edge_features[0][:, 0, 0], relative[:, up_axis])
    horizontal = relative.clone()
    horizontal[:, up_axis] = 0
    assert torch.equal(graph.edge_features[1][:, 0], horizontal)


def test_models_of_sets_see_coordinates_alone() -> None:
    task = task_of(inputs="positions")
    graph = task.graph(task.batch("test", torch.arange(4))).check()
    assert (task.fiber_in, task.fiber_edge) == (Fiber("1x1"), Fiber({}))
    assert torch.equal(graph.features[1][:, 0], graph.positions)
    assert graph.edge_index.shape == (2, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_points": 65}, r"task\.num_points=65: the objects have 64 points; ask for as many or fewer"),
        ({"num_points": 8, "num_neighbors": 8}, r"task\.num_neighbors=8: a point of task\.num_points=8 has 7 others"),
        ({"height": True, "inputs": "positions"}, r"task\.height: belongs to task\.inputs=edges"),
        ({"test_rotation": "200"}, r"task\.test_rotation=200: expected degrees from 0 to 180"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(settings: dict[str, Any], message: str, data: CloudData) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        task_of(data, **settings)
    assert "\n" not in str(caught.value)


def test_every_point_and_every_neighbour_may_be_used(data: CloudData) -> None:
    task = task_of(data, num_points=SIZE, num_neighbors=SIZE - 1)
    graph = task.graph(task.batch("test", torch.arange(2)))
    assert graph.edge_index.shape == (2, 2 * SIZE * (SIZE - 1))


# --- loss and metrics -------------------------------------------------------------------------------------------------


def test_the_loss_is_the_cross_entropy(data: CloudData) -> None:
    task = task_of(data)
    batch = task.batch("valid", torch.arange(11))
    logits = torch.randn(11, 3, dtype=torch.float64)
    loss = task.loss({0: logits[..., None]}, batch)
    by_hand = (logits.exp().sum(dim=1).log() - logits[range(11), batch.labels]).mean()
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-12)
    assert float(loss) == pytest.approx(float(nn.functional.cross_entropy(logits, batch.labels)), rel=1e-12)
    assert measure(task, Fixed(logits.repeat(2, 1)), "valid", 11)["loss"] == pytest.approx(float(loss), rel=1e-12)


def uneven() -> CloudData:
    """Nine test objects of class 0, three of class 1, one of class 2; none of class 1 among the others."""
    data = cloud_data()
    labels = np.zeros_like(data.labels)
    labels[data.splits["valid"][:4]] = 2
    labels[data.splits["test"]] = [0, 1, 0, 0, 1, 0, 2, 0, 0, 1, 0, 0, 0]
    return replace(data, labels=labels)


@pytest.mark.parametrize("batch_size", [1, 4, 13, 50])
def test_the_class_mean_accuracy_is_the_mean_over_the_classes(batch_size: int) -> None:
    task = task_of(uneven(), inputs="positions")
    predicted = torch.tensor([0, 1, 0, 2, 0, 0, 2, 1, 0, 0, 0, 0, 1])
    # Of class 0 six of nine are right, of class 1 one of three, of class 2 the only one.
    logits = nn.functional.one_hot(predicted, 3).double()

    class Table(Fixed):
        def forward(self, graph: Graph) -> Features:
            out = super().forward(graph)
            self.rotated = not getattr(self, "rotated", True)  # every batch is seen twice, the second time turned
            self.place -= 0 if self.rotated else graph.num_graphs
            return out

    found = evaluate_split(
        Table(logits),
        task,
        "test",
        batch_size=batch_size,
        num_equivariance_samples=1,
        seed=0,
        device=torch.device("cpu"),
    )
    assert found["accuracy"] == pytest.approx(8 / 13, rel=1e-12)
    assert found["class_accuracy"] == pytest.approx((6 / 9 + 1 / 3 + 1) / 3, rel=1e-12)
    shares = accuracies(uneven().labels[uneven().splits["test"]], predicted.numpy())
    assert (found["accuracy"], found["class_accuracy"]) == pytest.approx(shares, rel=1e-12)


def test_classes_that_a_split_lacks_count_for_nothing() -> None:
    task = task_of(uneven(), inputs="positions")
    always = Fixed(torch.tensor([[1.0, 0.0, 0.0]]).expand(100, 3).double())
    found = measure(task, always, "valid")
    assert found["accuracy"] == pytest.approx(7 / 11, rel=1e-12)
    assert found["class_accuracy"] == pytest.approx((1 + 0) / 2, rel=1e-12)


def test_details_are_true_and_predicted_class_in_the_order_of_the_split(data: CloudData) -> None:
    task = task_of(data, inputs="positions")
    model = model_of(task, PLAIN["deepset"])
    keep: dict[str, list[Any]] = {}
    found = evaluate_split(
        model, task, "test", batch_size=4, num_equivariance_samples=0, seed=0, device=torch.device("cpu"), keep=keep
    )
    assert keep["label"] == data.labels[data.splits["test"]].tolist()
    whole = model(task.graph(task.batch("test", torch.arange(13))))[0].squeeze(-1)
    assert keep["predicted"] == whole.argmax(dim=1).tolist()
    right = sum(one == two for one, two in zip(keep["label"], keep["predicted"], strict=True))
    assert found["accuracy"] == right / 13


@pytest.mark.parametrize("settings", [{}, {"height": True}, {"inputs": "positions"}], ids=str)
def test_every_metric_has_a_unit(settings: dict[str, Any], data: CloudData) -> None:
    task = task_of(data, **settings)
    found = measure(task, model_of(task, PLAIN["deepset"] if "inputs" in settings else SMALL["tfn"]))
    assert set(found) <= set(task.units)
    assert set(task.units) - set(found) == ({"flipped_edges", "rebuilt_error"} if "inputs" in settings else set())
    assert set(task.headline) <= set(found)


# --- what others ask of a task ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SMALL, *PLAIN])
def test_every_model_learns_the_three_kinds_of_boxes(name: str, data: CloudData) -> None:
    task = task_of(
        data, torch.float32, num_points=10, num_neighbors=4, inputs="positions" if name in PLAIN else "edges"
    )
    model = model_of(task, {**SMALL, **PLAIN}[name], torch.float32, noise=0.0).train()
    task.select_inputs(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses, batch = [], task.batch("train", torch.arange(12))
    for _ in range(60 if name in PLAIN else 15):
        loss = task.loss(model(task.graph(batch)), batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_models_of_another_input_are_refused(data: CloudData) -> None:
    task = task_of(data)
    with pytest.raises(UserError, match="task classification has inputs 1x0"):
        task.select_inputs(model_of(task_of(data, height=True), SMALL["tfn"]))
    every_node = TFN(task.fiber_in, task.fiber_out, TFNModel(num_layers=1), fiber_edge=task.fiber_edge)
    with pytest.raises(UserError, match="an output for each node; task classification needs one for each cloud"):
        task.select_inputs(every_node)


@pytest.mark.parametrize("synthetic", [True, False])
def test_the_record_names_data_classes_and_baselines(synthetic: bool, data: CloudData) -> None:
    data = replace(data, synthetic=synthetic, kind="shapes15" if synthetic else "scanobjectnn", variant="object only")
    task = task_of(data)
    found = task.describe()
    assert json.loads(json.dumps(found)) == found
    assert found["preset"] == ("synthetic shapes15, object only" if synthetic else "scanobjectnn, object only")
    assert found["sizes"] == COUNTS
    assert (found["classes"], found["up_axis"], found["synthetic"]) == (list(NAMES), "y", synthetic)
    expected = baseline_accuracies(data, "test")
    assert found["baselines"] == {name: list(pair) for name, pair in expected.items()}
    assert found["baseline_split"] == "test"
    majority = np.bincount(data.labels[data.splits["train"]]).argmax()
    assert found["baselines"]["majority"][0] == pytest.approx((data.labels[data.splits["test"]] == majority).mean())


def test_the_nearest_class_mean_tells_boxes_apart(data: CloudData) -> None:
    baselines = task_of(data).baselines("test")
    assert baselines["nearest_centroid"][0] > baselines["majority"][0]
    assert baselines["nearest_centroid"][0] > 0.8


def test_facts_go_into_a_checkpoint_and_back(data: CloudData) -> None:
    task = task_of(data)
    file = io.BytesIO()
    torch.save(task.facts(), file)
    file.seek(0)
    facts = torch.load(file, weights_only=True)
    assert facts == task.facts()
    task.restore(facts)
    task.restore({})
    task_of(replace(data, checksum="other", variant="with background")).restore(facts)  # may be measured on others


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"up_axis": 2}, r"with up_axis y, these data have z$"),
        ({"classes": ("tower", "plate", "stick")}, r"with classes \['tower', 'plate', 'beam'\], these data have"),
        ({"classes": ("plate", "tower", "beam")}, "with classes"),
    ],
)
def test_weights_are_not_used_with_other_classes_or_another_vertical(
    changes: dict[str, Any], message: str, data: CloudData
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        task_of(replace(data, **changes)).restore(task_of(data).facts())
    assert "\n" not in str(caught.value)


def test_copies_share_the_data(data: CloudData) -> None:
    task = task_of(data)
    assert copy.deepcopy(task) is task


def test_fifteen_classes_are_fifteen_logits() -> None:
    points, labels = boxes(60)
    many = cloud_data(points=points, labels=np.arange(60) % 15, classes=tuple(f"class {n}" for n in range(15)))
    task = task_of(many)
    assert labels.max() == 2
    assert task.fiber_out == Fiber("15x0")
    model = model_of(task, SMALL["tfn"])
    assert logits_of(model, task.graph(task.batch("valid", torch.arange(4)))).shape == (4, 15)
