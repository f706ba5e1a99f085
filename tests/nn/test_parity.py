"""``parity=True``: of the paths between two degrees only those of natural parity act, in every kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry
from se3t.nn import EquivariantBasis, EquivariantConv, RadialNetwork
from se3t.nn.kernels import KERNELS
from se3t.nn.kernels.native import unavailable

from .clouds import COINCIDENT, FIBER
from .native_cases import conv_of, edges_of, graph_of, run

FIBER_OUT = Fiber("2x0+3x1+1x2+1x4")
FAST = [*(name for name in KERNELS if name not in ("reference", "triton")), "edge_frame low"]


def layer_of(kernel: str, fiber_in: Fiber = FIBER, fiber_out: Fiber = FIBER_OUT, **options: object) -> EquivariantConv:
    name, _, memory = kernel.partition(" ")
    if name == "native" and (reason := unavailable(torch.device("cpu"), torch.float64)) is not None:
        pytest.skip(f"there is no compiled kernel here: {reason}")
    return conv_of(fiber_in, fiber_out, name, **{"parity": True, "memory": memory or "speed", **options})


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.nn.kernels.chunked.CHUNK_BYTES", {"cpu": 2**14})


@pytest.mark.parametrize("kernel", FAST)
@pytest.mark.parametrize(
    "options",
    [{"share_radial": "none"}, {"share_radial": "full", "radial_bias": False}, {"scalar_constant": False}],
    ids=str,
)
@pytest.mark.parametrize("positions", [None, COINCIDENT], ids=["generic", "coincident"])
def test_values_and_gradients_of_every_kernel_are_those_of_the_reference(
    kernel: str, options: dict[str, object], positions: Tensor | None
) -> None:
    nodes = 12 if positions is None else len(positions)
    graph = graph_of(FIBER, edges_of("some", 45, nodes), scalars=2, positions=positions)
    expected, received = (run(layer_of(name, num_edge_scalars=2, **options), graph) for name in ("reference", kernel))
    for one, other in zip(expected, received, strict=True):
        assert (one - other).abs().max() <= 1e-11 * (1 + one.abs().max())


@pytest.mark.parametrize("kernel", ["reference", *FAST])
def test_the_layer_is_the_general_one_with_zeros_for_odd_paths(kernel: str) -> None:
    graph = graph_of(FIBER, edges_of("some", 45))
    even, general = layer_of(kernel), layer_of("reference", parity=False)
    state = even.state_dict()
    for name, value in general.state_dict().items():
        if name.startswith(("radial.weight", "radial.bias")):
            state[name], own = torch.zeros_like(value), state[name]
            for path in range(own.shape[-2]):  # J = |l - k|, |l - k| + 2, …
                state[name][..., 2 * path, :] = own[..., path, :]
    general.load_state_dict(state)
    outputs = len(FIBER_OUT)
    for one, other in zip(run(general, graph)[:outputs], run(even, graph)[:outputs], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kernel", ["reference", *FAST])
@pytest.mark.parametrize("parity", [True, False])
def test_messages_follow_a_reflection_with_parity_and_only_then(kernel: str, parity: bool) -> None:
    layer, graph = layer_of(kernel, parity=parity), graph_of(FIBER, edges_of("some", 45))
    mirrored = replace(
        graph,
        positions=-graph.positions,
        features={degree: (-1) ** degree * value for degree, value in graph.features.items()},
    )
    outputs = len(FIBER_OUT)
    pairs = zip(FIBER_OUT, run(layer, graph)[:outputs], run(layer, mirrored)[:outputs], strict=True)
    errors = [float(((-1) ** degree * one - other).norm() / one.norm()) for degree, one, other in pairs]
    assert max(errors) < 1e-12 if parity else max(errors) > 0.1


def test_the_parameters_are_those_of_the_even_paths() -> None:
    """Σ over pairs of C_out (min(l, k) + 1) C_in (h + 1); 2 min(l, k) + 1 and the same names without parity."""
    networks = {parity: RadialNetwork(FIBER, FIBER_OUT, 1, hidden=16, parity=parity) for parity in (True, False)}
    for parity, network in networks.items():
        last = sum(value.numel() for part in (network.weight, network.bias) for value in part.values())
        paths = {(l, k): min(l, k) + 1 if parity else 2 * min(l, k) + 1 for l in FIBER_OUT for k in FIBER}
        assert last == 17 * sum(FIBER_OUT[l] * count * FIBER[k] for (l, k), count in paths.items())
        for (l, k), count in paths.items():
            assert network.weight[f"{l}_{k}"].shape == (16, FIBER_OUT[l], count, FIBER[k])
            assert network.bias[f"{l}_{k}"].shape == (FIBER_OUT[l], count, FIBER[k])
    assert networks[True].state_dict().keys() == networks[False].state_dict().keys()


@pytest.mark.parametrize("kernel", ["edge_frame", "native"])
def test_gradients_of_positions_and_parameters_are_complete_twice(kernel: str) -> None:
    fiber = Fiber("1x0+1x1")
    layer = layer_of(kernel, fiber, Fiber("1x0+1x1+1x2"), radial_hidden=8)
    graph = graph_of(fiber, edges_of("some", 10, 4), positions=torch.randn(4, 3, dtype=torch.float64))
    names, values = zip(*layer.named_parameters(), strict=True)

    def output(positions: Tensor, *parameters: Tensor) -> Tensor:
        basis = EquivariantBasis(EdgeGeometry.of(replace(graph, positions=positions), pair=True), 2)
        out = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (graph.features, basis))
        return torch.cat([value.flatten() for value in out.values()])

    leaves = [value.detach().clone().requires_grad_() for value in (graph.positions, *values)]
    assert torch.autograd.gradcheck(output, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(output, leaves, fast_mode=True)
