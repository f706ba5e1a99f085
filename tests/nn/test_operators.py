"""Compiled code as operators of PyTorch: opcheck, torch.compile, torch.export, torch.func."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from se3t.compiling import export
from se3t.config import SE3TransformerModel, TFNModel
from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry, find_pairs
from se3t.graph import Graph, fully_connected, knn_graph
from se3t.models.se3_transformer import SE3Transformer
from se3t.models.tfn import TFN
from se3t.nn.kernels.native import attention, convolution, nodewise, unavailable
from se3t.operators import attend, attend_backward, convolve, convolve_backward
from se3t.so3 import native as so3_native

CPU = torch.device("cpu")
FIBER = Fiber("2x0+1x1")
ONLY_FORWARD = ("test_schema", "test_autograd_registration", "test_faketensor")
KERNELS = ("native", "edge_frame", "vectorised", "reference")

pytestmark = [
    pytest.mark.skipif(unavailable(CPU, torch.float64) is not None, reason="there is no compiled kernel here"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),  # torch, of its own
]


def graph_of(sizes: list[int], *, k: int | None = None, seed: int = 0, coincident: bool = False) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    positions = torch.randn(len(batch), 3, generator=generator, dtype=torch.float64)
    if coincident:
        positions[1] = positions[0]
    edges = fully_connected(batch) if k is None else knn_graph(positions, k, batch)
    features = {
        degree: torch.randn(len(batch), channels, 2 * degree + 1, generator=generator, dtype=torch.float64)
        for degree, channels in FIBER.items()
    }
    return find_pairs(Graph(positions, features, edges, batch, len(sizes)))


def model_of(kernel: str, **changes: Any) -> SE3Transformer:
    torch.manual_seed(1)
    sizes = {"num_layers": 2, "num_degrees": 2, "channels": 4, "num_heads": 2, "radial_hidden": 8, **changes}
    return SE3Transformer(
        FIBER, FIBER, SE3TransformerModel(**sizes, kernel=kernel), relative_position="to_source"
    ).double()


def pooled_model(**changes: Any) -> SE3Transformer:
    torch.manual_seed(1)
    sizes = {"num_layers": 2, "num_degrees": 2, "channels": 4, "num_heads": 2, "radial_hidden": 8, "pool_channels": 4}
    return SE3Transformer(FIBER, Fiber("2x0"), SE3TransformerModel(**{**sizes, **changes}), pooled=True).double()


def arguments_of(graph: Graph, name: str) -> list[tuple[Any, ...]]:
    """What a model hands to an operator, each tensor a leaf that wants a gradient."""
    received = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is getattr(torch.ops.se3t, name).default:
                received.append(args)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Recorder():
        model_of("native")(graph)
    return [([value.detach().clone().requires_grad_() for value in args[0]], *args[1:]) for args in received]


@pytest.mark.parametrize("coincident", [False, True])
@pytest.mark.parametrize("k", [None, 2])
def test_operators_keep_what_torch_asks_of_operators(coincident: bool, k: int | None) -> None:
    """Schema, registration of gradients, shapes without values, and tracing of the forward pass with its gradient."""
    graph = graph_of([4, 3], k=k, coincident=coincident)
    for arguments in arguments_of(graph, "convolve"):
        opcheck(convolve, arguments)
        tensors, *others, signature = arguments
        out = [value.detach() for value in convolve(*arguments)]
        grads = [torch.randn_like(value) for value in out]
        for frames, wanted in ((out, [True, True, True]), ([], [False, False, False])):
            opcheck(convolve_backward, (grads, tensors, frames, *others, wanted, signature), test_utils=ONLY_FORWARD)
    for arguments in arguments_of(graph, "attend"):
        opcheck(attend, arguments)
        *out, weights = (value.detach() for value in attend(*arguments))
        grads = [torch.randn_like(value) for value in out]
        opcheck(attend_backward, (grads, arguments[0], weights, *arguments[1:]), test_utils=ONLY_FORWARD)


def test_results_lie_as_promised_where_nothing_can_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled programs read them by the strides of the shapes without values."""
    names = ("convolve", "attend", "mix", "norm")
    calls = [(name, arguments) for name in names for arguments in arguments_of(graph_of([4, 3]), name)]
    vectors = torch.randn(6, 3, dtype=torch.float64)
    rows = torch.ops.se3t.spherical_harmonics(vectors.T, 2, True)[0]
    calls += [
        ("spherical_harmonics", (vectors.T, 2, True)),
        ("spherical_harmonics_backward", (torch.randn_like(rows), vectors.T, rows, 2, True)),
        ("polar_frames", (vectors, 2)),
    ]
    for module in (convolution, attention, nodewise, so3_native):
        monkeypatch.setattr(module, "unavailable", lambda *_: "no compiler")
    assert {name for name, _ in calls} >= {*names}
    for name, arguments in calls:
        operator = getattr(torch.ops.se3t, name).default
        opcheck(operator, arguments, test_utils="test_faketensor")
        with FakeTensorMode() as mode, torch.no_grad():
            traced = tree_map_only(Tensor, mode.from_tensor, arguments)
            promised = operator(*traced)
        results = operator(*arguments)
        assert [result.stride() for result in results] == [result.stride() for result in promised], name


