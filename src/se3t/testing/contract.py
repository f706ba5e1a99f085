"""Tests for every model of this library, to inherit.

A test file subclasses :class:`ModelContract` and says how to build the model and which symmetries it has::

    class TestTFN(ModelContract):
        fiber_in, fiber_out = Fiber("1x0+2x1"), Fiber("2x1")
        num_edge_scalars = 1
        holds, breaks = ModelContract.SE3, frozenset({"reflection"})

        def make_model(self) -> nn.Module:
            return TFN(self.fiber_in, self.fiber_out, ...)

pytest collects the inherited methods; any other runner may call them. One subclass for each branch of a model (unequal
channels, each normalisation, each kernel) keeps every branch under the contract.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from se3t.batching import batch_graphs
from se3t.fiber import Features, Fiber
from se3t.graph import Graph, fully_connected
from se3t.testing.equivariance import TRANSFORMS, assert_equivariant, equivariance_error


class ModelContract:
    """Tests of a model ``forward(graph) -> Features``, run in float64 on small random graphs.

    Parameters are moved off their initial values first (:meth:`model`): a bias of zero would hide its faults.

    Attributes:
        fiber_in: node features that the model takes. fiber_out: what it returns, for each node or each graph.
        num_edge_scalars: invariant edge features. fiber_edge: edge features of any type.
        sizes: points of the clouds of an ordinary batch.
        holds: transforms (see :mod:`se3t.testing.equivariance`) that the model commutes with.
        breaks: transforms that it is shown not to commute with; together with ``holds`` all four.
        is_local: a node depends only on what a path of edges leads from. False for models that see a cloud as a set.
        tolerance: largest relative error in float64. loose_tolerance: in float32.
        unused_parameters: names of parameters that no output depends on.
    """

    SE3: ClassVar[frozenset[str]] = frozenset({"rotation", "translation", "permutation"})

    fiber_in: ClassVar[Fiber]
    fiber_out: ClassVar[Fiber]
    num_edge_scalars: ClassVar[int] = 0
    fiber_edge: ClassVar[Fiber] = Fiber({})
    sizes: ClassVar[Sequence[int]] = (5, 3, 6)
    holds: ClassVar[frozenset[str]] = SE3
    breaks: ClassVar[frozenset[str]] = frozenset({"reflection"})
    is_local: ClassVar[bool] = True
    tolerance: ClassVar[float] = 1e-12
    loose_tolerance: ClassVar[float] = 1e-5
    unused_parameters: ClassVar[Sequence[str]] = ()

    # --- to be overridden ---------------------------------------------------------------------------------------------

    def make_model(self) -> nn.Module:
        """The model as a user builds it; called afresh by every test."""
        raise NotImplementedError

    def make_edges(self, positions: Tensor, batch: Tensor) -> Tensor:
        """``edge_index`` of a batch; default: fully connected clouds. A model for kNN graphs overrides it."""
        return fully_connected(batch)

    # --- material -----------------------------------------------------------------------------------------------------

    def model(self, seed: int = 0) -> nn.Module:
        """The model in float64 and ``eval()``, every parameter moved by Gaussian noise of standard deviation 0.1."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.make_model().double().eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return model

    def graph(self, *clouds: Tensor, seed: int = 0) -> Graph:
        """Clouds at the given positions (default: random, of ``sizes``) with random features, float64.

        Edge scalars are products over the two nodes, q_i q_j: reciprocal edges share them, as charges and bonds do.
        """
        source = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=source, dtype=torch.float64)

        clouds = clouds or tuple(draw(size, 3) for size in self.sizes)
        sizes = torch.tensor([len(cloud) for cloud in clouds])
        batch = torch.repeat_interleave(sizes)
        positions = torch.cat(clouds)
        edge_index = self.make_edges(positions, batch)
        num_edges = edge_index.shape[1]
        charges = draw(len(batch), self.num_edge_scalars)[edge_index]  # [end, edge, channel]
        return Graph(
            positions=positions,
            features={degree: draw(len(batch), count, 2 * degree + 1) for degree, count in self.fiber_in.items()},
            edge_index=edge_index,
            batch=batch,
            num_graphs=len(clouds),
            edge_scalars=charges[0] * charges[1] if self.num_edge_scalars else None,
            edge_features={degree: draw(num_edges, count, 2 * degree + 1) for degree, count in self.fiber_edge.items()},
        ).check()

    def coincident_graph(self) -> Graph:
        """Two generic clouds with coincident points, and one whose points all coincide."""
        twins = _normal(4, 3)
        return self.graph(twins[[0, 1, 1, 2, 3]], torch.zeros(3, 3, dtype=torch.float64), twins[[0, 0, 2, 3]] + 1.0)

    def axes_graph(self) -> Graph:
        """The origin and points on all six half axes (poles included), and two points on each axis alone."""
        axes = torch.eye(3, dtype=torch.float64)
        pairs = [torch.stack([torch.zeros_like(axis), axis]) for axis in axes]
        return self.graph(torch.cat([torch.zeros_like(axes[:1]), axes, -axes]), *pairs)

    def isolated_graph(self) -> Graph:
        """A cloud of one point between larger ones, and a node that no edge reaches or leaves."""
        graph = self.graph(_normal(4, 3), _normal(1, 3), _normal(3, 3) + 1.0)
        return _keep_edges(graph, (graph.target != 0) & (graph.source != 0))

    def one_way_graph(self) -> Graph:
        """An ordinary batch with other scalars on every edge, in which some edges have no reverse."""
        graph = self.graph()
        scalars = None if graph.edge_scalars is None else _normal(*graph.edge_scalars.shape, seed=3)
        return _keep_edges(replace(graph, edge_scalars=scalars), torch.arange(graph.edge_index.shape[1]) % 5 > 0)

    # --- the contract -------------------------------------------------------------------------------------------------

    def test_output_is_a_field_of_the_declared_fiber(self) -> None:
        """Fibers as declared, a row for each node or graph, the dtype of the input, and not zero."""
        model, graph = self.model(), self.graph()
        assert model.fiber_in == self.fiber_in, f"fiber_in: declared {self.fiber_in!r}, got {model.fiber_in!r}"
        assert model.fiber_out == self.fiber_out, f"fiber_out: declared {self.fiber_out!r}, got {model.fiber_out!r}"
        output = model(graph)
        self.fiber_out.check(output, "output")
        for degree, value in output.items():
            assert len(value) in (graph.num_nodes, graph.num_graphs), f"degree {degree}: {len(value)} rows"
            assert value.dtype == torch.float64, f"degree {degree}: {value.dtype} from float64 input"
            assert bool((value != 0).any()), f"degree {degree} is zero everywhere, so that no test of it can fail"

    def test_every_symmetry_is_declared(self) -> None:
        """Each of the four transforms is either claimed or denied."""
        claimed = sorted([*self.holds, *self.breaks])
        assert claimed == sorted(TRANSFORMS), f"holds and breaks together must name each of {TRANSFORMS}, got {claimed}"

    def test_declared_symmetries_hold(self) -> None:
        """Δ_EQ of every degree, float64, generic clouds."""
        self._assert_symmetric(self.model(), self.graph())

    def test_declared_symmetries_hold_in_single_precision(self) -> None:
        """Δ_EQ of every degree, float32."""
        model, graph = self.model().float(), self.graph().to(torch.float32)
        assert_equivariant(model, graph, self.loose_tolerance, self.holds, generator=_generator())

    def test_declared_symmetries_hold_at_coincident_points(self) -> None:
        """Δ_EQ with edges of length zero."""
        self._assert_symmetric(self.model(), self.coincident_graph())

    def test_declared_symmetries_hold_for_edges_along_the_axes(self) -> None:
        """Δ_EQ where spherical angles are singular."""
        self._assert_symmetric(self.model(), self.axes_graph())

    def test_declared_symmetries_hold_for_isolated_nodes(self) -> None:
        """Δ_EQ with nodes that no edge reaches."""
        self._assert_symmetric(self.model(), self.isolated_graph())

    def test_declared_symmetries_hold_for_edges_that_go_one_way(self) -> None:
        """Δ_EQ of a directed graph, whose reciprocal edges share nothing."""
        self._assert_symmetric(self.model(), self.one_way_graph())

    def test_undeclared_symmetries_are_broken(self) -> None:
        """A symmetry that is denied fails its test, so that the test means something."""
        model, graph = self.model(), self.graph()
        for transform in sorted(self.breaks):
            errors = equivariance_error(model, graph, generator=_generator(), transform=transform)
            assert max(errors.values()) > 1e-3, f"{transform} was declared broken, but its errors are {errors}"

    def test_batch_equals_single_graphs(self) -> None:
        """A batch gives what its clouds give alone, in any order."""
        model, graph = self.model(), self.graph()
        singles = [_cloud(graph, number) for number in range(graph.num_graphs)]
        _assert_equal(model(graph), _cat([model(single) for single in singles]))
        _assert_equal(model(batch_graphs(singles[::-1])), _cat([model(single) for single in singles[::-1]]))

    def test_clouds_of_a_batch_are_independent(self) -> None:
        """Other clouds may change, move far away, or have edges of another kind."""
        model, graph = self.model(), self.graph()
        first = _cloud(graph, 0)
        far = self.graph(*(_normal(size, 3) + 1e3 for size in self.sizes), seed=1)
        for others in (self.graph(seed=1), far, self.one_way_graph()):
            batch = batch_graphs([first, others])
            output = model(batch)
            rows = {d: first.num_nodes if len(value) == batch.num_nodes else 1 for d, value in output.items()}
            _assert_equal({d: value[: rows[d]] for d, value in output.items()}, model(first))

    def test_far_apart_parts_of_a_cloud_are_independent_of_each_other(self) -> None:
        """Two parts of one cloud that no edge joins; a model that is not local must mix them."""
        model, near, far = self.model(), self.graph(_normal(4, 3)), self.graph(_normal(5, 3) + 1e2, seed=1)
        pair = batch_graphs([near, far])
        one_cloud = replace(pair, batch=torch.zeros_like(pair.batch), num_graphs=1)
        output, alone = model(one_cloud), model(near)
        if any(len(value) != pair.num_nodes for value in output.values()):
            return  # a pooled output mixes the nodes of its cloud by design
        part = {degree: value[: near.num_nodes] for degree, value in output.items()}
        if self.is_local:
            _assert_equal(part, alone)
        else:
            change = max(float((part[degree] - alone[degree]).detach().abs().max()) for degree in alone)
            assert change > 1e-6, "is_local = False, but the parts of a cloud do not see each other"

    def test_gradients_are_finite_at_coincident_points(self) -> None:
        """Output and all gradients are finite with edges of length zero."""
        _assert_finite_gradients(self.model(), self.coincident_graph())

    def test_gradients_are_finite_for_isolated_nodes(self) -> None:
        """Output and all gradients are finite without edges."""
        _assert_finite_gradients(self.model(), self.isolated_graph())
        alone = self.graph(_normal(1, 3))
        _assert_finite_gradients(self.model(), alone)

    def test_gradients_are_complete(self) -> None:
        """Directional derivative by positions and all features against central differences.

        The best of three steps counts: the kink of a ReLU may lie within the larger ones, rounding spoils the smaller.
        """
        model, graph = self.model(), self.graph()
        leaves = _leaves(graph)
        direction = [_normal(*leaf.shape, seed=2) for leaf in leaves]
        gradients = _gradients(_loss(model(_with_leaves(graph, leaves))), leaves)
        exact = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))

        def moved(step: float) -> float:
            shifted = [leaf.detach() + step * d for leaf, d in zip(leaves, direction, strict=True)]
            return float(_loss(model(_with_leaves(graph, shifted))).detach())

        numeric = [(moved(step) - moved(-step)) / (2 * step) for step in (1e-5, 1e-6, 1e-7)]
        error = min(abs(exact - value) for value in numeric)
        assert error <= 1e-6 * max(1.0, abs(exact)), f"autograd {exact}, finite differences {numeric}"

    def test_order_of_degrees_in_the_input_does_not_matter(self) -> None:
        """Features are a mapping: {1: …, 0: …} and {0: …, 1: …} are the same field."""
        model, graph = self.model(), self.graph()
        turned = replace(
            graph,
            features=dict(reversed(graph.features.items())),
            edge_features=dict(reversed(graph.edge_features.items())),
        )
        _assert_close(model(turned), model(graph), self.tolerance)

    def test_mixed_precision_has_gradients(self) -> None:
        """Forward and backward under autocast to bfloat16, near the result in float32."""
        model, graph = self.model().float(), self.graph().to(torch.float32)
        exact = model(graph)
        with torch.autocast("cpu", torch.bfloat16):
            output = model(graph)
        _assert_close({degree: value.float() for degree, value in output.items()}, exact, 0.1)
        parameters = list(model.parameters())
        if parameters:
            loss = _loss({degree: value.float() for degree, value in output.items()})
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            assert all(gradient is None or bool(gradient.isfinite().all()) for gradient in gradients)

    def test_inference_first_does_not_hinder_training(self) -> None:
        """Constants made and kept under inference mode must serve autograd later."""
        model, graph = self.model(), self.graph()
        with torch.inference_mode():
            model(graph)
        leaves = _leaves(graph)
        gradients = _gradients(_loss(model(_with_leaves(graph, leaves))), leaves)
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)

    def test_every_parameter_gets_a_gradient(self) -> None:
        """No parameter is cut off from the output."""
        model = self.model()
        parameters = dict(model.named_parameters())
        if not parameters:
            return
        gradients = torch.autograd.grad(_loss(model(self.graph())), list(parameters.values()), allow_unused=True)
        missing = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None}
        assert missing == set(self.unused_parameters), f"parameters without a gradient: {sorted(missing)}"

    def test_state_dict_round_trip(self) -> None:
        """Stored and loaded weights compute the same, bit for bit."""
        graph, model, other = self.graph(), self.model(seed=0), self.model(seed=1)
        if list(model.parameters()):
            differs = any(not torch.equal(a, b) for a, b in _pairs(model(graph), other(graph)))
            assert differs, "two seeds give the same model, so that a round trip shows nothing"
        stored = io.BytesIO()
        torch.save(model.state_dict(), stored)
        stored.seek(0)
        other.load_state_dict(torch.load(stored, weights_only=True))
        for first, second in _pairs(model(graph), other(graph)):
            assert torch.equal(first, second), "the loaded model computes something else"

    def test_a_copy_computes_the_same_and_input_is_left_alone(self) -> None:
        """A deep copy works; the graph is not written to."""
        model, graph = self.model(), self.graph()
        before = copy.deepcopy(graph)
        for first, second in _pairs(model(graph), copy.deepcopy(model)(graph)):
            assert torch.equal(first, second), "a copy computes something else"
        assert torch.equal(graph.positions, before.positions), "the model changed its input positions"
        for first, second in _pairs(graph.features, before.features):
            assert torch.equal(first, second), "the model changed its input features"

    def _assert_symmetric(self, model: Callable[[Graph], Features], graph: Graph) -> None:
        assert_equivariant(model, graph, self.tolerance, sorted(self.holds), num_samples=2, generator=_generator())


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


