"""NVIDIA's classes as callers use them, and what their weights show."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from se3t.compat import golden
from se3t.compat.nvidia import EdgeGraph, Fiber, SE3Transformer, SE3TransformerPooled, load
from se3t.compat.nvidia.architecture import from_arguments, from_weights, fusion
from se3t.compat.nvidia.loading import coefficient_signs
from se3t.errors import UserError
from se3t.fiber import Fiber as Native
from se3t.so3 import clebsch_gordan, e3nn_sign

from .files import NVIDIA, content, own

WRITTEN: dict[str, Any] = {
    "num_layers": 2,
    "fiber_in": Fiber({0: 4, 1: 2}),
    "fiber_hidden": Fiber.create(2, 4),
    "fiber_out": Fiber({0: 3, 1: 2}),
    "num_heads": 2,
    "channels_div": 2,
    "fiber_edge": Fiber({0: 1}),
}
LEVELS: dict[str, dict[str, bool]] = {"partial": {}, "full": {"tensor_cores": True}, "none": {"low_memory": True}}


def edge_graph(file: Mapping[str, Any], *, dtype: torch.dtype = torch.float64) -> EdgeGraph:
    inputs = file["inputs"]
    source, target = inputs["edge_index"]
    relative = (inputs["positions"][target] - inputs["positions"][source]).to(dtype)
    return EdgeGraph(
        (source, target),
        len(inputs["positions"]),
        rel_pos=relative,
        batch_num_nodes=torch.bincount(inputs["batch"]),
    )


def features(file: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Node and edge features in their form."""
    model = golden.load(file, "file").model
    graph = golden.graph_of(file["inputs"], model, "file")
    edges = {"0": file["inputs"]["edge_attr"][..., None]}
    if 1 in graph.edge_features:
        edges["1"] = edge_graph(file).edata["rel_pos"][:, None]
    return {str(degree): value for degree, value in graph.features.items()}, edges


def small_graph(num_edges: int = 14, seed: int = 0) -> EdgeGraph:
    draw = torch.Generator().manual_seed(seed)
    positions = torch.randn(6, 3, generator=draw, dtype=torch.float64)
    source = torch.randint(0, 6, (num_edges,), generator=draw)
    target = (source + torch.randint(1, 6, (num_edges,), generator=draw)) % 6
    return EdgeGraph((source, target), 6, rel_pos=positions[target] - positions[source])


def small_inputs(fiber: Fiber, seed: int = 1) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {str(l): torch.randn(6, channels, 2 * l + 1, generator=draw, dtype=torch.float64) for l, channels in fiber}


