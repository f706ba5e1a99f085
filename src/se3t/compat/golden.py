"""Reference values of a released code, compared with what this library computes from the same weights.

A reference file holds weights, inputs, and what the released code made of them: output, output of every layer, output
of the rotated and of the translated input, gradients of all weights. A second kind holds spherical harmonics, coupling
matrices and Wigner matrices alone. All of it is plain tensors, computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from se3t.compat import authors
from se3t.compat.golden_fields import (
    graph_of,
    mapping,
    readable,
    refusal,
    require_known,
    reshaped,
    table,
    tensor,
    tensors,
)
from se3t.compat.mapping import Converted
from se3t.compat.nvidia import architecture
from se3t.compat.nvidia import loading as nvidia
from se3t.errors import UserError
from se3t.fiber import Features
from se3t.graph import Graph
from se3t.so3 import clebsch_gordan, spherical_harmonics, to_authors_phase, wigner_d

Content: TypeAlias = Mapping[str, Any]
Errors: TypeAlias = dict[str, float]
TOLERANCES = {"64": {"gradients": 1e-8, "": 1e-10}, "32": {"gradients": 1e-3, "": 1e-5}}
"""Largest relative error by precision and quantity; ``""`` for all others. Gradients in float32 are as good as their
condition: where a norm layer divides by a spread of 1e-3, rounding grows a thousandfold on its way back. In float32
these are the least: see :func:`rounding`."""
ROUNDINGS, WIDEST = 50, 1e-2
"""In float32 a quantity may also be off by so many times its :func:`rounding`, but never by more than ``WIDEST``. Over
random networks of 1 to 12 layers errors were mostly 1 to 10 times the rounding, the largest 26 times."""
DTYPES = {"64": torch.float64, "32": torch.float32}
DEFAULTS: dict[str, dict[str, Any]] = {
    "authors": {"n_heads": 1, "x_ij": "add", "pooling": "avg"},
    "nvidia": {"pooling": None, "return_type": None, "unequal_norm": "inverted"},
}
"""What the constructors of the released classes do when an argument is left out: ``config`` holds their arguments."""
SHIFT = (1.0, 2.0, 3.0)
"""The translation of ``output_translated``."""
_NOTHING: Mapping[str, float] = {}
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

    @property
    def share(self) -> float:
        """The error in units of its tolerance; of one that is not a number infinite."""
        return self.error / self.tolerance if math.isfinite(self.error) else math.inf


def compare(
    content: Content,
    source: str,
    *,
    kernel: str = "auto",
    precision: str = "64",
    device: str = "cpu",
    rounded: Mapping[str, float] | None = None,
) -> list[Comparison]:
    """Compare everything that a reference file holds.

    Args:
        content: the file, see the module.
        source: its name, for errors.
        kernel: implementation of the convolutions.
        precision: ``64`` or ``32``, of weights, inputs and arithmetic.
        device: where to compute.
        rounded: what :func:`rounding` says of the file, for a caller that compares it several times in float32.

    Returns:
        One entry for each quantity; errors are relative to the largest entry of the reference, for gradients parameter
        by parameter.

    Raises:
        UserError: that begins with ``source`` and says what in the file is not as it should be.
    """
    with readable(source, "what it holds"):
        if "state_dict" not in content and "Q_J" in content and "Y" in content:
            return _compare_functions(content, source, precision)
        if missing := [repr(name) for name in _REQUIRED if name not in content]:
            expected = f"expected {', '.join(_REQUIRED)} (or Y and Q_J)"
            raise UserError(f"{source}: not a reference file: {', '.join(missing)} missing; {expected}")
        converted = load(content, source, kernel)
        model = converted.model.to(device, DTYPES[precision])
        graph = graph_of(content["inputs"], model, source).to(device, DTYPES[precision])
        rows = _compare_forward(content, converted, graph, source) + _compare_moved(content, model, graph, source)
        if "grads" in content:
            rows.append(("gradients", _compare_gradients(content, converted, graph, precision, source)))
        if rounded is None:
            rounded = rounding(content, source) if precision == "32" else _NOTHING
        return [_worst(name, errors, precision, rounded) for name, errors in rows]


def rounding(content: Content, source: str) -> dict[str, float]:
    """How far each quantity moves in float64 when weights and inputs move by 2⁻²⁴, the rounding of float32.

    No float32 arithmetic can be closer to the reference than a small multiple of this. It follows the depth of a
    network, as each layer passes the rounding of those before it on, and grows where a norm layer divides by little.
    What a real error does to a quantity grows by the same factor. The reference values of the file play no part.

    Returns:
        Relative change by the name of the quantity; nothing for a file of harmonics.

    Raises:
        UserError: as :func:`compare`.
    """
    if "state_dict" not in content:
        return {}
    with readable(source, "what it holds"):
        exact, largest = _own_values(content, source), dict[str, float]()
        for turn in range(3):  # of one alone a quantity may be spared by chance
            moved = {
                name: {key: _moved(value, turn) for key, value in content[name].items()}
                for name in ("state_dict", "inputs")
            }
            shifted = _own_values({**content, **moved}, source)
            for name, parts in exact.items():
                largest[name] = max(largest.get(name, 0.0), _change(parts, shifted[name], name == "gradients"))
        return largest


def _moved(value: Any, turn: int) -> Any:
    """A tensor moved by up to 2⁻²⁴ of itself; equal numbers stay equal, so that points that coincide still do."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    exact = value.double()
    return exact * (1 + 2**-24 * torch.sin(1e5 * exact + turn))


