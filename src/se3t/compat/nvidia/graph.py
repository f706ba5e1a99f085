"""A small replacement of a DGL graph: edges, relative positions, and which nodes belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class EdgeGraph:
    """Edges and their data, with the methods of a DGL graph that callers of the SE(3)-Transformer use.

    Args:
        edges: (sources, targets), each ``[edge]``, or ``[2, edge]``, whole numbers.
        num_nodes: number of nodes; one more than the largest in ``edges`` unless given.
        rel_pos: ``[edge, 3]`` position of the target minus that of the source; stored as ``edata['rel_pos']``.
        batch_num_nodes: ``[graph]`` number of nodes of each graph, where there are several.

    Raises:
        ValueError: naming the field.

    Example::

        graph = EdgeGraph((source, target), num_nodes=5, rel_pos=x[target] - x[source])
    """

    def __init__(
        self,
        edges: tuple[Tensor, Tensor] | Tensor,
        num_nodes: int | None = None,
        *,
        rel_pos: Tensor | None = None,
        batch_num_nodes: Tensor | Sequence[int] | None = None,
    ) -> None:
        source, target = edges
        for name, value in (("source", source), ("target", target)):
            if value.dim() != 1 or value.is_floating_point() or value.dtype == torch.bool:
                raise ValueError(
                    f"edges: expected whole numbers [edge] as {name}, got {value.dtype} {tuple(value.shape)}"
                )
        if len(source) != len(target):
            raise ValueError(f"edges: {len(source)} sources, but {len(target)} targets")
        largest = int(max(source.max(), target.max())) if len(source) else -1
        self._num_nodes = largest + 1 if num_nodes is None else int(num_nodes)
        if largest >= self._num_nodes or (len(source) and int(min(source.min(), target.min())) < 0):
            raise ValueError(f"edges: expected nodes 0 to {self._num_nodes - 1}, got node {largest} or a negative one")
        if rel_pos is not None and rel_pos.shape != (len(source), 3):
            raise ValueError(f"rel_pos: expected shape [{len(source)}, 3], got {tuple(rel_pos.shape)}")
        self._source, self._target = source, target
        sizes = [self._num_nodes] if batch_num_nodes is None else batch_num_nodes
        self._sizes = torch.as_tensor(sizes, dtype=torch.int64, device=source.device)
        if int(self._sizes.sum()) != self._num_nodes:
            raise ValueError(
                f"batch_num_nodes: the graphs have {int(self._sizes.sum())} nodes together, expected {self._num_nodes}"
            )
        self.edata: dict[str, Tensor] = {} if rel_pos is None else {"rel_pos": rel_pos}
        self.ndata: dict[str, Tensor] = {}

    def edges(self) -> tuple[Tensor, Tensor]:
        """Sources and targets, ``[edge]`` each."""
        return self._source, self._target

    def num_nodes(self) -> int:
        """Number of nodes."""
        return self._num_nodes

    def num_edges(self) -> int:
        """Number of edges."""
        return len(self._source)

    def batch_num_nodes(self) -> Tensor:
        """``[graph]`` number of nodes of each graph."""
        return self._sizes

    @property
    def batch_size(self) -> int:
        """Number of graphs."""
        return len(self._sizes)

    @property
    def batch_index(self) -> Tensor:
        """``[node]`` number of the graph that a node belongs to."""
        return torch.repeat_interleave(self._sizes)

    @property
    def device(self) -> torch.device:
        """Where the edges lie."""
        return self._source.device

    def to(self, *args: Any, **kwargs: Any) -> EdgeGraph:
        """A copy on another device; arguments as of ``Tensor.to``."""
        moved = EdgeGraph(
            (self._source.to(*args, **kwargs), self._target.to(*args, **kwargs)),
            self._num_nodes,
            batch_num_nodes=self._sizes.to(*args, **kwargs),
        )
        moved.edata = {name: value.to(*args, **kwargs) for name, value in self.edata.items()}
        moved.ndata = {name: value.to(*args, **kwargs) for name, value in self.ndata.items()}
        return moved

    def __repr__(self) -> str:
        return f"EdgeGraph({self.num_nodes()} nodes, {self.num_edges()} edges, {self.batch_size} graphs)"


def graph(edges: tuple[Tensor, Tensor], num_nodes: int | None = None) -> EdgeGraph:
    """An :class:`EdgeGraph` in the spelling of ``dgl.graph((source, target), num_nodes=…)``."""
    return EdgeGraph(edges, num_nodes)


def batch(graphs: Sequence[EdgeGraph]) -> EdgeGraph:
    """Graphs side by side as one, in the spelling of ``dgl.batch``.

    Raises:
        ValueError: for an empty list, or graphs that carry different data.
    """
    if not graphs:
        raise ValueError("batch: expected at least one graph")
    for name in ("edata", "ndata"):
        keys = [sorted(getattr(graph, name)) for graph in graphs]
        if any(names != keys[0] for names in keys):
            raise ValueError(f"batch: the graphs carry different {name}: {', '.join(map(str, keys))}")
    counts = [graph.num_nodes() for graph in graphs]
    first = [sum(counts[:number]) for number in range(len(counts))]
    ends = [[end + start for end in graph.edges()] for graph, start in zip(graphs, first, strict=True)]
    joined = EdgeGraph(
        (torch.cat([source for source, _ in ends]), torch.cat([target for _, target in ends])),
        sum(counts),
        batch_num_nodes=torch.cat([graph.batch_num_nodes() for graph in graphs]),
    )
    joined.edata = {name: torch.cat([graph.edata[name] for graph in graphs]) for name in graphs[0].edata}
    joined.ndata = {name: torch.cat([graph.ndata[name] for graph in graphs]) for name in graphs[0].ndata}
    return joined


def from_dgl(graph: Any) -> EdgeGraph:
    """The same graph without DGL.

    Args:
        graph: a ``dgl.DGLGraph`` with one type of nodes and edges; DGL itself is not imported.

    Raises:
        ValueError: for several types of edges, or what is no graph.
    """
    if not callable(getattr(graph, "edges", None)):
        raise ValueError(f"graph: expected an EdgeGraph or a graph of DGL, got a {type(graph).__name__}")
    if len(graph.etypes) != 1:
        raise ValueError(f"graph: expected one type of edges, got {len(graph.etypes)}: {', '.join(graph.etypes)}")
    source, target = graph.edges()
    converted = EdgeGraph((source, target), graph.num_nodes(), batch_num_nodes=graph.batch_num_nodes())
    converted.edata, converted.ndata = dict(graph.edata), dict(graph.ndata)
    return converted


def as_edge_graph(graph: Any) -> EdgeGraph:
    """``graph`` itself, or converted from DGL."""
    return graph if isinstance(graph, EdgeGraph) else from_dgl(graph)
