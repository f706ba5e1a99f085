"""A stand-in for DGL: as much of it as the released SE(3)-Transformers call, on plain torch.

DGL has no release for current torch, so the adapters of this folder register this module under its names where it
cannot be imported. It follows the documented behaviour of DGL's functions: sums over incoming edges, a softmax over the
incoming edges of a node, pooling over the graphs of a batch. Everything is an indexed gather or an indexed sum, and
where DGL keeps no edge-sized copy for the gradients, this keeps none either.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

VERSION = "1.0+stand.in"
_NAMES = ("ops", "function", "nn", "nn.pytorch", "nn.pytorch.glob", "nn.pytorch.softmax")


class DGLGraph:
    """One graph or a batch of graphs, with features of nodes (``ndata``) and edges (``edata``).

    Args:
        data: sources and targets of the edges.
        num_nodes: number of nodes; None: as many as the edges name.
    """

    def __init__(self, data: tuple[Tensor, Tensor], num_nodes: int | None = None) -> None:
        source, target = (torch.as_tensor(nodes, dtype=torch.int64) for nodes in data)
        self._source, self._target = source, target
        if num_nodes is None:
            num_nodes = int(torch.cat((source, target)).max()) + 1 if len(source) else 0
        self._num_nodes = num_nodes
        self._batch_num_nodes = torch.tensor([num_nodes], device=source.device)
        self._batch_num_edges = torch.tensor([len(source)], device=source.device)
        self.ndata: dict[str, Tensor] = {}
        self.edata: dict[str, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the indices lie."""
        return self._source.device

    @property
    def batch_size(self) -> int:
        """Number of graphs."""
        return len(self._batch_num_nodes)

    def edges(self) -> tuple[Tensor, Tensor]:
        """Sources and targets."""
        return self._source, self._target

    def num_nodes(self) -> int:
        """Number of nodes of all graphs together."""
        return self._num_nodes

    def num_edges(self) -> int:
        """Number of edges of all graphs together."""
        return len(self._source)

    number_of_nodes, number_of_edges = num_nodes, num_edges

    def in_degrees(self) -> Tensor:
        """Number of edges that end in each node."""
        return torch.bincount(self._target, minlength=self._num_nodes)

    def batch_num_nodes(self) -> Tensor:
        """Number of nodes of each graph."""
        return self._batch_num_nodes

    def batch_num_edges(self) -> Tensor:
        """Number of edges of each graph."""
        return self._batch_num_edges

    def set_batch_num_nodes(self, counts: Tensor) -> None:
        """Say how many nodes each graph of the batch has."""
        self._batch_num_nodes = counts

    def set_batch_num_edges(self, counts: Tensor) -> None:
        """Say how many edges each graph of the batch has."""
        self._batch_num_edges = counts

    @contextmanager
    def local_scope(self) -> Iterator[None]:
        """Features set inside are gone outside."""
        ndata, edata = self.ndata, self.edata
        self.ndata, self.edata = dict(ndata), dict(edata)
        try:
            yield
        finally:
            self.ndata, self.edata = ndata, edata

    def apply_edges(self, func: EdgeFunction | Callable[[EdgeBatch], Mapping[str, Tensor]]) -> None:
        """Set features of edges computed from both ends."""
        self.edata.update(func(EdgeBatch(self)))

    def update_all(self, message: Callable[[EdgeBatch], Mapping[str, Tensor]], reduce: ReduceFunction) -> None:
        """Compute a message on every edge and reduce those that arrive at each node."""
        self.ndata[reduce.out] = reduce.over(self, message(EdgeBatch(self))[reduce.message])