def test_operators_have_no_vmap_rule_and_say_so() -> None:
    (tensors, *others), *_ = arguments_of(graph_of([4]), "convolve")

    def function(factor: Tensor) -> Tensor:
        return convolve([factor * tensors[0], *tensors[1:]], *others)[0]

    with pytest.raises(NotImplementedError, match=r"torch\.ops\.se3t\.convolve has no vmap rule"):
        torch.func.vmap(function)(torch.ones(2, dtype=torch.float64))


def outputs(model: torch.nn.Module, graph: Graph) -> list[Tensor]:
    """Results and gradients by positions and parameters."""
    positions = graph.positions.clone().requires_grad_()
    results = list(model(replace(graph, positions=positions)).values())
    total = sum(((number + 1) * value.square()).sum() for number, value in enumerate(results))
    assert isinstance(total, Tensor)
    return [*results, *torch.autograd.grad(total, [positions, *model.parameters()])]


@pytest.mark.e2e
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_model_compiles_as_one_graph_for_any_number_of_edges(kernel: str) -> None:
    """Coincident points, single edges and clouds of any size; after the second size nothing is compiled again."""
    model = model_of(kernel)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    graphs = [graph_of([4, 3], k=2), graph_of([9, 4], k=3, seed=1), graph_of([6, 5], k=2, seed=2, coincident=True)]
    for number, graph in enumerate(graphs):
        # the einsum of the definition depends on the number of edges
        with torch._dynamo.config.patch(error_on_recompile=number > 1 and kernel != "reference"):
            received, expected = outputs(compiled, graph), outputs(model, graph)
        torch.testing.assert_close(received, expected, rtol=1e-9, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(compiled(graphs[-1]), model(graphs[-1]), rtol=1e-9, atol=1e-11)


INPUTS = {"norm": "gate", "radial_basis": "bessel", "radial_functions": 3}
ATTENTION = {"attention_weights": "sqrt_softmax", "logit_scale": "learned", "attention_scale": "degree"}
EVERY_SETTING = {**INPUTS, **ATTENTION, "key_nodes": "both"}


@pytest.mark.e2e
@pytest.mark.parametrize("changes", [{}, INPUTS])
def test_tfn_compiles_as_one_graph(changes: dict[str, Any]) -> None:
    settings = TFNModel(num_layers=2, num_degrees=2, channels=4, radial_hidden=8, **changes)
    assert_compiles_as_one_graph(TFN(FIBER, FIBER, settings).double())


@pytest.mark.e2e
def test_a_model_with_every_setting_compiles_as_one_graph() -> None:
    assert_compiles_as_one_graph(model_of("native", **EVERY_SETTING))


def assert_compiles_as_one_graph(model: torch.nn.Module) -> None:
    torch._dynamo.reset()
    graph = graph_of([4, 3], coincident=True)
    received = outputs(torch.compile(model, fullgraph=True, backend="aot_eager"), graph)
    torch.testing.assert_close(received, outputs(model, graph), rtol=1e-9, atol=1e-11)


READ = {"export": "torch.export.load({}).module()", "inductor": "torch._inductor.aoti_load_package({})"}
SERVE = """
import sys, torch
import se3t.operators
program = READ
assert "se3t.models" not in sys.modules
for graph, expected in torch.load(sys.argv[2], weights_only=False):
    torch.testing.assert_close(program(graph)[0], expected, rtol=1e-9, atol=1e-11)
print("equal")
"""


def unpaired(sizes: list[int], **settings: Any) -> Graph:
    return replace(graph_of(sizes, **settings), pairing=None)


def exported(model: torch.nn.Module, folder: Path) -> torch.export.ExportedProgram:
    """With what it should make of other graphs: more clouds and fewer, coincident points, one cloud, one point."""
    others = [unpaired(sizes, seed=3) for sizes in ([6, 5, 4], [5, 1], [3], [1])]
    others.append(unpaired([4, 3, 3, 2], coincident=True))
    torch.save([(other, model(other)[0].detach()) for other in others], folder / "data.pt")
    return export(model, unpaired([4, 3]), unpaired([3, 2, 4]))


def serve(folder: Path, how: str, **environment: str) -> None:
    (folder / "serve.py").write_text(SERVE.replace("READ", READ[how].format("sys.argv[1]")))
    command = [sys.executable, "serve.py", "model.pt2", "data.pt"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, **environment}, check=False
    )
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize(("kernel", "pooling"), [("native", "max"), ("edge_frame", "mean")])
def test_an_exported_model_takes_batches_of_any_size_in_another_process_without_the_models(
    kernel: str, pooling: str, tmp_path: Path
) -> None:
    program = exported(pooled_model(kernel=kernel, pooling=pooling), tmp_path)
    torch.export.save(program, tmp_path / "model.pt2")
    for switch in ("1", "0") if kernel == "native" else ("1",):  # with compiled code, and where there is none
        serve(tmp_path, "export", SE3T_NATIVE=switch)


