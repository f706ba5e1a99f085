"""The Triton kernel in the shapes of the workloads, for a process of its own: ``python -m nn.triton_shapes shapes``.

See triton_cases.py. The group ``all_shapes`` goes also through what takes long to interpret.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from se3t.fiber import Fiber
from se3t.graph import Graph, fully_connected
from se3t.nn import RadialNetwork
from se3t.nn.kernels import Sources, triton_kernel

from .clouds import basis_of, features_of, make_conv, make_graph
from .triton_cases import DTYPES, LOW, SHARES, deviation, moved_off


@dataclass(frozen=True)
class Shape:
    """Sizes of a layer and of its graph.

    Attributes:
        is_long: whether it takes seconds to interpret.
        in_all_dtypes: whether it is always compared in all dtypes.
    """

    fiber_in: str
    fiber_out: str
    edges: int = 7
    hidden: int = 32
    share: str = "none"
    is_long: bool = False
    in_all_dtypes: bool = False


DEGREES = "2x0+2x1+2x2+2x3+2x4"
SHAPES = {
    **{
        f"{count} channels": Shape(
            f"{count}x0", f"{count}x1", is_long=count > 64, in_all_dtypes=count in (4, 9, 16, 33)
        )
        for count in (4, 5, 8, 9, 16, 32, 33, 40, 64, 128)
    },
    **{
        f"{count} channels of two degrees": Shape(
            f"{count}x0+{count}x1", f"{count}x0+{count}x1", 6, share="full", is_long=count > 16
        )
        for count in (4, 8, 16, 32, 64)
    },
    **{
        f"degrees 0 to 4, {share}": Shape(DEGREES, DEGREES, 6, share=share, is_long=share != "full") for share in SHARES
    },
    **{f"degree {l} from {k}": Shape(f"3x{k}", f"2x{l}", is_long=True) for l in range(5) for k in range(5)},
    **{
        f"{count} edges": Shape("1x0+1x1", "2x0+1x1", count, is_long=count > 100, in_all_dtypes=count < 100)
        for count in (0, 1, 97, 1009)
    },
    **{
        f"{units} hidden units": Shape("3x0+2x1", "2x0+3x1", 12, units, "degree_in", in_all_dtypes=units == 24)
        for units in (1, 16, 24, 32, 64, 128)
    },
}
"""By name: channels, degrees, numbers of edges and hidden units of the workloads, and sizes that fit no tile."""


def compare_shape(name: str, dtype: str, device: str = "cpu") -> float:
    """One of :data:`SHAPES`, see :func:`nn.triton_cases.deviation`."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    nodes = next(count for count in itertools.count(2) if count * (count - 1) >= shape.edges)
    batch = torch.zeros(nodes, dtype=torch.int64)
    edges = fully_connected(batch)[:, : shape.edges]
    charges = torch.randn(nodes, 2, dtype=torch.float64)[edges]
    fiber = Fiber(shape.fiber_in)
    positions, features = torch.randn(nodes, 3, dtype=torch.float64), features_of(fiber, nodes)
    graph = Graph(positions, features, edges, batch, 1, charges[0] * charges[1])
    radial = RadialNetwork(fiber, Fiber(shape.fiber_out), 2, hidden=shape.hidden, share=shape.share)
    return deviation(triton_kernel.messages, moved_off(radial), graph, dtype, device=device)


def large_sums(dtype: str) -> dict[str, float]:
    """Relative differences under autocast, of sums over channels that leave the range of float16."""
    torch.manual_seed(0)
    fiber = Fiber("64x0+8x1")
    graph = make_graph(fiber).to(torch.float32)
    features, basis = {degree: 1e3 * value for degree, value in graph.features.items()}, basis_of(graph, 1)
    own, other = (make_conv(fiber, Fiber("4x0+4x1"), 2, kernel=name) for name in ("triton", "reference"))
    with torch.no_grad():
        for weight in own.radial.weight.values():
            weight.mul_(100)
    other.load_state_dict(own.state_dict())
    sources, found = Sources(features, basis.geometry.source), {}
    for name, layers in {
        "messages": [partial(layer.kernel, sources, layer.radial, basis) for layer in (own, other)],
        "layer": [partial(layer, features, basis) for layer in (own, other)],
    }.items():
        with torch.autocast("cpu", LOW[dtype]), torch.no_grad():
            received = layers[0]()
        expected = {degree: value.detach() for degree, value in layers[1]().items()}
        assert max(float(value.abs().max()) for value in expected.values()) > 65504
        found[f"large {dtype} {name}"] = max(
            float((received[degree] - value).norm() / value.norm()) for degree, value in expected.items()
        )
    return found


def deviations(*, long: bool = False) -> dict[str, float]:
    return {
        f"{dtype} {name}": compare_shape(name, dtype)
        for name, shape in SHAPES.items()
        for dtype in (DTYPES if long or shape.in_all_dtypes else ("float64",))
        if long or not shape.is_long
    }


GROUPS: dict[str, Callable[[], dict[str, float]]] = {
    "shapes": lambda: {**deviations(), **large_sums("bfloat16"), **large_sums("float16")},
    "all_shapes": lambda: deviations(long=True),
}


def main() -> None:
    torch.set_float32_matmul_precision("highest")
    sys.stdout.write(json.dumps(GROUPS[sys.argv[1]]()))


if __name__ == "__main__":
    main()
