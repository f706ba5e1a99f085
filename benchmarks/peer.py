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

from se3t.bench.contenders import Contender, UnusableError
from se3t.bench.timing import Step, Timed
from se3t.bench.workloads import Workload
from se3t.graph import Graph

PEER = "peer"
PACKAGE = "se3-transformer-pytorch"
_MODULE = "se3_transformer_pytorch"


_DESCRIPTION = (
    "peer: se3-transformer-pytorch. Equal: data, a basis in every step, layers with kernels (its attention stands "
    "between two convolutions), degrees, channels, heads, key and value channels, width of the radial networks "
    "(rebuilt from 128). Not equal: a feed-forward part in each block, no attentive self-interaction, softmax for each "
    "degree apart, GELU for ReLU, a radial network for each pair of degrees, for keys and for values (ours with the "
    "ending -separate). It is another model: of its output the shape is checked, not the values."
)


def is_installed() -> bool:
    """Whether the package can be imported."""
    return importlib.util.find_spec(_MODULE) is not None


def make(workload: Workload) -> Contender:
    """The contender.

    Raises:
        NotImplementedError: for a workload that it is not set up for.
        UnusableError: where the package is missing.
    """
    if not is_installed():
        raise UnusableError(
            f"contender {PEER!r} cannot run here: it needs the package {PACKAGE}; install it: pip install 'se3t[bench]'"
        )
    model, loss = build_peer(workload)
    return Contender(
        name=PEER,
        work=Step(model, loss),
        maker=f"{__name__}:rebuild",
        arguments={"spec": workload.spec},
        description=_DESCRIPTION,
        parameters=sum(value.numel() for value in model.parameters()),
        weights_per_edge=weights_per_edge(model),
    )


def rebuild(spec: dict[str, Any]) -> Timed:
    """The step from plain values: for a process of its own."""
    return make(Workload.of(**spec)).work


def build_peer(workload: Workload) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The peer's model, and its loss on the workload's batch, on the workload's device.

    Its attention blocks stand between two convolutions, so that as many layers as ours hold kernels. Its radial
    networks are 128 wide and offer no setting; they are rebuilt with the workload's width. It has splits that save
    memory, which are off.

    Args:
        workload: complete graphs of equal size, node features of degrees 0 … d without a gap, three layers or more.

    Raises:
        NotImplementedError: for another workload.
    """
    if workload.edges != "complete" or workload.fiber_last is not None or workload.num_layers < 3:
        raise NotImplementedError(f"{PACKAGE} is set up for complete graphs without pooling, such as workload nbody")
    graph = workload.graph()
    package = _import(f"{_MODULE}.{_MODULE}")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # of its use of functions that torch deprecates
        torch.manual_seed(workload.seed)
        model = package.SE3Transformer(
            dim=workload.channels,
            dim_in=tuple(workload.fiber_in.values()),
            input_degrees=len(workload.fiber_in),
            num_degrees=workload.num_degrees,
            out_fiber_dict=dict(workload.fiber_out),
            depth=workload.num_layers - 2,
            heads=workload.num_heads,
            dim_head=max(1, workload.channels // workload.channels_div // workload.num_heads),
            edge_dim=workload.num_edge_scalars,
            num_neighbors=workload.num_points - 1,
            attend_self=False,
            splits=1,
        )
        for module in model.modules():
            if isinstance(module, package.PairwiseConv):
                module.rp = package.RadialFunc(
                    module.num_freq, module.nc_in, module.nc_out, module.edge_dim, mid_dim=workload.radial_hidden
                )
        model = model.to(graph.positions)
        # Fills its cache of coupling coefficients, without touching the memory that a step needs.
        _import(f"{_MODULE}.basis").get_basis(graph.positions[:1, None, None], workload.num_degrees - 1)
    inputs = _dense(graph)
    _check_shape(model(*inputs[:2], edges=inputs[2]), workload)
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


def _check_shape(output: dict[str, Tensor], workload: Workload) -> None:
    for degree, channels in workload.fiber_out.items():
        expected = (workload.num_graphs, workload.num_points, channels, 2 * degree + 1)
        shape = tuple(output[str(degree)].shape)
        if shape != expected:
            raise ValueError(f"{PACKAGE}: output of degree {degree} has shape {shape}, expected {expected}")


def _mean_square(output: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in output.values()]).square().mean()
