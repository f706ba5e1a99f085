"""Least work of the exact model: floating-point operations and bytes of a training step, counted from its sizes.

Counted is the order of products that asks for the least: in the frame of the edge, radial weights first and once for
both directions of a reciprocal pair where the graph allows it, nothing computed twice. A product of a matrix with a
vector takes two operations for each entry. A gradient is counted where it is needed: those of positions and of the
input are not. Not counted: the frames, softmax, norms and everything else that works entry by entry.

Bytes are those that must pass between memory and processor in float32 when every operation reads its inputs and writes
its results once, radial weights never leave the processor, and keys and values do: they are made before the softmax
over a neighbourhood can be known.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from se3t.bench.workloads import Workload
from se3t.fiber import Fiber
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import EquivariantConv, EquivariantLinear, Readout
from se3t.nn.attention import EdgeAttention, SE3AttentionBlock
from se3t.nn.self_interaction import AttentiveSelfInteraction

_ITEM = 4  # bytes of a float32


@dataclass(frozen=True)
class Sizes:
    """Numbers of points, directed edges, graphs, and edges that differ in their invariants."""

    nodes: int
    edges: int
    unique: int
    graphs: int

    @classmethod
    def of(cls, workload: Workload) -> Sizes:
        """Those of a workload's batch."""
        nodes = workload.num_graphs * workload.num_points
        return cls(nodes, workload.num_edges, workload.num_unique_edges, workload.num_graphs)


@dataclass(frozen=True)
class Work:
    """Operations and bytes."""

    flop: int = 0
    bytes: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flop + other.flop, self.bytes + other.bytes)


def step_work(workload: Workload) -> Work:
    """Least work of one training step."""
    return model_work(workload.model(), Sizes.of(workload))


def model_work(model: SE3Transformer, sizes: Sizes) -> Work:
    """Least work of a training step of the model.

    Args:
        model: the layers.
        sizes: of the batch.
    """
    layers = [layer_work(layer, sizes, is_first=number == 0) for number, layer in enumerate(model.layers)]
    return sum([*layers, layer_work(model.readout, sizes)], Work())


def layer_work(layer: nn.Module, sizes: Sizes, *, is_first: bool = False) -> Work:
    """Least work of a convolution, an attention block or a readout, forward and backward.

    Args:
        layer: which.
        sizes: of the graph.
        is_first: whether its input needs no gradient.
    """
    if isinstance(layer, EquivariantConv):
        return _convolution(layer, sizes, is_first)
    if isinstance(layer, SE3AttentionBlock):
        parts = [_convolution(conv, sizes, is_first) for conv in layer.value_key]  # type: ignore[arg-type]
        parts += [_linear(layer.query, sizes, is_first), _attention(layer.attention, sizes)]
        parts += [] if layer.project is None else [_linear(layer.project, sizes, False)]
        return sum(
            [*parts, _interaction(layer.self_interaction, sizes, is_first and layer.project is not None)], Work()
        )
    if isinstance(layer, Readout) and layer.head is not None:
        entries = sum(part.weight.numel() for part in layer.head if isinstance(part, nn.Linear))
        return Work(3 * 2 * sizes.graphs * entries, 3 * _ITEM * entries)
    return Work()


def _convolution(conv: EquivariantConv, sizes: Sizes, is_first: bool) -> Work:
    radial, edges, unique = conv.radial, sizes.edges, sizes.unique
    joined, fiber_out, hidden = radial.fiber_in, radial.fiber_out, radial.hidden
    num_trunks, width = max(radial.trunk_of.values()) + 1, radial.num_edge_scalars + 1

    def products(fiber_in: Fiber) -> int:  # one multiplication for m = 0, four for every m > 0
        pairs = ((l, k) for l in fiber_out for k in fiber_in)
        return sum(fiber_out[l] * fiber_in[k] * (1 + 4 * min(l, k)) for l, k in pairs)

    own = Fiber({}) if is_first else conv.fiber_in
    flop = 2 * unique * num_trunks * (2 * width * hidden + 3 * hidden * hidden)  # lengths need no gradient
    flop += 3 * 2 * unique * hidden * radial.weights_per_edge
    flop += 2 * edges * (2 * products(joined) + products(own))
    flop += 2 * edges * (_rotation(joined) + 2 * _rotation(fiber_out) + _rotation(own))
    parameters = sum(value.numel() for value in radial.parameters())
    frames = sum((2 * degree + 1) ** 2 for degree in {*joined, *fiber_out} - {0})
    read = sizes.nodes * conv.fiber_in.dim + unique * width + edges * frames + parameters
    moved = 2 * read + 2 * edges * fiber_out.dim + parameters + sizes.nodes * own.dim
    rest = Work() if conv.self_interaction is None else _linear(conv.self_interaction, sizes, is_first)
    return Work(flop, _ITEM * moved) + rest


def _attention(layer: EdgeAttention, sizes: Sizes) -> Work:
    per_edge = layer.fiber_key.dim + layer.fiber_value.dim
    moved = 3 * (sizes.edges + sizes.nodes) * per_edge  # read, read again, gradients
    return Work(3 * 2 * sizes.edges * per_edge, _ITEM * moved)


def _interaction(layer: nn.Module | None, sizes: Sizes, is_first: bool) -> Work:
    if isinstance(layer, EquivariantLinear):
        return _linear(layer, sizes, is_first)
    if not isinstance(layer, AttentiveSelfInteraction):
        return Work()
    flop = 0
    for degree, channels in layer.fiber_out.items():
        width, components = layer.fiber_in[degree], 2 * degree + 1
        gram = 2 * 2 * width * width * components  # its gradient is one product more
        mixed = 3 * 2 * channels * width * (width * width + components)
        flop += sizes.nodes * (gram + mixed)
    return Work(flop, _moved(layer, layer.fiber_in, layer.fiber_out, sizes))


def _linear(layer: EquivariantLinear, sizes: Sizes, is_first: bool) -> Work:
    entries = sum(layer.fiber_in[l] * channels * (2 * l + 1) for l, channels in layer.fiber_out.items())
    flop = (2 if is_first else 3) * 2 * sizes.nodes * entries
    return Work(flop, _moved(layer, layer.fiber_in, layer.fiber_out, sizes))


def _moved(layer: nn.Module, fiber_in: Fiber, fiber_out: Fiber, sizes: Sizes) -> int:
    parameters = sum(value.numel() for value in layer.parameters())
    return 3 * _ITEM * (sizes.nodes * (fiber_in.dim + fiber_out.dim) + parameters)


def _rotation(fiber: Fiber) -> int:
    return sum(channels * (2 * degree + 1) ** 2 for degree, channels in fiber.items() if degree > 0)