@dataclass(frozen=True)
class EdgeBatch:
    """What a function of edges sees: features of sources, targets and edges, a row for each edge."""

    graph: DGLGraph

    @property
    def src(self) -> _Gathered:
        """Features of the sources."""
        return _Gathered(self.graph.ndata, self.graph.edges()[0])

    @property
    def dst(self) -> _Gathered:
        """Features of the targets."""
        return _Gathered(self.graph.ndata, self.graph.edges()[1])

    @property
    def data(self) -> dict[str, Tensor]:
        """Features of the edges."""
        return self.graph.edata


@dataclass(frozen=True)
class _Gathered:
    features: Mapping[str, Tensor]
    index: Tensor

    def __getitem__(self, name: str) -> Tensor:
        return self.features[name].index_select(0, self.index)  # a new tensor each time: callers may write into it


@dataclass(frozen=True)
class EdgeFunction:
    """``dgl.function.e_dot_v``: the inner product of a feature of the edges with one of the targets."""

    edge: str
    node: str
    out: str

    def __call__(self, edges: EdgeBatch) -> dict[str, Tensor]:
        graph = edges.graph
        return {self.out: e_dot_v(graph, graph.edata[self.edge], graph.ndata[self.node])}


@dataclass(frozen=True)
class ReduceFunction:
    """``dgl.function.sum`` and ``mean``: what is done with the messages, their name and that of the result."""

    over: Callable[[DGLGraph, Tensor], Tensor]
    message: str
    out: str


def graph(data: tuple[Tensor, Tensor], num_nodes: int | None = None) -> DGLGraph:
    """``dgl.graph``."""
    return DGLGraph(data, num_nodes)


def batch(graphs: Sequence[DGLGraph]) -> DGLGraph:
    """``dgl.batch``: one graph of several, nodes and edges in their order, with the features that all of them have."""
    sizes = [g.num_nodes() for g in graphs]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    source, target = (
        torch.cat([g.edges()[end] + start for g, start in zip(graphs, starts, strict=True)]) for end in (0, 1)
    )
    joined = DGLGraph((source, target), sum(sizes))
    joined.set_batch_num_nodes(torch.cat([g.batch_num_nodes() for g in graphs]))
    joined.set_batch_num_edges(torch.cat([g.batch_num_edges() for g in graphs]))
    joined.ndata = {name: torch.cat([g.ndata[name] for g in graphs]) for name in graphs[0].ndata}
    joined.edata = {name: torch.cat([g.edata[name] for g in graphs]) for name in graphs[0].edata}
    return joined


def copy_e_sum(graph: DGLGraph, value: Tensor) -> Tensor:
    """Sum of a feature ``[edge, …]`` over the edges that end in each node; 0 where none does."""
    return _sum_by(value, graph.edges()[1], graph.num_nodes())


def copy_e_mean(graph: DGLGraph, value: Tensor) -> Tensor:
    """Mean of a feature ``[edge, …]`` over the edges that end in each node; 0 where none does."""
    count = graph.in_degrees().clamp(min=1).to(value.dtype)
    return copy_e_sum(graph, value) / count.view(-1, *[1] * (value.dim() - 1))


def e_dot_v(graph: DGLGraph, edge: Tensor, node: Tensor) -> Tensor:
    """Inner products of ``[edge, …, channel]`` with the targets' ``[node, …, channel]`` over the last axis, kept."""
    return _EdgeDotTarget.apply(edge, node, graph.edges()[1])


def edge_softmax(graph: DGLGraph, logits: Tensor) -> Tensor:
    """Softmax of ``[edge, …]`` over the edges that end in the same node."""
    return _EdgeSoftmax.apply(logits, graph.edges()[1], graph.num_nodes())


class AvgPooling(nn.Module):
    """Mean over the nodes of each graph, ``[node, …]`` to ``[graph, …]``."""

    def forward(self, graph: DGLGraph, feat: Tensor) -> Tensor:
        """Pool a feature."""
        counts = graph.batch_num_nodes()
        total = _sum_by(feat, _owner(counts), len(counts))
        return total / counts.to(feat.dtype).view(-1, *[1] * (feat.dim() - 1))