def _own_values(content: Content, source: str) -> dict[str, Mapping[Any, Tensor]]:
    """The parts of every quantity as this library computes them in float64."""
    converted = load(content, source)
    model = converted.model.double()
    graph = graph_of(content["inputs"], model, source).to(torch.device("cpu"), torch.float64)
    output, layers = _forward(converted, graph)
    with torch.no_grad():
        moved = {name: model(turned) for name, turned in _moved_graphs(content, graph, source).items()}
    gradients = {"gradients": _gradients(content.get("probe"), converted, graph, source)} if "grads" in content else {}
    return {"output": output, **layers, **moved, **gradients}


def _change(exact: Mapping[Any, Tensor], shifted: Mapping[Any, Tensor], is_gradient: bool) -> float:
    """The largest relative change of a part; tiny gradients count as in :func:`_compare_gradients`."""
    sizes = {name: float(value.detach().abs().max()) if value.numel() else 0.0 for name, value in exact.items()}
    least = _SMALL["32"] * max(sizes.values()) if is_gradient else 0.0
    changes = [relative_error(exact[name].detach(), shifted[name]) for name in exact]
    return max(
        change * min(1.0, size / least) if least else change
        for change, size in zip(changes, sizes.values(), strict=True)
    )


def load(content: Content, source: str, kernel: str = "auto") -> Converted:
    """The model of a reference file, in the precision of its weights.

    Raises:
        UserError: for weights of neither code, or weights that do not fit ``config``.
    """
    state, config = tensors(content["state_dict"], "state_dict", source), mapping(content["config"], "config", source)
    couplings = None if content.get("Q_J") is None else tensors(content["Q_J"], "Q_J", source, names=tuple)
    given: dict[str, Any] = {"couplings": couplings, "source": source, "kernel": kernel}
    with readable(source, "the model of config and state_dict"):
        if authors.recognises(state):
            known = (*authors.fields(state), "cls")
            config = {**DEFAULTS["authors"], **config}  # most of their constructors take any other argument as well
            return authors.load(state, {name: value for name, value in config.items() if name in known}, **given)
        config = _nvidia_arguments(config, state, source)
        if "e3nn" in content:
            config["e3nn"] = content["e3nn"]
        return nvidia.load(state, {**DEFAULTS["nvidia"], **config}, **given)


