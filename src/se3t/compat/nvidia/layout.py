"""NVIDIA's model as one of this library, and where each of its weights goes."""

from __future__ import annotations

from typing import Any

from torch import nn

from se3t.compat.mapping import RadialNames, Signs, WeightMap
from se3t.compat.nvidia.architecture import Architecture
from se3t.fiber import Fiber
from se3t.nn import EquivariantConv, SE3AttentionBlock
from se3t.nn.norm import INVERTED

MIN_NORM = 2.0**-24
_PREFIX = {"full": "conv", "degree_out": "conv_out", "degree_in": "conv_in", "none": "conv"}


def arguments_of(architecture: Architecture, kernel: str) -> dict[str, Any]:
    """Constructor arguments of the equal :class:`se3t.models.se3_transformer.SE3Transformer`, as plain values."""
    a = architecture
    last = a.fiber_out
    out = Fiber({0: a.output_dim}) if a.output_dim else last if a.return_type is None else _only(last, a.return_type)
    norm = "layer" if a.norm else "none"
    if norm == "layer" and not a.has_group_norm and a.unequal_norm == "inverted":
        norm = INVERTED
    attention = {"num_heads": a.num_heads, "fiber_value": repr(a.fiber_value), "self_interaction": "linear"}
    sharing = [{"share_radial": share, "scalar_constant": share != "none"} for share in a.fusions]
    return {
        "fiber_in": repr(a.fiber_in),
        "fiber_hidden": repr(a.fiber_hidden),
        "fiber_out": repr(out),
        "fiber_last": repr(last),
        "fiber_edge": repr(Fiber({degree: count for degree, count in a.fiber_edge.items() if degree > 0})),
        "num_edge_scalars": a.fiber_edge.get(0, 0),
        "num_layers": a.num_layers + 1,
        "last": "convolution",
        "norm": norm,
        "norm_options": {} if norm == "none" else {"min_norm": MIN_NORM},
        "pooling": {"avg": "mean", "max": "max", None: None}[a.pooling],
        "head": a.output_dim is not None,
        "edge_mode": "cat_shared",
        "kernel": kernel,
        "radial_hidden": a.radial_hidden,
        "radial_layer_norm": a.use_layer_norm,
        "radial_bias": False,
        "layer_options": [
            *({**attention, **options} for options in sharing[:-1]),
            {"reduce": "sum", "self_interaction": "per_edge", **sharing[-1]},
        ],
    }


def _only(fiber: Fiber, degree: int) -> Fiber:
    return Fiber({degree: fiber.get(degree, 0)})


def layout(architecture: Architecture, model: nn.Module, signs: Signs) -> WeightMap:
    """Where their weights go in ``model``, which was made of :func:`arguments_of`."""
    weights, a = WeightMap(model), architecture
    root = "graph_modules" if a.output_dim is None else "transformer.graph_modules"
    names = RadialNames(("0", "3", "6"), ("1", "4")) if a.use_layer_norm else RadialNames(("0", "2", "4"), ())
    layers: Any = model.layers
    number = 0
    for index, (layer, share) in enumerate(zip(layers, a.fusions, strict=True)):
        theirs, ours = f"{root}.{number}", f"layers.{index}"
        weights.layers[theirs] = ours
        number += 1
        if isinstance(layer, SE3AttentionBlock):
            conv: Any = layer.value_key[0]
            _kernels(weights, f"{theirs}.to_key_value", f"{ours}.value_key.0", conv, share, names, signs)
            weights.linear(f"{theirs}.to_query.weights", f"{ours}.query", layer.query.fiber_out)
            weights.linear(f"{theirs}.project.weights", f"{ours}.self_interaction", layer.fiber_out)
        else:
            _kernels(weights, theirs, ours, layer, share, names, signs)
            if layer.self_interaction is not None:
                self_term = layer.self_interaction
                weights.linear(f"{theirs}.to_kernel_self", f"{ours}.self_interaction", self_term.fiber_out)
        if a.norm and index < len(layers) - 1:
            weights.layers[f"{root}.{number}"] = f"norms.{index}"
            _norm(weights, f"{root}.{number}", f"norms.{index}", a)
            number += 1
    if a.pooling is not None:
        weights.layers["transformer.pooling_module" if a.output_dim else "pooling_module"] = "readout.pooling"
    if a.output_dim is not None:
        weights.head("mlp")
    return weights


def _kernels(
    weights: WeightMap, theirs: str, ours: str, conv: EquivariantConv, share: str, names: RadialNames, signs: Signs
) -> None:
    degrees_in, degrees_out = conv.radial.fiber_in.degrees, conv.fiber_out.degrees
    networks: dict[str, list[tuple[int, int]]] = {
        "full": {"": [(l, k) for l in degrees_out for k in degrees_in]},
        "degree_out": {f".{l}": [(l, k) for k in degrees_in] for l in degrees_out},
        "degree_in": {f".{k}": [(l, k) for l in degrees_out] for k in degrees_in},
        "none": {f".{k},{l}": [(l, k)] for k in degrees_in for l in degrees_out},
    }[share]
    for suffix, pairs in networks.items():
        weights.radial(f"{theirs}.{_PREFIX[share]}{suffix}.radial_func.net", ours, conv, pairs, names, signs)


def _norm(weights: WeightMap, theirs: str, ours: str, architecture: Architecture) -> None:
    fiber = architecture.fiber_hidden
    if architecture.has_group_norm:
        for part in ("weight", "bias"):
            weights.joined(f"{theirs}.group_norm.{part}", [f"{ours}.norm.{degree}.{part}" for degree in fiber])
    else:
        for degree in fiber:
            weights.network(f"{theirs}.layer_norms.{degree}", f"{ours}.norm.{degree}")
