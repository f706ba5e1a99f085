"""The public package ``se3-transformer-pytorch`` as a contender, set to the same work as ours.

It works on padded clouds ``[graph, point, …]`` with a fixed number of neighbours, which costs it nothing here: all
clouds are complete graphs of the same size.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from se3t.fiber import Fiber
from se3t.graph import Graph

PACKAGE = "se3-transformer-pytorch"
_MODULE = "se3_transformer_pytorch"


def is_installed() -> bool:
    """Whether the package can be imported."""
    return importlib.util.find_spec(_MODULE) is not None


def build_peer(
    graph: Graph,
    fiber_out: Fiber,
    *,
    depth: int,
    num_degrees: int,
    channels: int,
    num_heads: int,
    head_channels: int,
    radial_hidden: int,
) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The peer's model, and its loss on the clouds of ``graph``.

    Its attention blocks stand between two convolutions, so ``depth`` + 2 layers hold kernels. Its radial networks are
    128 wide and offer no setting; they are rebuilt with ``radial_hidden``. Memory-saving splits are off.

    Args:
        graph: complete graphs of equal size, features of degrees 0 … d without a gap.
        fiber_out: fiber of the output.
        depth: attention blocks.
        num_degrees: hidden degrees 0 … num_degrees - 1.
        channels: hidden channels of each degree.
        num_heads: attention heads.
        head_channels: channels of keys and values of each degree and head.
        radial_hidden: width of the radial networks.
    """
    package = _import(f"{_MODULE}.{_MODULE}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its use of functions that torch deprecates
        model = package.SE3Transformer(
            dim=channels,
            dim_in=tuple(value.shape[1] for _, value in sorted(graph.features.items())),
            input_degrees=len(graph.features),
            num_degrees=num_degrees,
            out_fiber_dict=dict(fiber_out),
            depth=depth,
            heads=num_heads,
            dim_head=head_channels,
            edge_dim=0 if graph.edge_scalars is None else graph.edge_scalars.shape[1],
            num_neighbors=graph.num_nodes // graph.num_graphs - 1,
            attend_self=False,
            splits=1,
        )
        for module in model.modules():
            if isinstance(module, package.PairwiseConv):
                module.rp = package.RadialFunc(
                    module.num_freq, module.nc_in, module.nc_out, module.edge_dim, mid_dim=radial_hidden
                )
        model = model.to(graph.positions)
        # Fills its cache of coupling coefficients, without touching the memory that a step needs.
        _import(f"{_MODULE}.basis").get_basis(graph.positions[:1, None, None], num_degrees - 1)
    inputs = _dense(graph)
    return model, lambda: _mean_square(model(*inputs[:2], edges=inputs[2]))


def weights_per_edge(model: nn.Module) -> int:
    """Numbers that its radial networks produce for every edge: paths x channels in x channels out, over all layers."""
    package = _import(f"{_MODULE}.{_MODULE}")
    return sum(module.net[-1].out_features for module in model.modules() if isinstance(module, package.RadialFunc))


def _import(name: str) -> Any:
    # Its cache of coefficients is a folder in the user's home unless this variable is set when it is first imported.
    with mock.patch.dict(os.environ, {"CLEAR_CACHE": "1"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def _dense(graph: Graph) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
    """Features and positions as ``[graph, point, …]``, edge scalars as ``[graph, target, source, channel]``."""
    size = graph.num_nodes // graph.num_graphs
    shape = (graph.num_graphs, size)
    features = {str(degree): value.unflatten(0, shape) for degree, value in sorted(graph.features.items())}
    edges = None
    if graph.edge_scalars is not None:
        edges = graph.edge_scalars.new_zeros(*shape, size, graph.edge_scalars.shape[1])
        edges[graph.batch[graph.target], graph.target % size, graph.source % size] = graph.edge_scalars
    return features, graph.positions.unflatten(0, shape), edges


def _mean_square(output: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in output.values()]).square().mean()