class MaxPooling(nn.Module):
    """Largest value over the nodes of each graph, ``[node, …]`` to ``[graph, …]``."""

    def forward(self, graph: DGLGraph, feat: Tensor) -> Tensor:
        """Pool a feature."""
        counts = graph.batch_num_nodes()
        index = _expand(_owner(counts), feat)
        lowest = feat.new_full((len(counts), *feat.shape[1:]), -torch.inf)
        return lowest.scatter_reduce(0, index, feat, "amax")


class NotOffered(nn.Module):
    """Layers of DGL that the released codes import and never build."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError("this layer of DGL is not part of its stand-in; install dgl to build it")


def install() -> bool:
    """Make ``import dgl`` work; whether it is this stand-in that answers to it."""
    try:
        package = import_module("dgl")
    except (ImportError, OSError):  # missing, or a build for another torch whose libraries do not load
        for name in [name for name in sys.modules if name.partition(".")[0] == "dgl"]:
            del sys.modules[name]
        package = _register()
    return package.__version__ == VERSION


def _register() -> ModuleType:
    modules = {name: ModuleType(f"dgl.{name}" if name else "dgl") for name in ("", *_NAMES)}
    contents: dict[str, dict[str, Any]] = {
        "": {"DGLGraph": DGLGraph, "graph": graph, "batch": batch, "__version__": VERSION, "__path__": []},
        "ops": {
            "copy_e_sum": copy_e_sum,
            "copy_e_mean": copy_e_mean,
            "e_dot_v": e_dot_v,
            "edge_softmax": edge_softmax,
        },
        "function": {
            "e_dot_v": EdgeFunction,
            "sum": lambda msg, out: ReduceFunction(copy_e_sum, msg, out),
            "mean": lambda msg, out: ReduceFunction(copy_e_mean, msg, out),
        },
        "nn": {"__path__": []},
        "nn.pytorch": {"GraphConv": NotOffered, "NNConv": NotOffered, "__path__": []},
        "nn.pytorch.glob": {"AvgPooling": AvgPooling, "MaxPooling": MaxPooling},
        "nn.pytorch.softmax": {"edge_softmax": edge_softmax},
    }
    contents["nn.pytorch"] |= contents["nn.pytorch.glob"]
    for name, module in modules.items():
        vars(module).update(contents[name])
        module.__spec__ = ModuleSpec(module.__name__, None)  # whoever asks whether it can be found gets an answer
        sys.modules[module.__name__] = module
        if name:
            parent, _, child = name.rpartition(".")
            setattr(modules[parent], child, module)
    return modules[""]


class _EdgeDotTarget(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edge: Tensor, node: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(edge, node, target)
        return (edge * node.index_select(0, target)).sum(-1, keepdim=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        edge, node, target = ctx.saved_tensors
        return gradient * node.index_select(0, target), _sum_by(gradient * edge, target, len(node)), None


class _EdgeSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, num_nodes: int) -> Tensor:
        lowest = logits.new_full((num_nodes, *logits.shape[1:]), -torch.inf)
        largest = lowest.scatter_reduce_(0, _expand(target, logits), logits, "amax")
        weights = (logits - largest.index_select(0, target)).exp_()
        weights /= _sum_by(weights, target, num_nodes).index_select(0, target)
        ctx.save_for_backward(weights, target)
        ctx.num_nodes = num_nodes
        return weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weights, target = ctx.saved_tensors
        weighted = weights * gradient
        total = _sum_by(weighted, target, ctx.num_nodes)
        return weighted - weights * total.index_select(0, target), None, None


def _sum_by(value: Tensor, index: Tensor, size: int) -> Tensor:
    return value.new_zeros(size, *value.shape[1:]).index_add(0, index, value)


def _owner(counts: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def _expand(index: Tensor, like: Tensor) -> Tensor:
    return index.view(-1, *[1] * (like.dim() - 1)).expand_as(like)