def _nvidia_arguments(config: Mapping[str, Any], state: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """What counts of a configuration: their constructors take any other keyword argument, and ignore it."""
    is_pooled = any(name.startswith("transformer.") for name in state)
    found, cls = "SE3TransformerPooled" if is_pooled else "SE3Transformer", config.get("cls")
    if cls is not None and architecture.recognises(state) and str(cls).replace(":", ".").split(".")[-1] != found:
        raise UserError(f"{source}: config: cls={cls}: expected {found}, whose weights these are")
    ignored = {"cls"} if is_pooled else {"cls", "output_dim"}
    ignored |= {"num_degrees", "num_channels"} if not is_pooled and "fiber_hidden" in config else set()
    return {name: value for name, value in config.items() if name in architecture.FIELDS and name not in ignored}


def _forward(converted: Converted, graph: Graph) -> tuple[Features, dict[str, Features]]:
    """Output of the model, and of each layer by its name in the released code."""
    found: dict[str, Features] = {}
    model, layers = converted.model, converted.weights.layers.items()
    hooks = [model.get_submodule(ours).register_forward_hook(partial(_keep, found, theirs)) for theirs, ours in layers]
    with torch.no_grad():
        out = model(graph)
    for hook in hooks:
        hook.remove()
    return out, found


def _compare_forward(content: Content, converted: Converted, graph: Graph, source: str) -> list[tuple[str, Errors]]:
    out, found = _forward(converted, graph)
    rows = [("output", _errors(content["output"], out, "output", source))]
    for name, expected in mapping(content.get("layer_outputs", {}), "layer_outputs", source).items():
        require_known(name, found, "layer_outputs", source)
        rows.append((name, _errors(expected, found[name], f"layer_outputs[{name!r}]", source)))
    return rows


def _moved_graphs(content: Content, graph: Graph, source: str) -> dict[str, Graph]:
    """The rotated and the translated input, as far as the file has their outputs."""
    moved = {}
    if "output_rotated" in content:
        moved["output_rotated"] = graph.rotate(tensor(content.get("R"), (3, 3), "R", source).double().to(graph.device))
    if "output_translated" in content:
        moved["output_translated"] = graph.translate(torch.tensor(SHIFT).to(graph.positions))
    return moved


def _compare_moved(content: Content, model: nn.Module, graph: Graph, source: str) -> list[tuple[str, Errors]]:
    moved = _moved_graphs(content, graph, source)
    with torch.no_grad():
        return [(name, _errors(content[name], model(graph), name, source)) for name, graph in moved.items()]


def _keep(found: dict[str, Features], name: str, module: nn.Module, inputs: object, output: Features | Tensor) -> None:
    found[name] = {0: output} if isinstance(output, Tensor) else output


def _compare_gradients(content: Content, converted: Converted, graph: Graph, precision: str, source: str) -> Errors:
    """Relative error of the gradient of each of their parameters.

    A gradient that is tiny beside the largest one of all is measured against that (a fraction of it): where it is zero
    but for rounding, its own size says nothing. Parameters without a reference gradient are passed over.
    """
    grads = mapping(content["grads"], "grads", source)
    given = {name: value for name, value in grads.items() if value is not None}  # None: none was computed there
    if not given:
        raise UserError(f"{source}: grads: holds no gradient, expected a tensor for at least one parameter")
    received = _gradients(content.get("probe"), converted, graph, source)
    for name, value in given.items():
        require_known(name, received, "grads", source)
        tensor(value, received[name].shape, f"grads[{name!r}]", source)
    sizes = {name: float(value.abs().max()) for name, value in given.items()}
    least = _SMALL[precision] * max(sizes.values())
    differences = {name: float((received[name] - value.double()).abs().max()) for name, value in given.items()}
    return {name: value / (max(sizes[name], least) or 1.0) for name, value in differences.items()}


def _gradients(probe: Any, converted: Converted, graph: Graph, source: str) -> dict[str, Tensor]:
    own = dict(converted.model.named_parameters())
    pairs = _paired(probe, converted.model(graph), "probe", source)
    total = torch.stack([(out.cpu().double() * weight.double()).sum() for weight, out in pairs.values()]).sum()
    values = torch.autograd.grad(total, [*own.values()], materialize_grads=True)
    received = converted.weights.to_theirs(dict(zip(own, values, strict=True)))
    return {name: value.double().cpu() for name, value in received.items()}


def _paired(expected: Any, received: Features, field: str, source: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Reference, in our shape, and our value of every part; a reference without degrees is the only one we have."""
    parts = {str(degree): value for degree, value in received.items()}
    if isinstance(expected, Tensor) and len(parts) == 1:
        expected, parts = {"": expected}, dict(zip([""], parts.values(), strict=True))
    given = {str(degree): value for degree, value in expected.items()} if isinstance(expected, Mapping) else {}
    if set(given) != set(parts):
        one = "a tensor, or one" if len(parts) == 1 else "a tensor"
        raise refusal(source, field, f"{one} for each of the degrees {', '.join(parts)}", expected)
    names = {name: f"{field}[{name!r}]" if name else field for name in parts}
    return {name: (reshaped(given[name], own.shape, names[name], source), own) for name, own in parts.items()}


def _errors(expected: Any, received: Features, field: str, source: str) -> Errors:
    return {name: relative_error(*pair) for name, pair in _paired(expected, received, field, source).items()}


def relative_error(expected: Tensor, received: Tensor) -> float:
    """Largest |received − expected| over the largest |expected|, in float64; of a zero one the plain difference."""
    size = float(expected.abs().max()) if expected.numel() else 0.0
    difference = (received.detach().double().cpu() - expected.double()).abs()
    return float(difference.max()) / (size or 1.0) if difference.numel() else 0.0


def tolerance(name: str, precision: str, rounded: Mapping[str, float]) -> float:
    """Largest relative error of a quantity that counts as none.

    Args:
        name: of the quantity.
        precision: ``64`` or ``32``.
        rounded: what :func:`rounding` says of the file.
    """
    kind = name if name in TOLERANCES[precision] else ""
    least, moved = TOLERANCES[precision][kind], ROUNDINGS * rounded.get(name, 0.0)
    return min(moved, WIDEST) if precision == "32" and moved > least else least  # never what is not a number


def _worst(
    name: str, errors: Mapping[str, float], precision: str, rounded: Mapping[str, float] = _NOTHING
) -> Comparison:
    worst = max(errors, key=lambda part: torch.inf if errors[part] != errors[part] else errors[part])
    words = f"type {worst}" if worst.isdigit() else worst
    return Comparison(name, errors[worst], tolerance(name, precision, rounded), words)


# --- harmonics and coupling matrices ----------------------------------------------------------------------------------


def _compare_functions(content: Content, source: str, precision: str) -> list[Comparison]:
    is_authors, dtype = "wigner_D" in content, DTYPES[precision]
    directions = tensor(content.get("u"), ("points", 3), "u", source)
    values = table(content, "Y", 1, lambda l: (len(directions), 2 * l + 1), source)
    harmonics = spherical_harmonics(max(values), directions.to(dtype))
    harmonics = to_authors_phase(harmonics) if is_authors else harmonics
    errors = {f"{l}": relative_error(value, harmonics[:, l**2 : (l + 1) ** 2]) for l, value in values.items()}
    row = _worst("Y_J", errors, precision)
    signs = None if is_authors else nvidia.coefficient_signs(str(content.get("e3nn", nvidia.RELEASE)), source)
    sizes = (lambda a, b, c: (b * c, a)) if is_authors else (lambda a, b, c: (c, b, a))
    couplings = table(content, "Q_J", 3, lambda *degrees: sizes(*(2 * l + 1 for l in degrees)), source)
    with readable(source, "Q_J"):
        errors = {str(key): _coupling_error(key, value, signs, dtype) for key, value in couplings.items()}
    rows = [row, _worst("Q_J", errors, precision)]
    return [*rows, _compare_wigner(content, source, precision)] if is_authors else rows


def _compare_wigner(content: Content, source: str, precision: str) -> Comparison:
    stored, matrices = content.get("rot_zyz"), table(content, "wigner_D", 2, lambda l, _: (2 * l + 1,) * 2, source)
    count = max(number for _, number in matrices) + 1
    if not isinstance(stored, list | tuple) or len(stored) < count:
        raise refusal(source, "rot_zyz", f"a list of {count} rotations, as wigner_D counts them", stored)
    rotations = [tensor(value, (3, 3), f"rot_zyz[{number}]", source) for number, value in enumerate(stored)]
    turned = [rotation[_AXES][:, _AXES].to(DTYPES[precision]) for rotation in rotations]
    errors = {str(key): relative_error(value, wigner_d(key[0], turned[key[1]])) for key, value in matrices.items()}
    return _worst("D^l", errors, precision)


def _coupling_error(key: tuple[int, int, int], expected: Tensor, signs: Any, dtype: torch.dtype) -> float:
    """Of a matrix whose sign is arbitrary (the authors'), the sign counts as right."""
    degree, degree_in, degree_out = key
    ours = clebsch_gordan(degree_out, degree_in, degree).to(dtype).reshape(expected.shape)
    sign = signs(degree_out, degree_in, degree) if signs else float((ours.double() * expected).sum().sign())
    return relative_error(expected, sign * ours)
