from __future__ import annotations

import dataclasses
import importlib.util
import math
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.adapter import Adapter
from se3t.bench.workloads import WORKLOADS, Workload
from se3t.compat import authors, nvidia
from se3t.errors import UserError
from se3t.fiber import Fiber

pytestmark = pytest.mark.e2e  # comparisons with other codes

FOLDER = Path(__file__).parents[2] / "benchmarks/adapters"
HAS_DGL = importlib.util.find_spec("dgl") is not None  # asked before the stand-in answers to that name
PACKAGES = {"nvidia": "se3_transformer", "authors": "equivariant_attention"}
SOURCE, TARGET = torch.tensor([[0, 1, 2, 3, 1, 0, 5], [1, 0, 1, 1, 2, 2, 5]])  # node 3 and node 4 receive nothing
NUM_NODES = 6


def read(name: str) -> ModuleType:
    """The file of that name as a module, as the command reads an adapter."""
    if name in PACKAGES:
        for helper in ("dgl_stand_in", "dgl_workload"):
            read(helper)
    if name not in sys.modules:
        spec = spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def dgl() -> ModuleType:
    return read("dgl_stand_in")


@pytest.fixture
def graph(dgl: ModuleType) -> Any:
    return dgl.graph((SOURCE, TARGET), num_nodes=NUM_NODES)


def incoming(node: int) -> list[int]:
    return [edge for edge, target in enumerate(TARGET.tolist()) if target == node]


def loop_sum(value: Tensor) -> Tensor:
    out = torch.zeros(NUM_NODES, *value.shape[1:], dtype=value.dtype)
    for edge, target in enumerate(TARGET.tolist()):
        out[target] = out[target] + value[edge]
    return out


# --- the stand-in ----------------------------------------------------------------------------------------------


def test_sums_and_means_are_over_the_edges_that_end_in_a_node_and_0_where_none_does(dgl: ModuleType, graph: Any):
    value = torch.randn(len(SOURCE), 2, 3, dtype=torch.float64)
    torch.testing.assert_close(dgl.copy_e_sum(graph, value), loop_sum(value))
    mean = dgl.copy_e_mean(graph, value)
    for node in range(NUM_NODES):
        edges = incoming(node)
        expected = value[edges].mean(0) if edges else torch.zeros(2, 3, dtype=torch.float64)
        torch.testing.assert_close(mean[node], expected)


def test_inner_products_are_of_an_edge_and_its_target(dgl: ModuleType, graph: Any):
    edge = torch.randn(len(SOURCE), 2, 3, dtype=torch.float64)
    node = torch.randn(NUM_NODES, 2, 3, dtype=torch.float64)
    received = dgl.e_dot_v(graph, edge, node)
    assert received.shape == (len(SOURCE), 2, 1)
    for number, target in enumerate(TARGET.tolist()):
        for head in range(2):
            expected = sum(float(edge[number, head, c] * node[target, head, c]) for c in range(3))
            assert float(received[number, head]) == pytest.approx(expected, abs=1e-14)


def test_softmax_is_over_the_edges_that_end_in_the_same_node_and_bears_large_logits(dgl: ModuleType, graph: Any):
    logits = torch.randn(len(SOURCE), 2, dtype=torch.float64) + 2000
    received = dgl.edge_softmax(graph, logits)
    for node in range(NUM_NODES):
        edges = incoming(node)
        for head in range(2):
            values = [math.exp(float(logits[edge, head]) - 2000) for edge in edges]
            expected = [value / sum(values) for value in values]
            assert received[edges, head].tolist() == pytest.approx(expected, rel=1e-10)


def test_gradients_are_those_of_the_values(dgl: ModuleType, graph: Any):
    edge = torch.randn(len(SOURCE), 2, 3, dtype=torch.float64, requires_grad=True)
    node = torch.randn(NUM_NODES, 2, 3, dtype=torch.float64, requires_grad=True)
    for function, given in (
        (dgl.copy_e_sum, (edge,)),
        (dgl.copy_e_mean, (edge,)),
        (dgl.edge_softmax, (edge,)),
        (dgl.e_dot_v, (edge, node)),
    ):
        assert torch.autograd.gradcheck(lambda *values, function=function: function(graph, *values), given)


