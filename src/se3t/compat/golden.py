"""Reference values of a released code, compared with what this library computes from the same weights.

A reference file holds weights, inputs, and what the released code made of them: output, output of every layer, output
of the rotated and of the translated input, gradients of all weights. A second kind holds spherical harmonics, coupling
matrices and Wigner matrices alone. All of it is plain tensors, computed in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from se3t.compat import authors
from se3t.compat.mapping import Converted
from se3t.compat.nvidia import loading as nvidia
from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.so3 import clebsch_gordan, spherical_harmonics, to_authors_phase, wigner_d

Named: TypeAlias = dict[str, Tensor]
TOLERANCES = {"64": {"gradients": 1e-8, "": 1e-10}, "32": {"gradients": 1e-3, "": 1e-5}}
"""Largest relative error by precision and quantity; ``""`` for all others. Gradients in float32 are as good as their
condition: where a norm layer divides by a spread of 1e-3, rounding grows a thousandfold on its way back."""
DTYPES = {"64": torch.float64, "32": torch.float32}
DEFAULTS: dict[str, dict[str, Any]] = {
    "authors": {"n_heads": 1, "x_ij": "add", "pooling": "avg"},
    "nvidia": {"pooling": None, "return_type": None, "unequal_norm": "inverted"},
}
"""What the constructors of the released classes do when an argument is left out: ``config`` holds their arguments."""
SHIFT = (1.0, 2.0, 3.0)
"""The translation of ``output_translated``."""
_SMALL = {"64": 1e-6, "32": 1e-3}
_AXES = [1, 2, 0]  # the authors' rotation matrices have the axes (z, x, y) of their points
_REQUIRED = ("config", "state_dict", "inputs", "output")


@dataclass(frozen=True)
class Comparison:
    """One line of the result.

    Attributes:
        name: the quantity: ``output``, ``output_rotated``, ``output_translated``, a layer, ``gradients`` …
        error: largest difference over the largest reference value.
        tolerance: what ``error`` may be.
        worst: the part of the quantity where the error is largest, if it has parts.
    """

    name: str
    error: float
    tolerance: float
    worst: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; never for one that is not a number."""
        return self.error <= self.tolerance


def compare(
    content: Mapping[str, Any], source: str, *, kernel: str = "edge_frame", precision: str = "64", device: str = "cpu"
) -> list[Comparison]:
    """Compare everything that a reference file holds.

    Args:
        content: the file, see the module.
        source: its name, for errors.
        kernel: implementation of the convolutions.
        precision: ``64`` or ``32``, of weights, inputs and arithmetic.
        device: where to compute.

    Returns:
        One entry for each quantity; errors are relative to the largest entry of the reference, for gradients parameter
        by parameter.

    Raises:
        UserError: when the file is of neither kind, or its weights do not fit its configuration.
    """
    if "state_dict" not in content and "Q_J" in content and "Y" in content:
        return _compare_functions(content, precision)
    missing = [name for name in _REQUIRED if name not in content]
    if missing:
        raise UserError(
            f"{source}: not a reference file: {', '.join(repr(name) for name in missing)} missing; expected "
            f"{', '.join(_REQUIRED)} (or Y and Q_J)"
        )
    converted = load(content, source, kernel)
    model = converted.model.to(device, DTYPES[precision])
    graph = graph_of(content["inputs"], model, source).to(device, DTYPES[precision])
    rows = _compare_forward(content, converted, model, graph)
    if "R" in content and "output_rotated" in content:
        rotated = model(graph.rotate(content["R"].to(device)))
        rows.append(("output_rotated", _errors(_by_degree(content["output_rotated"]), rotated)))
    if "output_translated" in content:
        moved = model(graph.translate(torch.tensor(SHIFT, dtype=DTYPES[precision], device=device)))
        rows.append(("output_translated", _errors(_by_degree(content["output_translated"]), moved)))
    if "grads" in content and "probe" in content:
        rows.append(("gradients", _compare_gradients(content, converted, model, graph, precision)))
    return [_worst(name, errors, precision) for name, errors in rows]