@pytest.mark.e2e
@pytest.mark.parametrize("changes", [{}, EVERY_SETTING])
def test_without_compiled_code_an_exported_model_has_operations_of_torch_alone(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a program in C++ can run it, once it is compiled ahead."""
    monkeypatch.setattr("se3t.native.compiler._reason", lambda *_: "switched off")
    model = pooled_model(kernel="edge_frame", num_layers=1, **changes)
    program = export(model, unpaired([4, 3]), unpaired([3, 2, 4]))
    targets = [node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    assert {target.namespace for target in targets} == {"aten"}
    other = unpaired([3, 1, 4], seed=3)
    torch.testing.assert_close(program.module()(other), model(other), rtol=1e-9, atol=1e-11)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.skipif(which("g++") is None, reason="Inductor writes C++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch, of its own
def test_an_exported_model_is_compiled_ahead_and_takes_batches_of_any_size(tmp_path: Path) -> None:
    program = exported(pooled_model(num_layers=1), tmp_path)
    torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "model.pt2"))
    serve(tmp_path, "inductor")


@pytest.mark.parametrize(("kernel", "changes"), [("native", {}), ("edge_frame", {}), ("native", EVERY_SETTING)])
def test_torch_func_differentiates_a_model_in_every_way(kernel: str, changes: dict[str, Any]) -> None:
    model, graph = model_of(kernel, **changes), graph_of([4], coincident=True)

    def function(positions: Tensor, parameters: dict[str, Tensor] | None = None) -> Tensor:
        arguments = (replace(graph, positions=positions),)
        results = torch.func.functional_call(model, parameters or {}, arguments).values()
        return torch.stack([value.pow(3).sum() for value in results]).sum()

    positions = graph.positions
    expected = torch.autograd.functional.hessian(function, positions)
    for hessian in (torch.func.hessian(function), torch.func.jacrev(torch.func.jacrev(function))):
        torch.testing.assert_close(hessian(positions), expected, rtol=1e-9, atol=1e-10)
    value, slope = torch.func.jvp(function, (positions,), (positions,))
    expected = torch.func.grad(function)(positions)
    torch.testing.assert_close(slope, (expected * positions).sum(), rtol=1e-9, atol=1e-10)
    both = torch.func.vmap(function)(torch.stack([positions, 2 * positions]))
    torch.testing.assert_close(both, torch.stack([value, function(2 * positions)]), rtol=1e-9, atol=1e-10)
    names, values = zip(*model.named_parameters(), strict=True)
    found = torch.func.grad(function, argnums=1)(positions, dict(zip(names, values, strict=True)))
    grads = torch.autograd.grad(function(positions), values)
    torch.testing.assert_close(tuple(found[name] for name in names), grads, rtol=1e-9, atol=1e-10)


def test_a_graph_is_a_pytree() -> None:
    graph = graph_of([4, 3], k=2)
    doubled = torch.utils._pytree.tree_map_only(Tensor, lambda value: 2 * value, graph)
    assert isinstance(doubled, Graph)
    assert torch.equal(doubled.features[1], 2 * graph.features[1])
    assert doubled.pairing is not None
    assert doubled.num_graphs == 2


def test_single_edges_found_ahead_are_those_of_the_forward_pass() -> None:
    graph = graph_of([6, 5], k=2)
    ahead, later = (EdgeGeometry.of(one, pair=True) for one in (graph, replace(graph, pairing=None)))
    assert graph.pairing is not None
    assert graph.pairing.single is not None
    assert 0 < len(ahead.radial_rows.second) < len(ahead.source) // 2
    for name in ("source", "target", "length"):
        assert torch.equal(getattr(ahead, name), getattr(later, name))
