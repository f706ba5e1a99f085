"""Comparisons of the Triton kernel with the reference, for a process of its own: ``python -m nn.triton_cases``.

Triton decides when it is loaded whether it interprets kernels, so that this must not happen in the process of the other
tests. Prints the largest relative difference of every case as JSON.
"""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from se3t.fiber import Fiber
from se3t.graph import Graph
from se3t.nn import RadialNetwork
from se3t.nn.kernels import Kernel, Sources, edge_frame, reference, triton_kernel

from .clouds import AXES, COINCIDENT, FIBER, basis_of, make_graph

FIBERS = {
    "several": (FIBER, FIBER),
    "up": (Fiber("2x0"), Fiber("3x2")),
    "gaps": (Fiber("1x1+2x3"), Fiber("2x0+3x2")),
    "higher": (Fiber("1x0+2x1"), Fiber("2x0+2x1+1x3+1x4")),
    "wide": (Fiber("9x0+8x1"), Fiber("40x0+33x1")),
}
POSITIONS = {"generic": None, "axes": AXES, "coincident": COINCIDENT}
SHARES = ("none", "full", "degree_out", "degree_in")
UNUSED = {"allow_unused": True, "materialize_grads": True}
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32, "float16": torch.float32}
"""Of weights and positions."""
LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Of autocast."""


def values_and_gradients(
    kernel: Kernel, radial: RadialNetwork, graph: Graph, *, second: bool = False, low: torch.dtype | None = None
) -> list[Tensor]:
    """Messages, and gradients to positions, features and parameters, in float64."""
    dtype = graph.positions.dtype
    leaves = [graph.positions.clone(), *(value.clone() for value in graph.features.values())]
    for leaf in leaves:
        leaf.requires_grad_()
    features = dict(zip(graph.features, leaves[1:], strict=True))
    moved = replace(graph, positions=leaves[0], features=features)
    basis = basis_of(moved, 4, pair=True)
    with torch.autocast(graph.device.type, low, enabled=low is not None):
        out = kernel(Sources(features, basis.geometry.source), radial, basis)
    probe = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=dtype, device=graph.device)
    for value in out.values():
        weight = torch.randn(value.shape, generator=probe, dtype=torch.float64)
        loss = loss + (value * weight.to(device=graph.device, dtype=dtype)).sum()
    parameters = list(radial.parameters())
    found = torch.autograd.grad(loss, [*leaves, *parameters], create_graph=second, **UNUSED)
    twice: tuple[Tensor, ...] = ()
    if second:
        squares = torch.stack([value.square().sum() for value in found]).sum()
        twice = torch.autograd.grad(squares, [*leaves, *parameters], **UNUSED)
    return [value.detach().double().cpu() for value in (*out.values(), *found, *twice)]


def difference(received: list[Tensor], expected: list[Tensor]) -> float:
    """Largest ‖received − expected‖ / (1 + ‖expected‖); infinite where a value is not finite."""
    assert len(received) == len(expected)
    if not all(value.isfinite().all() for value in received):
        return float("inf")
    pairs = zip(received, expected, strict=True)
    return max(float((one - other).norm() / (1 + other.norm())) for one, other in pairs)


def radial_of(fibers: str, share: str, parity: bool = False) -> RadialNetwork:
    """See :func:`moved_off`."""
    return moved_off(RadialNetwork(*FIBERS[fibers], 2, share=share, parity=parity))


def moved_off(radial: RadialNetwork) -> RadialNetwork:
    """In float64, every parameter moved off its initial value."""
    radial = radial.double()
    with torch.no_grad():
        for parameter in radial.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return radial


def deviation(
    kernel: Kernel, radial: RadialNetwork, graph: Graph, dtype: str, *, second: bool = False, device: str = "cpu"
) -> float:
    """Of the kernel in the dtype under test from the reference in float64; of 16 bits over that of ``edge_frame``."""
    expected = values_and_gradients(reference.messages, radial, graph, second=second)
    own = copy.deepcopy(radial).to(device, DTYPES[dtype]), graph.to(device, DTYPES[dtype])
    low = LOW.get(dtype)
    found = difference(values_and_gradients(kernel, *own, second=second, low=low), expected)
    if low is not None and found:  # what rounding to 8 or 11 bits costs, by the other kernel
        found /= difference(values_and_gradients(edge_frame.messages, *own, second=second, low=low), expected)
    return found


def compare(
    fibers: str,
    share: str,
    positions: str,
    dtype: str,
    *,
    symmetric: bool,
    parity: bool = False,
    kernel: Kernel = triton_kernel.messages,
    **how: Any,
) -> float:
    """The :func:`deviation` of a case."""
    torch.manual_seed(0)
    graph = make_graph(FIBERS[fibers][0], POSITIONS[positions], symmetric=symmetric)
    return deviation(kernel, radial_of(fibers, share, parity), graph, dtype, **how)


def without_edges() -> int:
    """Number of messages and gradients to the parameters that are not zero, in a graph without edges."""
    graph = make_graph(FIBER, radius=1e-6)
    found = values_and_gradients(triton_kernel.messages, RadialNetwork(FIBER, FIBER, 2).double(), graph)
    return sum(int(value.count_nonzero()) for value in found)


def without_reading() -> float:
    """Largest difference where coincident points are chosen by a mask."""
    torch.manual_seed(0)
    graph, radial = make_graph(FIBER, COINCIDENT, symmetric=True), RadialNetwork(FIBER, FIBER, 2).double()
    with edge_frame.without_reading_values():
        received = values_and_gradients(triton_kernel.messages, radial, graph)
    return difference(received, values_and_gradients(reference.messages, radial, graph))


def main() -> None:
    reason = triton_kernel.unavailable("cpu")
    if reason is not None:
        raise SystemExit(reason)
    out: dict[str, float] = {"no edges": without_edges(), "no values read": without_reading()}
    for fibers in FIBERS:
        for share in SHARES if fibers == "gaps" else ("none", "full"):
            positions = "coincident" if share in ("none", "degree_in") else "generic"
            for dtype in ("float64", "float32", "bfloat16") if fibers in ("several", "up", "wide") else ("float64",):
                case = f"{dtype} {fibers} {share} {positions}"
                out[case] = compare(fibers, share, positions, dtype, symmetric=share != "full")
    out["float64 axes"] = compare("several", "full", "axes", "float64", symmetric=True)
    out["float64 second"] = compare("several", "none", "coincident", "float64", symmetric=True, second=True)
    out["float64 second, single edges"] = compare("gaps", "full", "axes", "float64", symmetric=False, second=True)
    out["float64 parity"] = compare("several", "none", "coincident", "float64", symmetric=True, parity=True)
    sys.stdout.write(json.dumps(out))


if __name__ == "__main__":
    main()
