"""What the adapters of this folder share: a workload as a graph of DGL, and checks before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from se3t.bench.workloads import Workload

Forward = Callable[[], Mapping[str, Tensor]]


def require_offered(workload: Workload) -> None:
    """Make sure that both adapters offer a workload.

    Raises:
        NotImplementedError: on another device than the CPU, and for radial networks of another width than theirs.
    """
    if workload.device != "cpu":
        raise NotImplementedError(f"device={workload.device}: this adapter runs on the CPU only")
    if workload.radial_hidden != 32:
        raise NotImplementedError(f"radial_hidden={workload.radial_hidden}: their radial networks are always 32 wide")


def attention_layers(workload: Workload, num_layers: int | str | None) -> int:
    """Their attention layers, to which they add a layer; None: as many as make the layers as many as ours."""
    return workload.num_layers - (workload.fiber_last is None) if num_layers is None else int(num_layers)


def graph_of(workload: Workload, positions: str) -> Any:
    """The workload's batch as a graph of DGL.

    Args:
        workload: whose batch.
        positions: name of the positions among the features of the nodes.
    """
    import dgl

    ours = workload.graph(torch.float32, "cpu")
    graph = dgl.graph((ours.source, ours.target), num_nodes=ours.num_nodes)
    graph.set_batch_num_nodes(torch.bincount(ours.batch, minlength=ours.num_graphs))
    graph.set_batch_num_edges(torch.bincount(ours.batch[ours.target], minlength=ours.num_graphs))
    graph.ndata[positions] = ours.positions
    return graph


def training_step(model: nn.Module, forward: Forward) -> Callable[[], None]:
    """Gradients cleared, forward, mean square, backward."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        torch.cat([value.flatten() for value in forward().values()]).square().mean().backward()

    return step


def check_shapes(forward: Forward, workload: Workload, package: str) -> None:
    """Make sure that the output has as many numbers of each degree as ours.

    Raises:
        ValueError: when it has not.
    """
    rows = workload.num_graphs if workload.pooling else workload.num_graphs * workload.num_points
    expected = {str(degree): rows * channels * (2 * degree + 1) for degree, channels in workload.fiber_out.items()}
    with torch.no_grad():
        received = {degree: value.numel() for degree, value in forward().items()}
    if received != expected:
        raise ValueError(f"output: expected {expected} numbers by degree, got {received} from {package}")