def load(content: Mapping[str, Any], source: str, kernel: str = "edge_frame") -> Converted:
    """The model of a reference file, in the precision of its weights.

    Raises:
        UserError: for weights of neither code, or weights that do not fit ``config``.
    """
    state, config = content["state_dict"], dict(content["config"])
    if authors.recognises(state):
        known = authors.fields(state)
        defaults = {name: value for name, value in DEFAULTS["authors"].items() if name in known}
        return authors.load(state, {**defaults, **config}, couplings=content.get("Q_J"), source=source, kernel=kernel)
    if "e3nn" in content:
        config["e3nn"] = content["e3nn"]
    return nvidia.load(
        state, {**DEFAULTS["nvidia"], **config}, couplings=content.get("Q_J"), source=source, kernel=kernel
    )


def graph_of(inputs: Mapping[str, Tensor], model: nn.Module, source: str) -> Graph:
    """The inputs of a reference file as a graph with the fields that the model takes.

    Type 0 is ``features`` or ``charges``, type 1 ``velocities``, whichever has as many channels as the model takes;
    ``node_l`` gives type l outright. Edge features of type 1 are the relative positions x_i − x_j unless the file has
    ``edge_1``.

    Raises:
        UserError: when the file lacks an input.
    """
    fiber_in, fiber_edge = _fiber(model, "fiber_in"), _fiber(model, "fiber_edge")
    positions, edge_index = inputs["positions"], inputs["edge_index"]
    batch = inputs["batch"]
    edges: Features = {}
    if model.relative_position == "none":
        for degree, channels in fiber_edge.items():
            edges[degree] = _edge_feature(inputs, degree, channels, source)
    return Graph(
        positions=positions,
        features={degree: _node_feature(inputs, degree, channels, source) for degree, channels in fiber_in.items()},
        edge_index=edge_index,
        batch=batch,
        num_graphs=int(batch.max()) + 1,
        edge_scalars=inputs.get("edge_attr"),
        edge_features=edges,
    ).sort_edges()


def _fiber(model: nn.Module, name: str) -> Fiber:
    fiber = getattr(model, name)
    assert isinstance(fiber, Fiber)
    return fiber


def _node_feature(inputs: Mapping[str, Tensor], degree: int, channels: int, source: str) -> Tensor:
    names = [f"node_{degree}", *{0: ("features", "charges"), 1: ("velocities",)}.get(degree, ())]
    shape = (len(inputs["positions"]), channels, 2 * degree + 1)
    for name in names:
        if name in inputs and inputs[name].numel() == shape[0] * shape[1] * shape[2]:
            return inputs[name].reshape(shape)
    raise UserError(
        f"{source}: inputs: the model takes {channels} channels of type {degree}, expected them in {' or '.join(names)}"
    )


def _edge_feature(inputs: Mapping[str, Tensor], degree: int, channels: int, source: str) -> Tensor:
    if f"edge_{degree}" in inputs:
        return inputs[f"edge_{degree}"]
    if (degree, channels) != (1, 1):
        raise UserError(
            f"{source}: inputs: the model takes {channels} edge channels of type {degree}, expected in edge_{degree}"
        )
    positions, (first, second) = inputs["positions"], inputs["edge_index"]
    return (positions[second] - positions[first])[:, None]


def _compare_forward(
    content: Mapping[str, Any], converted: Converted, model: nn.Module, graph: Graph
) -> list[tuple[str, dict[str, float]]]:
    found: dict[str, Features] = {}
    hooks = []
    for theirs, ours in converted.weights.layers.items():
        keep = partial(_keep, found, theirs)
        hooks.append(model.get_submodule(ours).register_forward_hook(keep))
    with torch.no_grad():
        out = model(graph)
    for hook in hooks:
        hook.remove()
    rows = [("output", _errors(_by_degree(content["output"]), out))]
    for name, expected in content.get("layer_outputs", {}).items():
        rows.append(
            (name, _errors(_by_degree(expected), found[name]) if name in found else {"not computed": torch.inf})
        )
    return rows


def _keep(found: dict[str, Features], name: str, module: nn.Module, inputs: object, output: Features | Tensor) -> None:
    found[name] = {0: output} if isinstance(output, Tensor) else output