def test_pooling_is_over_the_nodes_of_each_graph(dgl: ModuleType, graph: Any):
    joined = dgl.batch([graph, dgl.graph(([1], [0]), num_nodes=2)])
    feature = torch.randn(NUM_NODES + 2, 4, 1)
    for pool, reduce in ((dgl.AvgPooling(), torch.mean), (dgl.MaxPooling(), torch.amax)):
        received = pool(joined, feature)
        expected = torch.stack([reduce(part, 0) for part in (feature[:NUM_NODES], feature[NUM_NODES:])])
        torch.testing.assert_close(received, expected)


def test_a_batch_is_its_graphs_one_after_the_other(dgl: ModuleType, graph: Any):
    other = dgl.graph(([1], [0]), num_nodes=2)
    graph.ndata["x"], other.ndata["x"] = torch.zeros(NUM_NODES, 1), torch.ones(2, 1)
    joined = dgl.batch([graph, other])
    source, target = joined.edges()
    assert source.tolist() == [*SOURCE.tolist(), NUM_NODES + 1]
    assert target.tolist() == [*TARGET.tolist(), NUM_NODES]
    assert joined.ndata["x"][:, 0].tolist() == [0.0] * NUM_NODES + [1.0] * 2
    assert (joined.batch_size, joined.batch_num_nodes().tolist(), joined.batch_num_edges().tolist()) == (
        2,
        [NUM_NODES, 2],
        [len(SOURCE), 1],
    )
    assert joined.in_degrees().tolist() == [*(len(incoming(node)) for node in range(NUM_NODES)), 1, 0]


def test_functions_of_edges_see_source_target_and_edge_and_their_results_stay_in_their_scope(
    dgl: ModuleType, graph: Any
):
    x, w = torch.randn(NUM_NODES, 3), torch.randn(len(SOURCE), 1)
    graph.ndata["x"], graph.edata["w"] = x, w
    with graph.local_scope():
        graph.apply_edges(lambda edges: {"d": (edges.dst["x"] - edges.src["x"]) * edges.data["w"]})
        difference = graph.edata["d"]
        graph.update_all(lambda edges: {"m": edges.src["x"]}, dgl.ReduceFunction(dgl.copy_e_sum, "m", "total"))
        total = graph.ndata["total"]
    for edge, (source, target) in enumerate(zip(SOURCE.tolist(), TARGET.tolist(), strict=True)):
        torch.testing.assert_close(difference[edge], (x[target] - x[source]) * w[edge])
    torch.testing.assert_close(total, loop_sum(x[SOURCE]))
    assert (list(graph.ndata), list(graph.edata)) == (["x"], ["w"])


def test_what_an_edge_function_writes_into_its_source_does_not_change_the_node(graph: Any):
    graph.ndata["x"] = torch.zeros(NUM_NODES, 3)

    def write(edges: Any) -> dict[str, Tensor]:
        source = edges.src["x"]
        source += 1
        return {"y": source}

    graph.apply_edges(write)
    assert graph.ndata["x"].abs().max() == 0


@pytest.fixture
def no_dgl(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "dgl"]:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "dgl"]:
        del sys.modules[name]


@pytest.mark.skipif(HAS_DGL, reason="DGL itself is installed")
@pytest.mark.usefixtures("no_dgl")
def test_the_stand_in_answers_to_the_names_of_dgl_where_dgl_is_missing(dgl: ModuleType):
    assert dgl.install()
    assert dgl.install()  # and says so again when it is already there
    assert importlib.util.find_spec("dgl.ops") is not None
    assert import_module("dgl").DGLGraph is dgl.DGLGraph
    assert import_module("dgl.ops").edge_softmax is dgl.edge_softmax
    assert import_module("dgl.nn.pytorch").MaxPooling is import_module("dgl.nn.pytorch.glob").MaxPooling
    function = import_module("dgl.function")
    graph = import_module("dgl").DGLGraph((SOURCE, TARGET), num_nodes=NUM_NODES)
    graph.edata["k"], graph.ndata["q"] = torch.ones(len(SOURCE), 2), torch.ones(NUM_NODES, 2)
    graph.apply_edges(function.e_dot_v("k", "q", "e"))
    graph.update_all(lambda edges: {"m": edges.data["e"]}, function.mean("m", "mean"))
    assert graph.ndata["mean"][:, 0].tolist() == [2.0, 2.0, 2.0, 0.0, 0.0, 2.0]


