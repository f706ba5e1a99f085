"""The authors' SE(3)-Transformer (``equivariant_attention``) as a contender: ``python -m benchmarks step --adapter …``.

Its code is not part of this project: put a checkout on PYTHONPATH, see ``README.md`` beside this file. Where DGL cannot
be imported, its calls go to ``dgl_stand_in.py``. The model is put together from their layers as their experiments do.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import Any

import dgl_stand_in  # the files beside this one
import torch
from dgl_workload import attention_layers, check_shapes, graph_of, require_offered, training_step
from torch import Tensor, nn

from se3t.bench.workloads import Workload
from se3t.so3 import clebsch_gordan

PACKAGE = "equivariant_attention"
_SELF_INTERACTION = {"attentive": "att", "linear": "1x1"}


class Model(nn.Module):
    """Their layers in their order: (attention – norm) × num_layers, an output layer, pooling and two linear maps.

    Args:
        modules: their module ``equivariant_attention.modules``.
        fibers: their module ``equivariant_attention.fibers``.
        workload: sizes.
        num_layers: attention layers before the output layer.
    """

    def __init__(self, modules: ModuleType, fibers: ModuleType, workload: Workload, num_layers: int) -> None:
        super().__init__()
        self._basis_and_r, self._max_degree = modules.get_basis_and_r, workload.num_degrees - 1
        before, hidden = (fibers.Fiber(dictionary=dict(f)) for f in (workload.fiber_in, workload.fiber_hidden))
        shared = {
            "edge_dim": workload.num_edge_scalars,
            "selfint": _SELF_INTERACTION[workload.self_interaction],
            "x_ij": None if workload.relative_position == "none" else "cat",
        }
        norm = modules.GNormSE3 if workload.head else modules.GNormBias  # theirs for QM9, and for N-body
        layers: list[nn.Module] = []
        for _ in range(num_layers):
            attention = modules.GSE3Res(
                before, hidden, div=workload.channels_div, n_heads=workload.num_heads, skip="cat", **shared
            )
            layers += [attention, norm(hidden)]
            before = hidden
        if workload.fiber_last is None:
            after = fibers.Fiber(dictionary=dict(workload.fiber_out))
            heads = min(workload.num_heads, 2)
            layers.append(modules.GSE3Res(before, after, div=1, n_heads=heads, skip="cat", **shared))
        else:
            after = fibers.Fiber(dictionary=dict(workload.fiber_last))
            layers.append(modules.GConvSE3(before, after, self_interaction=True, edge_dim=workload.num_edge_scalars))
        if workload.pooling is not None:
            layers.append(modules.GMaxPooling())
        # Named as in their experiments, so that the weights are interchangeable.
        self.Gblock, self.FCblock = nn.ModuleList(layers), nn.Sequential()
        if workload.head:
            width = after.structure_dict[0]
            self.FCblock = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, workload.fiber_out[0]))

    def forward(self, graph: Any, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Their output by degree, the basis of the positions computed on the way."""
        source, target = graph.edges()
        graph.edata["d"] = graph.ndata["x"][target] - graph.ndata["x"][source]
        basis, r = self._basis_and_r(graph, self._max_degree)
        for layer in self.Gblock:
            features = layer(features, G=graph, r=r, basis=basis)
        return features if isinstance(features, dict) else {"0": self.FCblock(features)}


def build(workload: Workload, num_layers: int | str | None = None) -> tuple[Callable[[], None], str]:
    """Their model of the workload's sizes, and a training step on the workload's batch.

    Args:
        workload: sizes and batch.
        num_layers: their attention layers, to which they add an output layer; None: as many as make the layers,
            that one included, as many as ours.

    Returns:
        The step (basis, forward, mean square, backward) and what it is, in words.

    Raises:
        ImportError: when their code is missing.
        NotImplementedError: on another device than the CPU, and for radial networks of another width than theirs.
        ValueError: for an output of another shape.
    """
    require_offered(workload)
    layers = attention_layers(workload, num_layers)
    modules, fibers, behind_stand_in = load()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(workload.seed)
        model = Model(modules, fibers, workload, layers)
    forward = partial(model, *batch(workload))
    check_shapes(forward, workload, PACKAGE)
    description = (
        f"the authors' equivariant_attention, {layers} attention layers and an output layer, "
        f"{weights_per_edge(model):,} radial weights per edge"
    )
    return training_step(model, forward), description + (", behind a stand-in for DGL" if behind_stand_in else "")


def load() -> tuple[ModuleType, ModuleType, bool]:
    """Their modules of layers and of fibers, and whether the stand-in answers for DGL.

    Their Clebsch-Gordan matrices come from the package lie_learn and are written to the working directory; they are
    replaced by ours, which are the same up to signs that do not matter for the time.

    Raises:
        ImportError: when their code is missing.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise ImportError(
            f"package {PACKAGE!r} is missing: clone github.com/FabianFuchsML/se3-transformer-public and put its folder "
            "on PYTHONPATH"
        )
    behind_stand_in = dgl_stand_in.install()
    modules = importlib.import_module(f"{PACKAGE}.modules")
    modules.utils_steerable._basis_transformation_Q_J = _coupling
    return modules, importlib.import_module(f"{PACKAGE}.fibers"), behind_stand_in


def batch(workload: Workload) -> tuple[Any, dict[str, Tensor]]:
    """The workload's batch as a DGL graph with positions and edge scalars, and the features of its nodes by degree."""
    ours, graph = workload.graph(torch.float32, "cpu"), graph_of(workload, positions="x")
    if ours.edge_scalars is not None:
        graph.edata["w"] = ours.edge_scalars
    return graph, {str(degree): value for degree, value in ours.features.items()}


def weights_per_edge(model: nn.Module) -> int:
    """Numbers that its radial networks produce for every edge: paths x channels in x channels out, over all layers."""
    return sum(
        module.num_freq * module.in_dim * module.out_dim
        for module in model.modules()
        if type(module).__name__ == "RadialFunc"
    )


@cache
def _coupling(degree: int, degree_in: int, degree_out: int) -> Tensor:
    return clebsch_gordan(degree_out, degree_in, degree).flatten(0, 1)
