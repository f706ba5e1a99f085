"""What SE(3)-Transformer and Tensor Field Network share: equivariant layers with norm nonlinearities between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from torch import nn

from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph
from se3t.nn import EquivariantBasis, NormNonlinearity, Readout

STACK_OPTIONS = ("relative_position", "norm", "norm_options", "fiber_last", "pooling", "head")


class EquivariantStack(nn.Module):
    """(layer – norm nonlinearity) × (num_layers − 1), one more layer, readout.

    A model fills ``layers`` when it is built and says nothing else.

    Args:
        fiber_in: types and channels of the node features.
        fiber_hidden: types and channels between the layers.
        fiber_out: types and channels of the output.
        num_layers: number of layers, the last one included.
        fiber_edge: edge features of any type that the graphs carry.
        relative_position: the relative position as one more edge feature, see :meth:`EdgeGeometry.of`.
        norm: kind of the norm nonlinearity, see :class:`NormNonlinearity`.
        norm_options: its further arguments.
        fiber_last: types and channels of the last layer, where they are not those of the output.
        pooling, head: see :class:`Readout`.

    Raises:
        ValueError: when ``num_layers`` is below 1 or fibers do not fit.
    """

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_hidden: Fiber,
        fiber_out: Fiber,
        *,
        num_layers: int,
        fiber_edge: Fiber | None = None,
        relative_position: str = "none",
        norm: str = "bias",
        norm_options: Mapping[str, int | float] | None = None,
        fiber_last: Fiber | None = None,
        pooling: str | None = None,
        head: bool = False,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers}: expected at least 1")
        if relative_position not in ("none", "to_source", "to_target"):
            raise ValueError(f"relative_position={relative_position!r}: expected none, to_source or to_target")
        self.fiber_in, self.fiber_hidden, self.fiber_out = fiber_in, fiber_hidden, fiber_out
        self.relative_position = relative_position
        self.fiber_edge = (fiber_edge or Fiber({})) + Fiber({1: int(relative_position != "none")})
        self.fibers = (fiber_in, *[fiber_hidden] * (num_layers - 1), fiber_last or fiber_out)
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList(
            NormNonlinearity(fiber_hidden, norm, **(norm_options or {}))  # type: ignore[arg-type]
            for _ in range(num_layers - 1)
        )
        self.readout = Readout(self.fibers[-1], fiber_out, pooling=pooling, head=head)

    @property
    def max_degree(self) -> int:
        """Largest degree that occurs in any layer, those of values included."""
        return max(cast(int, layer.max_degree) for layer in self.layers)

    @staticmethod
    def split_options(options: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
        """Keyword arguments of a model: those of the stack, and those of its layers."""
        stack = {name: value for name, value in options.items() if name in STACK_OPTIONS}
        return stack, {name: value for name, value in options.items() if name not in STACK_OPTIONS}

    @staticmethod
    def pooled_options(pooling: str, channels: int, pooled: bool) -> dict[str, Any]:
        """Keyword arguments of the stack that pool a last layer of ``channels`` type-0 channels; none unless
        ``pooled``.
        """
        return {"fiber_last": Fiber({0: channels}), "pooling": pooling, "head": True} if pooled else {}

    def steps(
        self, common: Mapping[str, object], single: Sequence[Mapping[str, object]]
    ) -> Iterator[tuple[Fiber, Fiber, dict[str, object]]]:
        """Fibers before and after each layer, and its options: the common ones, overridden by its own.

        Raises:
            ValueError: when ``single`` is neither empty nor one mapping for each layer.
        """
        pairs = list(itertools.pairwise(self.fibers))
        if single and len(single) != len(pairs):
            raise ValueError(f"layer_options: expected one mapping for each of {len(pairs)} layers, got {len(single)}")
        for (before, after), own in zip(pairs, single or [{}] * len(pairs), strict=True):
            yield before, after, {**common, **own}

    def forward(self, graph: Graph) -> Features:
        """``[node, C_out, 2l+1]`` by degree of ``fiber_out``; ``[graph, C_out, 2l+1]`` with pooling.

        Raises:
            ValueError: when the features of the graph are not of type ``fiber_in``.
        """
        geometry = EdgeGeometry.of(graph, pair=True, relative_position=self.relative_position)
        basis = EquivariantBasis(geometry, self.max_degree)
        features = graph.features
        for index, layer in enumerate(self.layers):
            features = layer(features, basis)
            if index < len(self.norms):
                features = self.norms[index](features)
        out: Features = self.readout(features, graph.batch, graph.num_graphs)
        return out

    def extra_repr(self) -> str:
        """What ``print`` shows in the brackets."""
        return f"{self.fiber_in!r} -> {self.fiber_hidden!r} -> {self.fiber_out!r}"
