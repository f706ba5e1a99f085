"""Graphs of PyTorch Geometric: converted, batched by both loaders, refused where they do not fit; the page runs."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.loader import DataLoader as PyGLoader

from se3t import Fiber, Graph, SE3Transformer, SE3TransformerModel, batch_graphs, collate, fully_connected
from se3t.config import SCHEMAS
from se3t.errors import UserError
from se3t.geometry import find_pairs
from se3t.models import ABLATIONS, build_model

PAGE = Path(__file__).resolve().parents[1] / "docs" / "pyg.md"
TINY = SE3TransformerModel(num_layers=2, num_degrees=2, channels=4, num_heads=1, pool_channels=8)


def molecule(size: int = 5, **changes: Any) -> Data:
    """Complete, with edges and what they carry in no order."""
    edge_index = fully_connected(torch.zeros(size, dtype=torch.int64))
    edge_index = edge_index[:, torch.randperm(edge_index.shape[1])]
    given = {
        "x": torch.randn(size, 4),
        "v": torch.randn(size, 2, 3),
        "pos": torch.randn(size, 3),
        "edge_index": edge_index,
        "edge_attr": torch.randn(edge_index.shape[1], 2),
        "y": torch.randn(1, 1),
        **changes,
    }
    return Data(**{name: value for name, value in given.items() if value is not None})


def tensors(graph: Graph) -> dict[str, Tensor]:
    """All tensors of a graph by name."""
    found: dict[str, Tensor] = {}
    for one in fields(graph):
        value = getattr(graph, one.name)
        if isinstance(value, Tensor):
            found[one.name] = value
        elif isinstance(value, dict):
            found |= {f"{one.name}[{degree}]": part for degree, part in value.items()}
    if graph.pairing is not None:
        found |= {f"pairing.{name}": part for name, part in vars(graph.pairing).items() if isinstance(part, Tensor)}
    return found


def assert_same(graph: Graph, expected: Graph) -> None:
    assert graph.num_graphs == expected.num_graphs
    assert tensors(graph).keys() == tensors(expected).keys()
    for name, value in tensors(graph).items():
        assert torch.equal(value, tensors(expected)[name]), name


# --- conversion -------------------------------------------------------------------------------------------------------


def test_edges_are_sorted_with_what_they_carry() -> None:
    data = molecule()
    data.edge_vectors = torch.randn(data.num_edges, 3)
    graph = Graph.from_pyg(data, vectors="v").check()
    assert torch.equal(graph.positions, data.pos)
    assert torch.equal(graph.features[0], data.x[..., None])
    assert torch.equal(graph.features[1], data.v)
    assert torch.equal(graph.edge_index, fully_connected(graph.batch))
    row = {(source, target): edge for edge, (source, target) in enumerate(data.edge_index.T.tolist())}
    order = [row[source, target] for source, target in graph.edge_index.T.tolist()]
    assert order != sorted(order)
    assert torch.equal(graph.edge_scalars, data.edge_attr[order])
    assert torch.equal(graph.edge_vectors, data.edge_vectors[order])


def test_a_batch_is_its_graphs_side_by_side() -> None:
    data = [molecule(size) for size in (4, 2, 3)]
    expected = batch_graphs([Graph.from_pyg(one, vectors="v") for one in data])
    graph = Graph.from_pyg(Batch.from_data_list(data), vectors="v")
    assert graph.num_graphs == 3
    assert_same(graph, expected)


def test_clouds_without_nodes_count() -> None:
    assert Graph.from_pyg(Batch.from_data_list([molecule(2), molecule(0)])).num_graphs == 2
    graph = Graph.from_pyg(molecule())
    positions, features, edge_index = graph.positions, graph.features, graph.edge_index
    assert Graph.make(positions, features, edge_index, torch.tensor([0, 0, 0, 0, 0]), num_graphs=3).num_graphs == 3
    apart = Graph.make(positions, features, edge_index[:, :0], torch.tensor([0, 0, 1, 3, 3]))
    assert apart.num_graphs == 4


def test_fields_are_read_by_name() -> None:
    data = molecule(charge=torch.randn(5, 1), velocity=torch.randn(5, 3), bond=torch.randn(20, 3))
    graph = Graph.from_pyg(data, scalars="charge", vectors="velocity", edge_scalars="bond")
    assert torch.equal(graph.features[0], data.charge[..., None])
    assert torch.equal(graph.features[1], data.velocity[:, None])
    assert graph.edge_scalars.shape == (20, 3)
    bare = Graph.from_pyg(data, scalars=None, vectors="velocity", edge_scalars=None)
    assert list(bare.features) == [1]
    assert bare.edge_scalars is None
    assert Graph.from_pyg(molecule(edge_attr=None)).edge_scalars is None


@pytest.mark.parametrize("sizes", [[5], [4, 1, 3], [2, 0, 3]])
def test_a_graph_goes_to_pyg_and_back(sizes: list[int]) -> None:
    graph = Graph.from_pyg(Batch.from_data_list([molecule(size) for size in sizes]), vectors="v")
    graph = replace(graph, edge_vectors=torch.randn(graph.edge_index.shape[1], 3))
    data = graph.to_pyg()
    assert isinstance(data, Batch) == (len(sizes) > 1)
    assert_same(Graph.from_pyg(data, vectors="vectors"), graph)
    if len(sizes) > 1:
        singles = data.to_data_list()
        assert [single.num_nodes for single in singles] == sizes
        assert_same(batch_graphs([Graph.from_pyg(single, vectors="vectors") for single in singles]), graph)


def test_a_node_may_be_the_neighbour_of_its_own_periodic_image() -> None:
    image = molecule(edge_index=SELF_LOOP, edge_attr=None, edge_vectors=torch.randn(3, 3))
    graph = Graph.from_pyg(image)
    assert graph.edge_index.tolist() == [[0, 1, 2], [1, 2, 2]]
    assert_same(Graph.from_pyg(graph.to_pyg()), graph)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": {2: torch.randn(5, 1, 5)}}, "got 1 clouds, features 1x2, edge features 0"),
        ({"edge_features": {1: torch.randn(20, 1, 3)}}, "edge features 1x1"),
        ({"edge_index": torch.tensor([[0], [7]])}, "node 7 does not exist"),
    ],
)
def test_what_has_no_place_in_pyg_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(Graph.from_pyg(molecule(edge_attr=None)), **changes).to_pyg()


def test_gradients_pass_to_positions_features_and_edges() -> None:
    data = molecule()
    for name in ("pos", "x", "edge_attr"):
        data[name].requires_grad_()
    model = SE3Transformer(Fiber("4x0"), Fiber("1x0"), TINY, num_edge_scalars=2, pooled=True)
    model(Graph.from_pyg(data))[0].sum().backward()
    for name in ("pos", "x", "edge_attr"):
        assert data[name].grad.abs().sum() > 0, name


@pytest.mark.parametrize("pooling", ["max", "mean", "sum"])
def test_without_batch_all_nodes_are_one_cloud_of_a_pooled_model(pooling: str) -> None:
    data = molecule()
    model = SE3Transformer(
        Fiber("4x0"), Fiber("1x0"), replace(TINY, pooling=pooling), num_edge_scalars=2, pooled=True
    ).double()
    single = Graph.make(data.pos.double(), data.x.double(), data.edge_index, edge_scalars=data.edge_attr.double())
    both = Graph.from_pyg(Batch.from_data_list([data, molecule(3)])).to(torch.float64)
    torch.testing.assert_close(model(single)[0], model(both)[0][:1], rtol=1e-12, atol=1e-12)


# --- loaders ----------------------------------------------------------------------------------------------------------


def test_both_loaders_make_the_same_batches() -> None:
    data = [molecule(size) for size in (4, 2, 3, 5)]
    make = partial(collate, target="y", vectors="v")
    ours = list(DataLoader(data, batch_size=3, collate_fn=make))
    theirs = list(map(make, PyGLoader(data, batch_size=3)))
    assert [graph.num_graphs for graph, _ in ours] == [3, 1]
    for (graph, y), (other, other_y) in zip(ours, theirs, strict=True):
        assert_same(graph, other)
        assert torch.equal(y, other_y)
    assert torch.equal(torch.cat([y for _, y in ours]), torch.cat([one.y for one in data]))


def test_data_sets_of_graphs_and_of_tuples_are_collated() -> None:
    data = [molecule(size) for size in (4, 2, 3)]
    graphs = [Graph.from_pyg(one) for one in data]
    assert_same(collate(data), batch_graphs(graphs))
    assert_same(collate(graphs), batch_graphs(graphs))
    labels = [torch.randn(2) for _ in data]
    for items in (data, graphs):
        graph, label, number = collate(list(zip(items, labels, [0.5, 1.5, 2.5], strict=True)))
        assert_same(graph, batch_graphs(graphs))
        assert torch.equal(label, torch.stack(labels))
        assert number.tolist() == [0.5, 1.5, 2.5]


def test_workers_of_a_loader_hand_over_graphs() -> None:
    data = [molecule(size) for size in (4, 2, 3)]
    (graph,) = DataLoader(data, batch_size=3, collate_fn=collate, num_workers=1)
    assert_same(graph, collate(data))


def test_every_tensor_is_pinned_and_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: pinned.append(id(self)) or self.clone())
    graph = Graph.from_pyg(molecule(edge_attr=torch.ones(20, 2)), vectors="v")
    graph = replace(graph, edge_features={1: torch.randn(20, 1, 3)}, edge_vectors=None)
    graph = find_pairs(replace(graph, edge_vectors=graph.positions[graph.source] - graph.positions[graph.target]))
    assert "pairing.order" in tensors(graph)
    copy = graph.pin_memory()
    assert_same(copy, graph)
    assert sorted(pinned) == sorted(map(id, tensors(graph).values()))
    assert {value.device.type for value in tensors(graph.to("meta", non_blocking=True)).values()} == {"meta"}
    double = graph.to(torch.float64)
    assert {value.dtype for value in tensors(double).values()} == {torch.float64, torch.int64}


# --- wrong use --------------------------------------------------------------------------------------------------------

SELF_LOOP = torch.tensor([[0, 1, 2], [1, 2, 2]])
WRONG_DATA: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"x": torch.arange(5)}, {}, r"data.x: expected floating-point numbers, got int64 \(5,\); .*one_hot"),
    ({"z": torch.arange(5)}, {"scalars": "z"}, r"data.z: expected floating-point numbers, got int64"),
    ({"x": torch.randn(5)}, {}, r"data.x: expected shape \[5, channels\].*got \(5,\); .*data.x\[:, None\]"),
    ({"x": torch.randn(4, 2)}, {}, r"data.x: expected shape \[5, channels\], one row for each node, got \(4, 2\)"),
    ({"x": torch.randn(5, 4).double()}, {}, r"data.x: expected float32 as the positions, got float64"),
    ({"x": torch.full((5, 4), torch.nan)}, {}, "data.x: row 0 has a value that is NaN or infinite"),
    (
        {"x": None},
        {},
        r"data.x: missing; name the field .*scalars=None; fields of this data: edge_attr, edge_index, po",
    ),
    ({}, {"scalars": None}, "scalars and vectors are both None"),
    ({}, {"scalars": "pos"}, "data.pos are the positions already"),
    ({}, {"vectors": "velocity"}, r"data.velocity: missing; .*fields of this data: .*pos, v"),
    ({}, {"vectors": "x"}, r"data.x: expected shape \[5, 3\] or \[5, channels, 3\], got \(5, 4\)"),
    ({"pos": None}, {}, "data.pos: missing; give it the coordinates"),
    ({"pos": torch.randn(5, 2)}, {}, r"data.pos: expected shape \[node, 3\], got \(5, 2\)"),
    ({"pos": torch.zeros(5, 3).long()}, {}, r"data.pos: expected floating-point numbers, got int64 \(5, 3\)"),
    ({"pos": torch.randn(5, 3).log()}, {}, r"data.pos: row \d has a value that is NaN or infinite"),
    ({"pos": [[0.0, 0.0, 0.0]] * 5}, {}, "data.pos: expected a tensor, got list; make one with torch.as_tensor"),
    ({"edge_index": None}, {}, "data.edge_index: missing; make edges with se3t.radius_graph or se3t.knn_graph"),
    ({"edge_index": torch.zeros(3, 2).long()}, {}, r"edge_index: expected int64 \[2, edge\], .*transpose it with .t\("),
    ({"edge_index": torch.zeros(2, 20).int()}, {}, r"edge_index: expected int64 .*got int32 .*convert it with .long\("),
    ({"edge_index": SELF_LOOP, "edge_attr": None}, {}, "edge_index: node 2 is its own neighbour; remove self loops"),
    (
        {"edge_index": SELF_LOOP + 4, "edge_attr": None},
        {},
        "edge_index: node 6 does not exist; the graph has nodes 0 t",
    ),
    ({"batch": torch.tensor([0, 0, 0, 1, 1])}, {}, r"edge_index: edge \d -> \d joins two clouds"),
    ({"batch": torch.tensor([1, 0, 0, 0, 0])}, {}, "batch: cloud indices must be ascending"),
    ({"edge_attr": torch.randn(20)}, {}, r"data.edge_attr: expected shape \[20, channels\].*data.edge_attr\[:, None\]"),
    ({"edge_attr": torch.zeros(20, 2).long()}, {}, "data.edge_attr: expected floating-point numbers, got int64"),
    ({"edge_attr": torch.randn(19, 2)}, {}, r"data.edge_attr: expected shape \[20, channels\], one row for each edge"),
    ({}, {"edge_scalars": "bond"}, r"data.bond: missing; .*edge_scalars=None"),
    ({"edge_vectors": torch.randn(20, 2)}, {}, r"edge_vectors: expected shape \[20, 3\], got \(20, 2\)"),
]


@pytest.mark.parametrize(("changes", "arguments", "message"), WRONG_DATA)
def test_data_that_do_not_fit_are_refused_in_one_sentence(
    changes: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        Graph.from_pyg(molecule(**changes), **arguments)
    assert "\n" not in str(error.value)


def make(**changes: Any) -> Graph:
    data = molecule()
    return Graph.make(**{"positions": data.pos, "features": data.x, "edge_index": data.edge_index, **changes})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Graph.from_pyg(HeteroData()), "expected a Data or Batch of torch_geometric, got HeteroData"),
        (lambda: Graph.from_pyg(make()), "expected a Data or Batch of torch_geometric, got Graph"),
        (lambda: make(features=torch.randn(5, 4, 1)), r"features: expected shape \[5, channels\].*got \(5, 4, 1\)"),
        (lambda: make(features=[torch.randn(5, 4)]), r"features: expected \{degree: tensor \[5, channels, .*got list"),
        (lambda: make(features={"0": torch.randn(5, 4, 1)}), "features: expected degrees 0, 1, … as keys, got '0'"),
        (lambda: make(features={0: torch.zeros(5, 4, 1).long()}), r"features\[0\]: expected floating-point numbers"),
        (lambda: make(positions=torch.randn(5, 3).numpy()), "positions: expected a tensor, got ndarray"),
        (lambda: make(batch=torch.zeros(5, device="meta").long()), "batch: expected on cpu as the positions, got meta"),
        (lambda: make(batch=torch.zeros(4).long()), r"batch: expected int64 \[5\], one cloud index a node, got int64"),
        (
            lambda: make(batch=torch.ones(5).long(), num_graphs=1),
            "batch: cloud 1 does not exist; the graph has 1 clouds",
        ),
        (lambda: make(edge_vectors=torch.zeros(20, 3).double()), "edge_vectors: expected float32 as the positions"),
        (lambda: collate([]), "collate: expected a list of graphs, at least one, or a Batch, got list"),
        (lambda: collate(make()), "collate: expected a list of graphs, at least one, or a Batch, got Graph"),
        (lambda: collate([make()], target="y"), "target and scalars name fields of .* a data set of graphs holds"),
        (lambda: collate([molecule()], target="energy"), "data.energy: missing; name the field of the target"),
        (
            lambda: collate([molecule(), molecule(edge_attr=None)]),
            "data 1 has .*data of one batch need the same fields",
        ),
        (lambda: collate([molecule(), make()]), "item 1 is no Data but Graph, and item 0 is"),
        (lambda: batch_graphs([molecule()]), "got a Data of PyTorch Geometric; convert it with Graph.from_pyg"),
    ],
)
def test_wrong_calls_are_refused_in_one_sentence(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


CONFIGS = [*[schema() for schema in SCHEMAS["model"].values()], *[replace(TINY, ablation=name) for name in ABLATIONS]]
FIBERS = {"linear": ("2x1", "2x1"), "se3_transformer": ("4x0", "1x0"), "schnet": ("4x0", "1x0"), "mpnn": ("4x0", "1x0")}
FIBERS |= dict.fromkeys(("deepset", "set_transformer", "tfn"), ("4x0", "2x0"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.name}-{getattr(config, 'ablation', '')}")
def test_no_model_takes_what_is_no_graph(config: Any) -> None:
    fiber_in, fiber_out = map(Fiber, FIBERS.get(config.name, ("1x1", "15x0")))
    model = build_model(
        config, fiber_in=fiber_in, fiber_out=fiber_out, num_edge_scalars=2, pooled=config.name != "linear"
    )
    data = molecule()
    for value, message in (
        (data, "expected a se3t.Graph, got a Data of PyTorch Geometric; convert it with Graph.from_pyg"),
        (Batch.from_data_list([data]), "expected a se3t.Graph, got a DataBatch of PyTorch Geometric"),
        (data.pos, "expected a se3t.Graph, got Tensor; make one with Graph.make"),
        (replace(Graph.from_pyg(data), batch=None), "graph.batch: expected int64 .*got None; Graph.make fills it in"),
    ):
        with pytest.raises(UserError, match=message):
            model(value)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_trains_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (training,) = [block for block in blocks if "optimizer.step()" in block]
    assert len([line for line in training.splitlines() if line]) < 20
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    error, of_mean = map(float, re.findall(r"\d+\.\d+", capsys.readouterr().out))
    assert error < 0.5 * of_mean
    assert isinstance(names["data"], Data)
