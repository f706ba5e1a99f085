"""One message of either released code, written out with e3nn, beside ours with mapped weights."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from se3t.compat import authors
from se3t.compat.layers import ReleasedConv, ReleasedSettings
from se3t.compat.mapping import RadialNames, Signs, WeightMap, signs_of
from se3t.compat.nvidia.loading import coefficient_signs, kernel_signs
from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph, fully_connected
from se3t.nn import EquivariantBasis
from se3t.so3 import clebsch_gordan

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    o3: Any = pytest.importorskip("e3nn.o3")

FIBER_IN, FIBER_OUT = Fiber("2x0+3x1+1x2"), Fiber("3x0+2x1+2x3")
NVIDIA_NAMES = RadialNames(("0", "3", "6"), ("1", "4"))


def cloud() -> Graph:
    batch = torch.zeros(5, dtype=torch.int64)
    edges = fully_connected(batch)
    features = {
        degree: torch.randn(5, count, 2 * degree + 1, dtype=torch.float64) for degree, count in FIBER_IN.items()
    }
    scalars = torch.randn(edges.shape[1], 2, dtype=torch.float64)
    return Graph(torch.randn(5, 3, dtype=torch.float64), features, edges, batch, 1, scalars)


def mapped(names: RadialNames, signs: Signs, **options: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """A convolution of ours, and the random weights under their names that it holds, a network for each pair."""
    holder = nn.Module()
    settings = ReleasedSettings(2, radial_hidden=5, **options)
    conv = ReleasedConv(FIBER_IN, FIBER_OUT, settings, reduce="none").double()
    holder.conv = conv
    weights = WeightMap(holder)
    for k in FIBER_IN:
        for l in FIBER_OUT:
            weights.radial(f"{k},{l}", "conv", conv, [(l, k)], names, signs)
    theirs = {name: torch.randn(shape, dtype=torch.float64) for name, shape in weights.theirs.items()}
    holder.load_state_dict(weights.to_ours(theirs))
    return conv, theirs


def radial(theirs: dict[str, Tensor], pair: str, names: RadialNames, inputs: Tensor) -> Tensor:
    """Linear – LayerNorm – ReLU, twice, then Linear."""
    value = inputs
    for linear, norm in zip(names.linear, (*names.norm, None), strict=True):
        value = functional.linear(value, theirs[f"{pair}.{linear}.weight"], theirs.get(f"{pair}.{linear}.bias"))
        if norm is not None:
            weight, bias = theirs[f"{pair}.{norm}.weight"], theirs[f"{pair}.{norm}.bias"]
            value = functional.relu(functional.layer_norm(value, value.shape[-1:], weight, bias))
    return value


def messages(
    graph: Graph, theirs: dict[str, Tensor], names: RadialNames, kernels: dict[tuple[int, int], Tensor]
) -> dict[int, Tensor]:
    """Σ_k W^{lk} f_j^k with W = Σ_J R_J K_J; R has rows (C_out, C_in, J), K is ``[edge, 2l+1, 2k+1, J]``."""
    inputs = torch.cat([graph.edge_scalars, difference(graph).norm(dim=-1, keepdim=True)], dim=1)  # type: ignore[list-item]
    out: dict[int, Tensor] = {}
    for (l, k), kernel in kernels.items():
        r = radial(theirs, f"{k},{l}", names, inputs).unflatten(1, (FIBER_OUT[l], FIBER_IN[k], kernel.shape[-1]))
        message = torch.einsum("ewup,emnp,eun->ewm", r, kernel, graph.features[k][graph.source])
        out[l] = out.get(l, 0) + message
    return out


def difference(graph: Graph) -> Tensor:
    return graph.positions[graph.target] - graph.positions[graph.source]


def harmonics(graph: Graph, degree: int) -> Tensor:
    found: Tensor = o3.spherical_harmonics(degree, difference(graph), normalize=True, normalization="integral")
    return found


def assert_equal(graph: Graph, conv: nn.Module, expected: dict[int, Tensor]) -> None:
    received = conv(graph.features, EquivariantBasis(EdgeGeometry.of(graph), 3))
    assert received.keys() == expected.keys()
    for degree, value in expected.items():
        torch.testing.assert_close(received[degree], value, rtol=1e-11, atol=1e-11)


def test_a_message_of_the_authors_code() -> None:
    """Harmonics of x_i − x_j that carry (−1)^J, and Q_J of any sign; a bias in the last radial layer."""
    graph = cloud()
    draw = torch.Generator().manual_seed(4)
    couplings = {
        (degree, k, l): clebsch_gordan(l, k, degree).flatten(0, 1) * (1 - 2 * int(torch.randint(2, (), generator=draw)))
        for l in range(4)
        for k in range(4)
        for degree in range(abs(l - k), l + k + 1)
    }
    conv, theirs = mapped(authors.RADIAL, signs_of(couplings, 3))
    kernels = {}
    for l in FIBER_OUT:
        for k in FIBER_IN:
            paths = [
                torch.einsum("aj,ej->ea", couplings[degree, k, l], (-1) ** degree * harmonics(graph, degree))
                for degree in range(abs(l - k), l + k + 1)
            ]
            kernels[l, k] = torch.stack([path.unflatten(1, (2 * l + 1, 2 * k + 1)) for path in paths], dim=-1)
    assert_equal(graph, conv, messages(graph, theirs, authors.RADIAL, kernels))


@pytest.mark.parametrize("constant", [True, False])
def test_a_message_of_nvidias_code(constant: bool) -> None:
    """Harmonics of x_i − x_j, wigner_3j with its axes reversed, no last bias; (0, 0) without Y_00 where it is alone."""
    graph = cloud()
    signs = kernel_signs(coefficient_signs("0.6.0"))
    conv, theirs = mapped(NVIDIA_NAMES, signs, radial_bias=False, scalar_constant=constant)
    kernels = {}
    for l in FIBER_OUT:
        for k in FIBER_IN:
            paths = []
            for degree in range(abs(l - k), l + k + 1):
                coupling = o3.wigner_3j(degree, k, l, dtype=torch.float64).permute(2, 1, 0)
                paths.append(torch.einsum("mnj,ej->emn", coupling, harmonics(graph, degree)))
            kernels[l, k] = torch.stack(paths, dim=-1)
    if not constant:
        kernels[0, 0] = torch.ones_like(kernels[0, 0])
    assert_equal(graph, conv, messages(graph, theirs, NVIDIA_NAMES, kernels))
