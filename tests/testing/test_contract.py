"""Sound models pass every test of the contract; each fault is caught by the test that names it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from se3t.fiber import Features, Fiber
from se3t.geometry import reciprocal_order
from se3t.graph import Graph, knn_graph
from se3t.testing import TRANSFORMS, ModelContract
from se3t.testing.controls import AddFixedVector, DependOnNodeOrder, DependOnOrigin, IgnoreWignerD

from .toys import Chiral, Moments, Plain, Pooled

ALL = frozenset(TRANSFORMS)
NONE: frozenset[str] = frozenset()


class Contract(ModelContract):
    fiber_in: ClassVar[Fiber] = Fiber("2x0+1x1")
    fiber_out: ClassVar[Fiber] = Fiber("1x0+2x1+1x2")
    holds, breaks = ALL, NONE
    build: ClassVar[type[nn.Module]] = Moments

    def make_model(self) -> nn.Module:
        return self.build(self.fiber_in, self.fiber_out)


class TestMoments(Contract):
    num_edge_scalars = 2
    fiber_edge = Fiber("1x1")


class TestMomentsOnNearestNeighbours(Contract):
    def make_edges(self, positions: Tensor, batch: Tensor) -> Tensor:
        return knn_graph(positions, 3, batch)


class TestChiral(Contract):
    build = Chiral
    holds, breaks = ModelContract.SE3, frozenset({"reflection"})


class TestPooled(Contract):
    build = Pooled


class TestPlain(Contract):
    build = Plain
    holds, breaks = frozenset({"permutation", "translation"}), frozenset({"rotation", "reflection"})
    is_local = False


# --- faults, each with the tests that must catch it ------------------------------------------------------------------


class Published(Moments):
    """``Moments`` spoilt by a control."""

    control: ClassVar[type[nn.Module]]

    def forward(self, graph: Graph) -> Features:
        return self.control(super().forward)(graph)


class FixedVector(Published):
    control = AddFixedVector


class NodeOrder(Published):
    control = DependOnNodeOrder


class Components(Published):
    control = IgnoreWignerD


class Origin(Published):
    control = DependOnOrigin


class WrongFiber(Moments):
    def __init__(self, fiber_in: Fiber, fiber_out: Fiber) -> None:
        super().__init__(fiber_in, fiber_out + Fiber("1x0"))


class ZeroDegree(Moments):
    def forward(self, graph: Graph) -> Features:
        out = super().forward(graph)
        return {**out, 2: 0 * out[2]}


class UnsafeNorm(Moments):
    """‖x‖ has no gradient at 0."""

    def envelope(self, vector: Tensor) -> Tensor:
        return torch.exp(-vector.norm(dim=-1) - (vector * vector).sum(dim=-1).sqrt())


class UnsafeDirection(Moments):
    """Where points coincide, a direction that does not turn with the input."""

    def vector(self, graph: Graph) -> Tensor:
        vector = super().vector(graph)
        return torch.where((vector == 0).all(dim=-1, keepdim=True), torch.tensor([0.0, 1.0, 0.0]).to(vector), vector)


class AzimuthAngle(Moments):
    """The angle atan2(x, z) of the edge has no gradient, and no equivariance, on the polar axis."""

    def envelope(self, vector: Tensor) -> Tensor:
        on_axis = (vector[:, 0] == 0) & (vector[:, 2] == 0)
        return super().envelope(vector) * torch.where(on_axis, 2.0, 1.0)


class MeanOverEdges(Moments):
    """Divides by the number of edges, which is zero for an isolated node."""

    def forward(self, graph: Graph) -> Features:
        degree = graph.target.bincount(minlength=graph.num_nodes)[:, None, None]
        return {l: value / degree for l, value in super().forward(graph).items()}


class LeaksAcrossClouds(Moments):
    def charge(self, graph: Graph) -> Tensor:
        return super().charge(graph) - super().charge(graph).mean()


class LooksBeyondEdges(Moments):
    def charge(self, graph: Graph) -> Tensor:
        charge = super().charge(graph)
        total = charge.new_zeros(graph.num_graphs).index_add(0, graph.batch, charge)
        return charge * total[graph.batch]


class CutsPositions(Moments):
    def vector(self, graph: Graph) -> Tensor:
        return super().vector(replace(graph, positions=graph.positions.detach()))


class CutsParameter(Moments):
    def degree(self, graph: Graph, degree: int) -> Tensor:
        return super().degree(graph, degree).detach() if degree == 2 else super().degree(graph, degree)


class ForgetsState(Moments):
    """A weight that ``state_dict`` does not know."""

    def __init__(self, fiber_in: Fiber, fiber_out: Fiber) -> None:
        super().__init__(fiber_in, fiber_out)
        self.gain = torch.rand(1).item()

    def charge(self, graph: Graph) -> Tensor:
        return self.gain * super().charge(graph)


class WritesInput(Moments):
    def charge(self, graph: Graph) -> Tensor:
        charge = super().charge(graph)
        graph.features[0].data.mul_(2)
        return charge


class SharesAmongPairs(Moments):
    """A short cut for reciprocal edges that does not compute the same as the long way."""

    def charge(self, graph: Graph) -> Tensor:
        paired = reciprocal_order(graph.edge_index, graph.num_nodes) is not None
        return super().charge(graph) * (1.001 if paired else 1.0)


FAULTS: dict[type[nn.Module], list[str]] = {
    FixedVector: ["test_declared_symmetries_hold", "test_declared_symmetries_hold_in_single_precision"],
    Components: ["test_declared_symmetries_hold"],
    NodeOrder: ["test_declared_symmetries_hold", "test_batch_equals_single_graphs"],
    Origin: ["test_declared_symmetries_hold"],
    WrongFiber: ["test_output_is_a_field_of_the_declared_fiber"],
    ZeroDegree: ["test_output_is_a_field_of_the_declared_fiber"],
    UnsafeNorm: ["test_gradients_are_finite_at_coincident_points"],
    UnsafeDirection: ["test_declared_symmetries_hold_at_coincident_points"],
    AzimuthAngle: ["test_declared_symmetries_hold_for_edges_along_the_axes"],
    MeanOverEdges: ["test_gradients_are_finite_for_isolated_nodes", "test_declared_symmetries_hold_for_isolated_nodes"],
    LeaksAcrossClouds: ["test_batch_equals_single_graphs", "test_clouds_of_a_batch_are_independent"],
    SharesAmongPairs: ["test_clouds_of_a_batch_are_independent"],
    LooksBeyondEdges: ["test_far_apart_parts_of_a_cloud_are_independent_of_each_other"],
    CutsPositions: ["test_gradients_are_complete"],
    CutsParameter: ["test_every_parameter_gets_a_gradient"],
    ForgetsState: ["test_state_dict_round_trip"],
    WritesInput: ["test_a_copy_computes_the_same_and_input_is_left_alone"],
}


@pytest.mark.parametrize(
    ("fault", "test"),
    [(fault, test) for fault, tests in FAULTS.items() for test in tests],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_contract_catches(fault: type[nn.Module], test: str) -> None:
    contract = Contract()
    contract.build = fault
    with pytest.raises(AssertionError):
        getattr(contract, test)()


@pytest.mark.parametrize(
    ("holds", "breaks", "test"),
    [
        (ALL - {"reflection"}, frozenset({"reflection"}), "test_undeclared_symmetries_are_broken"),
        (ALL - {"reflection"}, NONE, "test_every_symmetry_is_declared"),
        (ALL, frozenset({"rotation"}), "test_every_symmetry_is_declared"),
    ],
)
def test_contract_refuses_false_declarations(holds: frozenset[str], breaks: frozenset[str], test: str) -> None:
    contract = Contract()
    contract.holds, contract.breaks = holds, breaks
    with pytest.raises(AssertionError):
        getattr(contract, test)()


def test_contract_refuses_a_local_model_declared_as_one_that_sees_the_cloud() -> None:
    contract = Contract()
    contract.is_local = False
    with pytest.raises(AssertionError, match="do not see each other"):
        contract.test_far_apart_parts_of_a_cloud_are_independent_of_each_other()


def test_a_contract_without_a_model_says_so() -> None:
    with pytest.raises(NotImplementedError):
        ModelContract().make_model()


def test_every_fault_passes_the_tests_that_do_not_concern_it() -> None:
    """The faults are small: each model still gives a field of the right shape, so a failure is about its fault."""
    shape = "test_output_is_a_field_of_the_declared_fiber"
    for fault, tests in FAULTS.items():
        contract = Contract()
        contract.build = fault
        if shape not in tests:
            getattr(contract, shape)()