def _keep_edges(graph: Graph, keep: Tensor) -> Graph:
    return replace(
        graph,
        edge_index=graph.edge_index[:, keep],
        edge_scalars=None if graph.edge_scalars is None else graph.edge_scalars[keep],
        edge_features={degree: value[keep] for degree, value in graph.edge_features.items()},
    )


def _cloud(graph: Graph, number: int) -> Graph:
    """One cloud of a batch as a graph of its own."""
    nodes = graph.batch == number
    part = _keep_edges(graph, nodes[graph.target])
    return replace(
        part,
        positions=graph.positions[nodes],
        features={degree: value[nodes] for degree, value in graph.features.items()},
        edge_index=part.edge_index - int(nodes.nonzero()[0]),
        batch=torch.zeros_like(graph.batch[nodes]),
        num_graphs=1,
    )


def _cat(outputs: list[Features]) -> Features:
    return {degree: torch.cat([output[degree] for output in outputs]) for degree in outputs[0]}


def _pairs(first: Features, second: Features) -> list[tuple[Tensor, Tensor]]:
    return [(value, second[degree]) for degree, value in first.items()]


def _assert_equal(actual: Features, expected: Features) -> None:
    torch.testing.assert_close(dict(sorted(actual.items())), dict(sorted(expected.items())), rtol=1e-10, atol=1e-12)