@pytest.mark.usefixtures("no_dgl")
def test_a_dgl_that_can_be_imported_is_left_alone(dgl: ModuleType, monkeypatch: pytest.MonkeyPatch):
    real = ModuleType("dgl")
    real.__version__ = "2.1.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dgl", real)
    assert not dgl.install()
    assert sys.modules["dgl"] is real


def test_layers_that_the_released_codes_never_build_say_so(dgl: ModuleType):
    with pytest.raises(NotImplementedError, match="not part of its stand-in"):
        dgl.NotOffered(1, 2)


# --- the adapters ----------------------------------------------------------------------------------------------


def tiny(name: str) -> Workload:
    """The workload with a fiftieth of its work."""
    workload = WORKLOADS[name].resized(2, 6)
    return dataclasses.replace(workload, num_layers=2, num_degrees=2, channels=4, channels_div=2, num_heads=2)


def importable(adapter: str) -> ModuleType:
    """The adapter, where what it adapts is there."""
    if importlib.util.find_spec(PACKAGES[adapter]) is None:
        pytest.skip(f"{PACKAGES[adapter]} is not on PYTHONPATH: see benchmarks/adapters/README.md")
    return read(adapter)


@pytest.mark.parametrize("adapter", PACKAGES)
def test_a_missing_package_is_one_sentence_that_says_what_to_get(adapter: str, monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == PACKAGES[adapter] else find(name, *rest)
    )
    with pytest.raises(ImportError, match=rf"{PACKAGES[adapter]}.* is missing: clone github\.com/") as caught:
        read(adapter).build(tiny("nbody"))
    assert "PYTHONPATH" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("adapter", PACKAGES)
def test_a_workload_with_other_radial_networks_is_refused(adapter: str):
    with pytest.raises(NotImplementedError, match="radial_hidden=16: their radial networks are always 32 wide"):
        read(adapter).build(dataclasses.replace(tiny("nbody"), radial_hidden=16))


@pytest.mark.parametrize("adapter", PACKAGES)
def test_another_device_than_the_cpu_is_refused_before_anything_is_loaded(adapter: str):
    with pytest.raises(NotImplementedError, match="device=cuda: this adapter runs on the CPU only"):
        read(adapter).build(dataclasses.replace(tiny("nbody"), device="cuda"))


def test_a_workload_as_a_graph_of_dgl_has_its_edges_positions_and_sizes(dgl: ModuleType):
    dgl.install()
    workload = tiny("qm9")
    ours, graph = workload.graph(), read("dgl_workload").graph_of(workload, positions="where")
    assert torch.equal(torch.stack(graph.edges()), ours.edge_index)
    assert torch.equal(graph.ndata["where"], ours.positions)
    assert graph.batch_num_nodes().tolist() == [6, 6]
    assert graph.batch_num_edges().tolist() == [workload.num_edges // 2] * 2


def test_an_output_of_another_shape_is_not_timed():
    workload = tiny("nbody")
    right, wrong = ({"1": torch.zeros(12, channels, 3)} for channels in (2, 1))
    read("dgl_workload").check_shapes(lambda: right, workload, "package")
    with pytest.raises(ValueError, match=r"output: expected \{'1': 72\} numbers by degree, got \{'1': 36\}"):
        read("dgl_workload").check_shapes(lambda: wrong, workload, "package")


def test_an_unknown_variant_is_an_error_that_lists_them():
    with pytest.raises(ValueError, match="variant=fast: expected one of full, partial, low_memory"):
        read("nvidia").build(tiny("nbody"), variant="fast")


@pytest.mark.parametrize("adapter", PACKAGES)
def test_the_command_reads_the_file_and_gives_its_options_as_text(adapter: str):
    if importlib.util.find_spec(PACKAGES[adapter]) is None:
        expected = pytest.raises(UserError, match=f"package '{PACKAGES[adapter]}'.* is missing")
    else:
        expected = nullcontext()
    with expected:
        work, description = Adapter.parse(f"{FOLDER / adapter}.py:num_layers=3").build(tiny("nbody"))
        assert "3 attention layers and a" in description
        assert sum(work.run(time.perf_counter)) > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["nbody", "qm9", "pointcloud"])