# --- the drop-in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NVIDIA, ids=lambda path: path.stem)
def test_the_classes_give_values_and_gradients_in_their_form(path: Any) -> None:
    file = content(path)
    config = {**golden.DEFAULTS["nvidia"], **file["config"]}
    cls = SE3TransformerPooled if "output_dim" in config else SE3Transformer
    config = {name: config[name] for name in config if name in ("num_heads", "pooling", "return_type")}
    model = cls.from_state_dict(file["state_dict"], **config)
    assert model.state_dict().keys() == file["state_dict"].keys()
    nodes, edges = features(file)
    out = model(edge_graph(file), nodes, edges)
    parts = out if isinstance(out, dict) else {next(iter(file["output"])): out}
    for degree, expected in file["output"].items():
        torch.testing.assert_close(parts[degree].reshape(expected.shape), expected, rtol=1e-10, atol=1e-12)
    sum((part.reshape(-1) * file["probe"][degree].reshape(-1)).sum() for degree, part in parts.items()).backward()
    for name, parameter in model.named_parameters():
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(grad, file["grads"][name], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("use_layer_norm", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_weights_of_a_constructed_model_show_its_architecture(level: str, use_layer_norm: bool, norm: bool) -> None:
    arguments = {**WRITTEN, **LEVELS[level], "use_layer_norm": use_layer_norm, "norm": norm}
    model = SE3Transformer(**arguments)
    read = from_weights(model.state_dict(), {"num_heads": 2, "pooling": None, "return_type": None}, "own")
    assert read == model.architecture == from_arguments({"return_type": None, "pooling": None, **arguments})


@pytest.mark.parametrize(
    ("before", "after", "level", "expected"),
    [
        ("4x0+4x1", "2x0+2x1", "full", "full"),
        ("4x0+4x1", "2x0+2x1", "partial", "degree_out"),
        ("4x0+4x1", "2x0+2x1", "none", "none"),
        ("4x0+3x1", "2x0+2x1", "full", "degree_in"),
        ("4x0+4x1", "2x0+1x1", "full", "degree_out"),
        ("4x0+4x1", "2x1", "partial", "degree_out"),
        ("4x0", "2x0+2x1", "partial", "degree_in"),
        ("4x1", "4x1", "full", "none"),
        ("4x0+3x1", "2x0+3x1", "full", "none"),
    ],
)
def test_radial_networks_are_shared_where_their_code_shares_them(
    before: str, after: str, level: str, expected: str
) -> None:
    assert fusion(Native(before), Native(after), 1, level) == expected


def test_the_pooled_class_takes_their_arguments_and_weights() -> None:
    file = own("nvidia_pooled")
    config = {name: value for name, value in file["config"].items() if name != "pooling"}  # max is the default
    fibers = {name: Fiber(config.pop(name)) for name in ("fiber_in", "fiber_out", "fiber_edge")}
    model = SE3TransformerPooled(**fibers, **config).double()
    nodes, edges = features(file)
    out = model(edge_graph(file), nodes, edges)
    assert out.shape == (int(file["inputs"]["batch"].max()) + 1, 2)
    read = SE3TransformerPooled.from_state_dict(model.state_dict(), num_heads=config["num_heads"], pooling="max")
    torch.testing.assert_close(read(edge_graph(file), nodes, edges), out)
    other = SE3TransformerPooled(**fibers, **config).double()
    assert not torch.allclose(other(edge_graph(file), nodes, edges), out)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(edge_graph(file), nodes, edges), out)
    single = SE3TransformerPooled(**fibers, **{**config, "output_dim": 1}).double()
    assert single(edge_graph(file), nodes, edges).shape == out.shape[:1]


def test_parameters_are_reached_as_callers_reach_them() -> None:
    model = SE3Transformer(**WRITTEN).double()
    last = model.graph_modules[-1]
    for degree in ("0", "1"):
        torch.nn.init.zeros_(last.to_kernel_self[degree])
    for name, parameter in model.named_parameters():
        if "radial_func" in name and "net.6" in name:
            torch.nn.init.zeros_(parameter)
    out = model(small_graph(), small_inputs(WRITTEN["fiber_in"]), {"0": torch.ones(14, 1, 1, dtype=torch.float64)})
    assert set(out) == {"0", "1"}
    assert all((value == 0).all() for value in out.values())
    assert model.num_layers == 2
    assert model.fiber_edge == Fiber({0: 1})


def test_new_weights_start_as_theirs() -> None:
    torch.manual_seed(0)
    arguments = {**WRITTEN, "fiber_hidden": Fiber.create(2, 32), "fiber_in": Fiber({0: 32})}
    state = SE3Transformer(**arguments).state_dict()
    assert (state["graph_modules.1.group_norm.weight"] == 1).all()
    assert (state["graph_modules.1.group_norm.bias"] == 0).all()
    network = "graph_modules.2.to_key_value.conv_out.0.radial_func.net"
    assert (state[f"{network}.1.weight"] == 1).all()
    assert (state[f"{network}.1.bias"] == 0).all()
    for part in ("weight", "bias"):  # U(-1/√in, 1/√in), of the bias too
        largest = float(state[f"{network}.3.{part}"].abs().max())
        assert 0.85 / 32**0.5 < largest <= 1 / 32**0.5
    assert float(state["graph_modules.2.project.weights.1"].std()) == pytest.approx(1 / 48**0.5, rel=0.1)


def test_an_optimiser_step_changes_what_is_computed() -> None:
    torch.manual_seed(0)
    model = SE3Transformer(**WRITTEN).double()
    graph, nodes = small_graph(), small_inputs(WRITTEN["fiber_in"])
    edges = {"0": torch.ones(14, 1, 1, dtype=torch.float64)}
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = model(graph, nodes, edges)["1"].square().mean()
    before.backward()
    optimiser.step()
    after = model(graph, nodes, edges)["1"].square().mean()
    assert float(after.detach()) < float(before.detach())


def test_copies_compute_the_same() -> None:
    model = SE3Transformer(**WRITTEN).double()
    graph, nodes = small_graph(), small_inputs(WRITTEN["fiber_in"])
    edges = {"0": torch.ones(14, 1, 1, dtype=torch.float64)}
    expected = model(graph, nodes, edges)
    native = model.native().model
    ours = native(model.native_graph(graph, nodes, edges))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        received = other(graph, nodes, edges)
        assert all(torch.equal(received[degree], value) for degree, value in expected.items())
    assert all(torch.equal(ours[int(degree)], value) for degree, value in expected.items())


def test_positions_get_their_complete_gradient() -> None:
    torch.manual_seed(1)
    model = SE3Transformer(**{**WRITTEN, "fiber_edge": Fiber({}), "return_type": 0}).double()
    graph, nodes = small_graph(), small_inputs(WRITTEN["fiber_in"])
    relative = graph.edata["rel_pos"]

    def energy(relative: Tensor) -> Tensor:
        graph.edata["rel_pos"] = relative
        out: Tensor = model(graph, nodes).square().sum()
        return out

    torch.autograd.gradcheck(energy, (relative.clone().requires_grad_(),), atol=1e-6)


@pytest.mark.parametrize(
    ("pooling", "degree", "shape"), [("avg", 1, (2, 2, 3)), ("avg", 0, (2, 3)), ("max", 0, (2, 3))]
)
def test_pooling_is_over_each_graph(pooling: str, degree: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    nodes_only = SE3Transformer(**WRITTEN).double()
    pooled = SE3Transformer(**WRITTEN, return_type=degree, pooling=pooling).double()
    pooled.load_state_dict(nodes_only.state_dict())
    single = small_graph()
    source, target = single.edges()
    graph = EdgeGraph(
        (torch.cat([source, source + 6]), torch.cat([target, target + 6])),
        rel_pos=single.edata["rel_pos"].repeat(2, 1),
        batch_num_nodes=[6, 6],
    )
    nodes = {degree: torch.cat([value, 2 * value]) for degree, value in small_inputs(WRITTEN["fiber_in"]).items()}
    edges = {"0": torch.ones(28, 1, 1, dtype=torch.float64)}
    out = nodes_only(graph, nodes, edges)[str(degree)].unflatten(0, (2, 6))
    expected = out.mean(dim=1) if pooling == "avg" else out.amax(dim=1)
    received = pooled(graph, nodes, edges)
    assert received.shape == shape
    torch.testing.assert_close(received, expected.reshape(shape))


def test_a_basis_is_accepted_and_changes_nothing() -> None:
    model = SE3Transformer(**WRITTEN).double()
    graph, nodes = small_graph(), small_inputs(WRITTEN["fiber_in"])
    edges = {"0": torch.ones(14, 1, 1, dtype=torch.float64)}
    with_basis = model(graph, nodes, edges, basis={"0,0": torch.zeros(1)})
    assert torch.equal(with_basis["1"], model(graph, nodes, edges)["1"])


def test_coincident_points_and_isolated_nodes_are_no_trouble() -> None:
    model = SE3Transformer(**WRITTEN).double()
    graph = EdgeGraph((torch.tensor([0, 1, 2]), torch.tensor([1, 0, 1])), 6, rel_pos=torch.zeros(3, 3).double())
    out = model(graph, small_inputs(WRITTEN["fiber_in"]), {"0": torch.ones(3, 1, 1, dtype=torch.float64)})
    sum(value.sum() for value in out.values()).backward()  # type: ignore[union-attr]
    assert all(value.isfinite().all() for value in out.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pooling": "max"}, "return_type must be given with pooling"),
        ({"pooling": "sum", "return_type": 0}, "pooling='sum': expected avg or max or null"),
        ({"num_heads": 3}, "SE3Transformer: 2 channels of degree 0 cannot be divided among 3 heads"),
        ({"channels_div": 8}, "no channel is left for keys and values"),
        ({"channels_div": 0}, "channels_div=0: expected a whole number of at least 1"),
        ({"num_layers": -1}, "num_layers=-1: expected a whole number of at least 0"),
        ({"return_type": 5}, "return_type=5: expected a degree of fiber_out: 0, 1"),
        ({"fiber_in": Fiber({})}, "fiber_in: has no channels"),
        ({"num_heads": 0}, "num_heads=0: expected a whole number of at least 1"),
        ({"fiber_hidden": Fiber({0: 4, 1: 2})}, "SE3Transformer: needs unequal_norm"),
        ({"e3nn": "new"}, r"e3nn=new: expected a release, such as 0\.3\.3"),
        ({"kernel": "fast"}, "kernel 'fast' is not known"),
        ({"return_type": 1, "pooling": "max"}, "max pooling of degree 1 is not equivariant"),
    ],
)
def test_arguments_that_no_model_has_are_named(changes: dict[str, Any], words: str) -> None:
    edges = {"0": torch.ones(14, 1, 1, dtype=torch.float64)}
    with pytest.raises(ValueError, match=words):
        SE3Transformer(**{**WRITTEN, **changes}).double()(small_graph(), small_inputs(WRITTEN["fiber_in"]), edges)


def test_inputs_that_do_not_fit_are_named() -> None:
    model = SE3Transformer(**{**WRITTEN, "fiber_edge": Fiber({0: 1, 1: 1})}).double()
    graph, nodes = small_graph(), small_inputs(WRITTEN["fiber_in"])
    scalars = torch.ones(14, 1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"edge_feats: degree 1 is missing; expected 1x0\+1x1"):
        model(graph, nodes, {"0": scalars})
    with pytest.raises(ValueError, match="edge_feats: degree 0 is missing"):
        model(graph, nodes, {"1": torch.ones(14, 1, 3, dtype=torch.float64)})
    vectors = torch.ones(14, 1, 3, dtype=torch.float64)
    edges = {"0": scalars, "1": vectors}
    with pytest.raises(ValueError, match=r"node_feats: degree 1 is missing; expected 4x0\+2x1"):
        model(graph, {"0": nodes["0"]}, edges)
    with pytest.raises(ValueError, match=r"node_feats\['1'\]: expected shape \[6, 2, 3\], got \(5, 2, 3\)"):
        model(graph, {**nodes, "1": nodes["1"][1:]}, edges)
    with pytest.raises(ValueError, match=r"edge_feats\['1'\]: expected shape \[14, 1, 3\], got \(13, 1, 3\)"):
        model(graph, nodes, {"0": scalars, "1": vectors[1:]})
    with pytest.raises(ValueError, match="expected an EdgeGraph or a graph of DGL, got a NoneType"):
        model(None, nodes, edges)
    with pytest.raises(ValueError, match="edge_feats: degree 0 is given; fiber_edge is"):
        SE3Transformer(**{**WRITTEN, "fiber_edge": None})(graph, nodes, {"0": scalars})
    relative = graph.edata["rel_pos"]
    graph.edata["rel_pos"] = relative[1:]
    with pytest.raises(ValueError, match=r"edata\['rel_pos'\]: expected shape \[14, 3\], got \(13, 3\)"):
        model(graph, nodes, edges)
    del graph.edata["rel_pos"]
    with pytest.raises(ValueError, match=r"edata\['rel_pos'\] is missing"):
        model(graph, nodes, {"0": scalars})


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "config", "missing"),
    [
        ("nvidia_partial", {}, ["num_heads", "pooling", "return_type"]),
        ("nvidia_partial", {"num_heads": 2}, ["pooling", "return_type"]),
        ("nvidia_pooled", {}, ["num_heads", "pooling"]),
    ],
)
def test_nothing_is_guessed(name: str, config: dict[str, Any], missing: list[str]) -> None:
    with pytest.raises(UserError, match="file: the weights do not show") as error:
        load(own(name)["state_dict"], config, source="file")
    words = ("num_heads", "pooling", "return_type", "fiber_in", "fiber_out")
    assert [word for word in words if f"{word} (" in str(error.value)] == missing


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"fiber_hidden": (3, 8)}, "does not fit the configuration: parameter 'graph_modules.0"),
        (
            {"num_layers": 3},
            "has 2 attention layers, not num_layers=3; they differ from parameter 'graph_modules.4.conv",
        ),
        ({"channels_div": 1}, "does not fit the configuration: parameter 'graph_modules.0.to_key_value"),
        ({"use_layer_norm": False}, "does not fit the configuration: "),
        ({"norm": False}, "does not fit the configuration: "),
        ({"fiber_edge": {0: 3}}, r"net.0.weight' should have shape \[4, 4\], it has \[4, 2\]"),
        ({"heads": 2}, "'heads' is no argument of this model; did you mean 'num_heads'"),
        ({"return_type": [1]}, r"return_type=\[1\]: expected a whole number of at least 0 or null"),
        ({"return_type": True}, "return_type=True: expected"),
        ({"return_type": 0}, "return_type=0: expected a degree of fiber_out: 1"),
        ({"pooling": "max"}, "max pooling of degree 1 is not equivariant"),
        ({"pooling": "avg", "return_type": None}, "return_type=null: with pooling=avg expected the degree"),
        ({"num_layers": 2.0}, "num_layers=2.0: expected a whole number"),
        ({"channels_div": "two"}, "channels_div='two': expected a whole number of at least 1"),
        ({"channels_div": 16}, "no channel is left"),
        ({"num_heads": 3}, "file: 2 channels of degree 0 cannot be divided among 3 heads"),
        ({"fiber_hidden": {}}, r"fiber_hidden=0 and parameter 'graph_modules.0.project.weights.0': one has degree 0"),
        ({"fiber_in": {1: 1.7}}, "fiber_in={1: 1.7}: expected {degree: channels}"),
        ({"num_degrees": 7}, "does not fit the configuration: .* parameter 'graph_modules.0.project.weights.3'"),
        ({"num_channels": 8}, "does not fit the configuration: parameter 'graph_modules.0"),
        ({"num_degrees": "x"}, "num_degrees='x': expected a whole number"),
        ({"output_dim": None}, "output_dim=null: expected a whole number"),
        ({"tensor_cores": "no"}, "tensor_cores='no': expected true or false"),
        ({"unequal_norm": "foo"}, "unequal_norm='foo': expected equivariant or inverted"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(config: dict[str, Any], words: str) -> None:
    file = own("nvidia_partial")
    with pytest.raises(UserError, match=words):
        load(file["state_dict"], {"num_heads": 2, "pooling": None, "return_type": 1, **config}, source="file")


def test_weights_with_a_hole_are_refused() -> None:
    state = own("nvidia_partial")["state_dict"]
    holes = {name: value for name, value in state.items() if "radial_func.net.0" not in name}
    with pytest.raises(UserError, match=r"w\.pt: parameters are missing or have shapes that no model of that code has"):
        load(holes, {"num_heads": 2, "pooling": None, "return_type": 1}, source="w.pt")


def test_weights_of_the_other_class_are_refused() -> None:
    with pytest.raises(UserError, match="weights of SE3TransformerPooled, not of SE3Transformer"):
        SE3Transformer.from_state_dict(own("nvidia_pooled")["state_dict"], num_heads=2, pooling="max")
    with pytest.raises(UserError, match="weights of SE3Transformer, not of SE3TransformerPooled"):
        SE3TransformerPooled.from_state_dict(
            own("nvidia_full")["state_dict"], num_heads=2, pooling="max", return_type=0
        )
    with pytest.raises(UserError, match=r"not weights of NVIDIA's code: expected parameters named graph_modules.0"):
        load(own("authors_nbody_tfn")["state_dict"], {}, source="file")


@pytest.mark.parametrize("unequal_norm", ["equivariant", "inverted"])
def test_norms_of_unequal_channels_are_of_the_release_that_is_named(unequal_norm: str) -> None:
    arguments = {**WRITTEN, "fiber_hidden": Fiber({0: 8, 1: 4}), "unequal_norm": unequal_norm}
    torch.manual_seed(0)
    model = SE3Transformer(**arguments).double()
    kind = "layer" if unequal_norm == "equivariant" else "layer_inverted"
    assert {norm.kind for norm in model._native[0].norms} == {kind}  # type: ignore[union-attr]
    assert "graph_modules.1.layer_norms.1.weight" in model.state_dict()
    assert model.native().model.norms[0].kind == kind  # type: ignore[index, union-attr]


# --- signs ------------------------------------------------------------------------------------------------------------


def of_the_table(degree_out: int, degree_in: int, degree: int) -> int:
    """The rule of e3nn's table, stated on our coefficients: centre positive, else first entry of ascending degrees."""
    degrees = (degree_out, degree_in, degree)
    q = clebsch_gordan(*degrees)
    if sum(degrees) % 2 == 0:
        return 1 if q[degrees] > 0 else -1
    order = sorted(range(3), key=lambda axis: degrees[axis])
    flat = q.permute(order).flatten()
    first = 1 if flat[flat.abs() > 1e-9][0] > 0 else -1
    return -first if order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]) else first