def _loss(output: Features) -> Tensor:
    return torch.stack([value.square().sum() for value in output.values()]).sum()


def _assert_close(received: Features, expected: Features, tolerance: float) -> None:
    for degree, value in expected.items():
        error = float((received[degree] - value).detach().norm() / value.detach().norm())
        assert error <= tolerance, f"degree {degree}: relative difference {error}"


def _leaves(graph: Graph) -> list[Tensor]:
    """Positions and all features as leaves of a computation."""
    values = [graph.positions, *graph.features.values(), *graph.edge_features.values()]
    return [value.detach().clone().requires_grad_() for value in values]


def _with_leaves(graph: Graph, leaves: list[Tensor]) -> Graph:
    positions, *rest = leaves
    features, edge_features = rest[: len(graph.features)], rest[len(graph.features) :]
    return replace(
        graph,
        positions=positions,
        features=dict(zip(graph.features, features, strict=True)),
        edge_features=dict(zip(graph.edge_features, edge_features, strict=True)),
    )


def _gradients(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradients, strict=True)]


def _assert_finite_gradients(model: nn.Module, graph: Graph) -> None:
    leaves = _leaves(graph)
    output = model(_with_leaves(graph, leaves))
    for degree, value in output.items():
        assert bool(value.isfinite().all()), f"output of degree {degree} is not finite"
    inputs = dict(zip(["positions", *(f"feature {n}" for n in range(1, len(leaves)))], leaves, strict=True))
    wanted = {**inputs, **dict(model.named_parameters())}
    for (name, _), gradient in zip(wanted.items(), _gradients(_loss(output), list(wanted.values())), strict=True):
        assert bool(gradient.isfinite().all()), f"gradient of {name} is not finite"
