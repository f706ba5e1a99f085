"""NVIDIA's SE(3)-Transformer (package ``se3_transformer``) as a contender: ``python -m benchmarks step --adapter …``.

Its code is not part of this project: put a checkout on PYTHONPATH, see ``README.md`` beside this file. Where DGL cannot
be imported, its calls go to ``dgl_stand_in.py``. Options choose among its forms: ``FILE:variant=low_memory``.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock

import dgl_stand_in  # the files beside this one
import torch
import torch.cuda.nvtx
from dgl_workload import attention_layers, check_shapes, graph_of, require_offered, training_step
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from se3t.bench.workloads import Workload

PACKAGE = "se3_transformer"
# Which pairs of degrees share a convolution. Theirs are the flags; "full" is what they recommend for tensor cores.
VARIANTS = {
    "full": {"tensor_cores": True},
    "partial": {},
    "low_memory": {"low_memory": True},
}
_SAID = {
    "full": "one convolution for all types (tensor_cores)",
    "partial": "a convolution for each output type",
    "low_memory": "a convolution for each pair of types, recomputed (low_memory)",
}


def build(
    workload: Workload,
    variant: str = "partial",
    num_layers: int | str | None = None,
    edge_vectors: int | str | None = None,
) -> tuple[Callable[[], None], str]:
    """Their model of the workload's sizes, and a training step on the workload's batch.

    Args:
        workload: sizes and batch.
        variant: one of ``VARIANTS``; ``partial`` is what their constructor makes without a flag.
        num_layers: their attention layers, to which they add a convolution; None: as many as make the layers, that
            convolution included, as many as ours.
        edge_vectors: 1 or 0, whether x_j − x_i is an edge feature; None: as the workload says.

    Returns:
        The step (basis, forward, mean square, backward) and what it is, in words.

    Raises:
        ImportError: when their package, or e3nn, is missing.
        NotImplementedError: on another device than the CPU, and for radial networks of another width than theirs.
        ValueError: for an unknown option, or an output of another shape.
    """
    require_offered(workload)
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant}: expected one of {', '.join(VARIANTS)}")
    layers = attention_layers(workload, num_layers)
    vectors = workload.relative_position != "none" if edge_vectors is None else bool(int(edge_vectors))
    package, behind_stand_in = load()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(workload.seed)
        model = make_model(package, workload, variant, layers, vectors)
    forward = partial(run, model, batch(workload), *inputs(workload), edge_vectors=vectors)
    with _quiet():
        check_shapes(forward, workload, PACKAGE)
    description = (
        f"NVIDIA's se3_transformer, {_SAID[variant]}, {layers} attention layers and a convolution, "
        f"{weights_per_edge(model):,} radial weights per edge"
    )
    return training_step(model, forward), description + (", behind a stand-in for DGL" if behind_stand_in else "")


def load() -> tuple[ModuleType, bool]:
    """Their module ``se3_transformer.model``, and whether the stand-in answers for DGL.

    Raises:
        ImportError: when their package, or e3nn, is missing.
    """
    if importlib.util.find_spec(PACKAGE) is None or importlib.util.find_spec("e3nn") is None:
        raise ImportError(
            f"package {PACKAGE!r} (with 'e3nn') is missing: clone github.com/NVIDIA/DeepLearningExamples, put its "
            "folder DGLPyTorch/DrugDiscovery/SE3Transformer on PYTHONPATH, and pip install e3nn"
        )
    behind_stand_in = dgl_stand_in.install()
    with _quiet(), _without_nvtx():
        return importlib.import_module(f"{PACKAGE}.model"), behind_stand_in


def make_model(package: ModuleType, workload: Workload, variant: str, num_layers: int, edge_vectors: bool) -> nn.Module:
    """Their model, in float32 on the CPU, with the norms between layers and in the radial networks switched on."""
    edge = {0: workload.num_edge_scalars, 1: int(edge_vectors)}
    out = workload.fiber_out if workload.fiber_last is None else workload.fiber_last
    arguments: dict[str, Any] = {
        "num_layers": num_layers,
        "fiber_in": package.Fiber(dict(workload.fiber_in)),
        "fiber_out": package.Fiber(dict(out)),
        "fiber_edge": package.Fiber({degree: channels for degree, channels in edge.items() if channels}),
        "num_heads": workload.num_heads,
        "channels_div": workload.channels_div,
        "pooling": workload.pooling,
        "norm": True,
        "use_layer_norm": True,
        **VARIANTS[variant],
    }
    with _quiet():
        if workload.head:
            sizes = {"num_degrees": workload.num_degrees, "num_channels": workload.channels}
            model = package.SE3TransformerPooled(**arguments, **sizes, output_dim=workload.fiber_out[0])
        else:
            hidden = package.Fiber.create(workload.num_degrees, workload.channels)
            return_type = None if workload.pooling is None else 0
            model = package.SE3Transformer(**arguments, fiber_hidden=hidden, return_type=return_type)
    if variant == "low_memory":
        _checkpoint_as_now(model)
    return model


def batch(workload: Workload) -> Any:
    """The workload's batch as a DGL graph, with the positions of its nodes."""
    return graph_of(workload, positions="pos")


def inputs(workload: Workload) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Features of nodes and edges in their form, by degree as a word."""
    ours = workload.graph(torch.float32, "cpu")
    edges = {} if ours.edge_scalars is None else {"0": ours.edge_scalars[..., None]}
    return {str(degree): value for degree, value in ours.features.items()}, edges


def run(
    model: nn.Module, graph: Any, nodes: dict[str, Tensor], edges: dict[str, Tensor], edge_vectors: bool
) -> dict[str, Tensor]:
    """Their output by degree, the basis of the positions computed on the way."""
    source, target = graph.edges()
    graph.edata["rel_pos"] = graph.ndata["pos"][target] - graph.ndata["pos"][source]
    if edge_vectors:
        edges = {**edges, "1": -graph.edata["rel_pos"][:, None]}
    output = model(graph, nodes, edges)
    return output if isinstance(output, dict) else {"0": output}


def weights_per_edge(model: nn.Module) -> int:
    """Numbers that its radial networks produce for every edge: paths x channels in x channels out, over all layers."""
    return sum(
        module.freq_sum * module.channels_in * module.channels_out
        for module in model.modules()
        if type(module).__name__ == "VersatileConvSE3"
    )


def _checkpoint_as_now(model: nn.Module) -> None:
    # Their call leaves the kind of recomputation to torch. The old kind gives no gradients to a first layer whose
    # inputs need none, so that part of the work would be missing; the new kind gives them.
    for module in model.modules():
        if type(module).__name__ == "ConvSE3":
            module.conv_checkpoint = partial(checkpoint, use_reentrant=False)  # type: ignore[assignment]


@contextmanager
def _without_nvtx() -> Iterator[None]:
    # Their marks for NVIDIA's profiler are taken over when their modules are imported; a torch without CUDA has none.
    if torch.cuda.is_available():
        yield
        return
    with mock.patch.object(torch.cuda.nvtx, "range", return_value=nullcontext()):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of functions that torch and e3nn deprecate
        yield