@pytest.mark.parametrize("variant", ["full", "partial", "low_memory"])
def test_nvidias_step_trains_every_parameter(name: str, variant: str, monkeypatch: pytest.MonkeyPatch):
    adapter = importable("nvidia")
    models: list[Any] = []
    make = adapter.make_model
    monkeypatch.setattr(adapter, "make_model", lambda *given: models.append(make(*given)) or models[-1])
    step, description = adapter.build(tiny(name), variant=variant)
    step()
    untrained = [key for key, value in models[0].named_parameters() if value.grad is None or not value.grad.any()]
    # A softmax over keys is blind to what all keys of a node share; nothing else may stay untouched.
    assert len(untrained) <= 0.1 * len(list(models[0].parameters())), untrained
    assert "NVIDIA" in description
    assert ("behind a stand-in for DGL" in description) != HAS_DGL


@pytest.mark.parametrize("name", ["nbody", "qm9", "pointcloud"])
def test_the_authors_step_runs_and_says_what_it_is(name: str):
    step, description = importable("authors").build(tiny(name))
    step()
    assert "the authors' equivariant_attention" in description


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("variant", ["full", "partial", "low_memory"])
@pytest.mark.parametrize("name", ["nbody", "qm9", "pointcloud"])
def test_nvidias_code_behind_the_stand_in_equals_our_model_of_its_weights(name: str, variant: str):
    adapter, workload = importable("nvidia"), tiny(name)
    package, _ = adapter.load()
    edge_vectors = name == "pointcloud"
    model = adapter.make_model(package, workload, variant, 2, edge_vectors)
    graph, (nodes, edges) = adapter.batch(workload), adapter.inputs(workload)
    with torch.no_grad():
        theirs = adapter.run(model, graph, nodes, edges, edge_vectors)
    config = {
        "num_heads": workload.num_heads,
        "pooling": workload.pooling,
        "return_type": None if workload.pooling is None else 0,
        "e3nn": import_module("e3nn").__version__,
    }
    ours = nvidia.load(model.state_dict(), config).model
    batch = workload.graph()
    # Their relative positions point the other way: the edge feature that they join is the same vector.
    vectors = {1: (batch.positions[batch.source] - batch.positions[batch.target])[:, None]} if edge_vectors else {}
    with torch.no_grad():
        expected = ours(dataclasses.replace(batch, edge_features=vectors))
    for degree, value in expected.items():
        torch.testing.assert_close(theirs[str(degree)].reshape(value.shape), value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["nbody", "qm9"])
def test_the_authors_code_behind_the_stand_in_equals_our_model_of_its_weights(name: str):
    adapter, workload = importable("authors"), tiny(name)
    # The models of their experiments: one vector to each particle; as many channels before the pooling as in a layer.
    workload = dataclasses.replace(
        workload, **{"nbody": {"fiber_in": Fiber("1x1")}, "qm9": {"fiber_last": Fiber("8x0")}}[name]
    )
    modules, fibers, _ = adapter.load()
    model = adapter.Model(modules, fibers, workload, 2)
    graph, features = adapter.batch(workload)
    features = {str(degree): features[str(degree)][:, :channels] for degree, channels in workload.fiber_in.items()}
    with torch.no_grad():
        theirs = model(graph, features)
    couplings = {
        (j, i, o): modules.utils_steerable._basis_transformation_Q_J(j, i, o)
        for i in range(4)
        for o in range(4)
        for j in range(abs(i - o), i + o + 1)
    }
    config = {"n_heads": workload.num_heads, **({"x_ij": None} if name == "nbody" else {"pooling": workload.pooling})}
    ours = authors.load(model.state_dict(), config, couplings=couplings).model
    with torch.no_grad():
        given = {int(degree): value for degree, value in features.items()}
        expected = ours(dataclasses.replace(workload.graph(), features=given))
    for degree, value in expected.items():
        torch.testing.assert_close(theirs[str(degree)].reshape(value.shape), value, rtol=1e-4, atol=1e-4)