def _compare_gradients(
    content: Mapping[str, Any], converted: Converted, model: nn.Module, graph: Graph, precision: str
) -> dict[str, float]:
    """Relative error of the gradient of each of their parameters.

    A gradient that is tiny beside the largest one of all is measured against that (a fraction of it): where it is zero
    but for rounding, its own size says nothing. Parameters without a reference gradient are passed over.
    """
    model.zero_grad()
    out, probe = model(graph), _by_degree(content["probe"])
    pairs = _paired(probe, out)
    sum((value * weight.to(value)).sum() for weight, value in pairs.values()).backward()  # type: ignore[union-attr]
    grads = {
        name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in model.named_parameters()
    }
    received = {name: value.double().cpu() for name, value in converted.weights.to_theirs(grads).items()}
    largest = max(float(value.abs().max()) for value in content["grads"].values() if value is not None)
    errors = {}
    for name, expected in content["grads"].items():
        if expected is not None:  # none was computed there
            size = max(float(expected.abs().max()), _SMALL[precision] * largest)
            errors[name] = float((received[name] - expected).abs().max()) / size
    return errors


def _by_degree(value: Tensor | Mapping[str, Tensor]) -> Named:
    return {"": value} if isinstance(value, Tensor) else {str(degree): part for degree, part in value.items()}


def _paired(expected: Named, received: Features) -> dict[str, tuple[Tensor, Tensor]]:
    """Reference and our value of every part; a reference without degrees is the only one that we have."""
    parts = {"": next(iter(received.values()))} if list(expected) == [""] else {str(l): v for l, v in received.items()}
    return {name: (value, parts[name].reshape(value.shape)) for name, value in expected.items()}


def _errors(expected: Named, received: Features) -> dict[str, float]:
    if list(expected) != [""] and {int(name) for name in expected} != set(received):
        return {f"degrees {sorted(received)}": torch.inf}
    return {name: relative_error(*pair) for name, pair in _paired(expected, received).items()}


def relative_error(expected: Tensor, received: Tensor) -> float:
    """Largest |received − expected| over the largest |expected|, in float64; of a zero one the plain difference."""
    size = float(expected.abs().max()) if expected.numel() else 0.0
    difference = (received.detach().double().cpu() - expected.double()).abs()
    return float(difference.max()) / (size or 1.0) if difference.numel() else 0.0


def _worst(name: str, errors: Mapping[str, float], precision: str) -> Comparison:
    limits = TOLERANCES[precision]
    worst = max(errors, key=lambda part: torch.inf if errors[part] != errors[part] else errors[part])
    words = f"type {worst}" if worst.isdigit() else worst
    return Comparison(name, errors[worst], limits.get(name, limits[""]), words)


# --- harmonics and coupling matrices ----------------------------------------------------------------------------------


def _compare_functions(content: Mapping[str, Any], precision: str) -> list[Comparison]:
    is_authors = "wigner_D" in content
    directions, dtype = content["u"], DTYPES[precision]
    harmonics = spherical_harmonics(max(content["Y"]), directions.to(dtype))
    harmonics = to_authors_phase(harmonics) if is_authors else harmonics
    errors = {
        f"{degree}": relative_error(expected, harmonics[:, degree**2 : (degree + 1) ** 2])
        for degree, expected in content["Y"].items()
    }
    rows = [_worst("Y_J", errors, precision)]
    signs = None if is_authors else nvidia.coefficient_signs(str(content.get("e3nn", "0.3.3")))
    rows.append(
        _worst("Q_J", {str(key): _coupling_error(key, q, signs, dtype) for key, q in content["Q_J"].items()}, precision)
    )
    if is_authors:
        rotations = [rotation[_AXES][:, _AXES].to(dtype) for rotation in content["rot_zyz"]]
        matrices = {
            str(key): relative_error(expected, wigner_d(key[0], rotations[key[1]]))
            for key, expected in content["wigner_D"].items()
        }
        rows.append(_worst("D^l", matrices, precision))
    return rows


def _coupling_error(key: tuple[int, int, int], expected: Tensor, signs: Any, dtype: torch.dtype) -> float:
    """Of a matrix whose sign is arbitrary (the authors'), the sign counts as right."""
    degree, degree_in, degree_out = key
    ours = clebsch_gordan(degree_out, degree_in, degree).to(dtype).reshape(expected.shape)
    sign = signs(degree_out, degree_in, degree) if signs else float((ours.double() * expected).sum().sign())
    return relative_error(expected, sign * ours)
