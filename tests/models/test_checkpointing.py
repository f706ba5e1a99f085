"""What torch does around a model: layers run once more in the backward pass, gradients of many results at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from se3t.config import SE3TransformerModel
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph, knn_graph
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import EquivariantBasis
from se3t.nn.kernels import KERNELS

from .clouds import clouds
from .point_contract import scans
from .test_registry import CLASSIFIERS, SCALARS, SCHEMAS, build

FIBER = Fiber("2x0+1x1")
KERNELS_ON_CPU = [*(name for name in KERNELS if name not in ("auto", "triton")), "edge_frame low"]
Call = Callable[..., Any]


@pytest.fixture(params=KERNELS_ON_CPU)
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr("se3t.nn.kernels.chunked.CHUNK_BYTES", {"cpu": 2**12})
    kernel, _, memory = request.param.partition(" ")
    sizes = {"num_layers": 2, "num_degrees": 3, "channels": 2, "num_heads": 1, "channels_div": 1}
    settings = SE3TransformerModel(**sizes, kernel=kernel, memory=memory or "speed")
    torch.manual_seed(0)
    return SE3Transformer(FIBER, FIBER, settings, relative_position="to_source").double()


def graph_of(nodes: int = 6) -> Graph:
    torch.manual_seed(1)
    positions = torch.randn(nodes, 3, dtype=torch.float64)
    return Graph(
        positions=positions.requires_grad_(),
        features={d: torch.randn(nodes, c, 2 * d + 1, dtype=torch.float64).requires_grad_() for d, c in FIBER.items()},
        edge_index=knn_graph(positions.detach(), k=3),
        batch=torch.zeros(nodes, dtype=torch.int64),
        num_graphs=1,
    )


def whole(model: nn.Module, graph: Graph, run: Call) -> list[Tensor]:
    """The model as one part."""

    def forward(positions: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        moved = replace(graph, positions=positions, features=dict(zip(graph.features, values, strict=True)))
        return tuple(model(moved).values())

    return list(run(forward, graph.positions, *graph.features.values()))


def by_layer(model: Any, graph: Graph, run: Call) -> list[Tensor]:
    """Each layer, with the norm that follows, as a part; they share the basis, which makes what it is asked for."""
    geometry = EdgeGeometry.of(graph, pair=True, relative_position=model.relative_position)
    basis = EquivariantBasis(geometry, model.max_degree)
    features = graph.features
    for number, layer in enumerate(model.layers):

        def part(*values: Tensor, layer: Any = layer, number: int = number, degrees: Any = tuple(features)) -> Any:
            out: Features = layer(dict(zip(degrees, values, strict=True)), basis)
            out = model.norms[number](out) if number < len(model.norms) else out
            return tuple(out[degree] for degree in layer.fiber_out)

        features = dict(zip(layer.fiber_out, run(part, *features.values()), strict=True))
    return list(features.values())


PLAIN: Call = lambda function, *values: function(*values)  # noqa: E731
RUNS: dict[str, Call] = {
    "non_reentrant": partial(checkpoint, use_reentrant=False),
    "reentrant": partial(checkpoint, use_reentrant=True),
}
"""``reentrant`` knows no gradient of what a part reads besides its arguments, such as the basis."""


def total(outputs: list[Tensor]) -> Tensor:
    return torch.stack([value.pow(3).sum() for value in outputs]).sum()


def leaves_of(model: nn.Module, graph: Graph) -> list[Tensor]:
    return [graph.positions, *graph.features.values(), *model.parameters()]


def assert_equal(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> None:
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("parts", "run"), [(whole, "non_reentrant"), (by_layer, "non_reentrant"), (whole, "reentrant")]
)
def test_values_and_gradients_are_those_without_checkpointing(model: nn.Module, parts: Call, run: str) -> None:
    graph = graph_of()
    leaves = leaves_of(model, graph)
    found = []
    for each in (PLAIN, RUNS[run]):
        outputs = parts(model, graph, each)
        for leaf in leaves:
            leaf.grad = None
        total(outputs).backward()
        grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        found.append((*(value.detach() for value in outputs), *grads))
    assert_equal(*found)


@pytest.mark.parametrize("parts", [whole, by_layer])
def test_second_derivatives_are_those_without_checkpointing(model: nn.Module, parts: Call) -> None:
    graph = graph_of()
    leaves = leaves_of(model, graph)
    found = []
    for each in (PLAIN, RUNS["non_reentrant"]):
        (force,) = torch.autograd.grad(total(parts(model, graph, each)), graph.positions, create_graph=True)
        found.append(torch.autograd.grad(force.pow(2).sum(), leaves, allow_unused=True, materialize_grads=True))
    assert_equal(*found)


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_many_results_at_once_are_those_one_by_one(model: nn.Module, create_graph: bool) -> None:
    graph = graph_of()
    leaves = leaves_of(model, graph)
    results = torch.cat([value.flatten() for value in whole(model, graph, PLAIN)])[::7]
    rows = torch.eye(len(results), dtype=torch.float64)
    asked = {"retain_graph": True, "create_graph": create_graph, "allow_unused": True, "materialize_grads": True}
    single = [torch.autograd.grad(results, leaves, row, **asked) for row in rows]
    together = torch.autograd.grad(results, leaves, rows, is_grads_batched=True, **asked)
    assert_equal(together, tuple(torch.stack(each) for each in zip(*single, strict=True)))


def test_jacobians_by_torch_func_are_those_of_autograd(model: nn.Module) -> None:
    graph = graph_of()

    def function(positions: Tensor) -> Tensor:
        return model(replace(graph, positions=positions))[1].flatten()[:5]

    expected = torch.autograd.functional.jacobian(function, graph.positions.detach())
    assert_equal((torch.func.jacrev(function)(graph.positions.detach()),), (expected,))


PLAIN_OPERATIONS = ("linear", "modified_fisher")  # nothing of their own that could fail; the latter is slow
EVERY = [schema for schema in (*SCHEMAS, *CLASSIFIERS) if schema().name not in PLAIN_OPERATIONS]


@pytest.mark.parametrize("schema", EVERY)
def test_every_model_may_be_checkpointed_and_asked_for_many_gradients(schema: type) -> None:
    torch.manual_seed(0)
    if schema in CLASSIFIERS:
        model, graph = build(schema(), fiber_in=Fiber("1x1"), fiber_out=Fiber("3x0"), pooled=True), scans(2, 9)
    else:
        model, graph = build(schema(), **SCALARS, pooled=True), clouds(3, 4, fiber=SCALARS["fiber_in"])
    model.double().eval()
    leaves = list(model.parameters())
    kept = torch.get_rng_state()
    plain = model(graph)[0].flatten()
    torch.set_rng_state(kept)
    again = checkpoint(lambda: model(graph)[0].flatten(), use_reentrant=False)
    rows = torch.eye(len(plain), dtype=torch.float64)[:2]
    asked = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    expected = [torch.autograd.grad(plain, leaves, row, **asked) for row in rows]
    assert_equal(torch.autograd.grad(again, leaves, rows[0], **asked), expected[0])
    together = torch.autograd.grad(plain, leaves, rows, is_grads_batched=True, **asked)
    for one, other in zip(together, map(torch.stack, zip(*expected, strict=True)), strict=True):
        torch.testing.assert_close(one.expand_as(other), other, rtol=1e-9, atol=1e-9)  # unused parameters have one zero