TRIPLES = [(l, k, degree) for l in range(6) for k in range(6) for degree in range(abs(l - k), l + k + 1)]


def test_signs_before_e3nn_05_follow_its_table() -> None:
    signs = coefficient_signs("0.3.3")
    assert all(signs(*triple) == of_the_table(*triple) for triple in TRIPLES)
    assert all(coefficient_signs("0.4.4")(*triple) == signs(*triple) for triple in TRIPLES)


def test_signs_since_e3nn_05_are_those_of_the_installed_release() -> None:
    e3nn = pytest.importorskip("e3nn.o3")
    signs = coefficient_signs("0.5.0")
    for l, k, degree in TRIPLES:
        theirs = e3nn.wigner_3j(degree, k, l, dtype=torch.float64).permute(2, 1, 0)
        torch.testing.assert_close(theirs, signs(l, k, degree) * clebsch_gordan(l, k, degree))


def test_six_signs_up_to_degree_3_changed() -> None:
    before, since = coefficient_signs("0.3.3"), coefficient_signs("0.6.0")
    changed = {(j, k, l) for l, k, j in TRIPLES if max(l, k) <= 3 and before(l, k, j) != since(l, k, j)}
    assert changed == {(1, 2, 2), (1, 3, 3), (2, 1, 2), (2, 2, 1), (3, 1, 3), (3, 3, 1)}


def test_weights_mean_something_else_with_another_release() -> None:
    file = own("nvidia_partial")
    rows = golden.compare({**file, "e3nn": "0.6.0"}, "file", kernel="vectorised")
    assert not all(row.passed for row in rows)
    stored = {
        (j, k, l): e3nn_sign(l, k, j) * (-1) ** (l + k + j) * clebsch_gordan(l, k, j)
        for l, k, j in TRIPLES
        if max(l, k) < 3
    }
    same = golden.compare({**file, "Q_J": stored}, "file", kernel="vectorised")
    assert [row.error for row in same] == [row.error for row in rows]


def test_the_width_of_the_radial_network_is_read_off() -> None:
    assert from_arguments({"return_type": None, "pooling": None, **WRITTEN}).radial_hidden == 32
    config = {"num_heads": 2, "pooling": None, "return_type": 1}
    assert from_weights(own("nvidia_partial")["state_dict"], config, "file").radial_hidden == 4
    with pytest.raises(UserError, match=r"fiber_hidden='many': expected {degree: channels}"):
        from_arguments({**WRITTEN, "fiber_hidden": "many"})
