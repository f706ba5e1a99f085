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
Pairs: TypeAlias = dict[str, tuple[Tensor, Tensor]]
"""Reference value and ours, by part of a quantity."""
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
_MOVED = ("output_rotated", "output_translated")
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
        UserError: that begins with ``source`` and says what is wrong with the file.
    """
    with readable(source, "what it holds"):
        if "state_dict" not in content and "Q_J" in content and "Y" in content:
            return _compare_functions(content, source, precision)
        if missing := [repr(name) for name in _REQUIRED if name not in content]:
            expected = f"expected {', '.join(_REQUIRED)} (or Y and Q_J)"
            raise UserError(f"{source}: not a reference file: {', '.join(missing)} missing; {expected}")
        converted = load(content, source, kernel)
        values = _values(content, converted, source, device, precision)
        layers = mapping(content.get("layer_outputs", {}), "layer_outputs", source)
        for name in layers:
            require_known(name, converted.weights.layers, "layer_outputs", source)
        references = {
            "output": content["output"],
            **layers,
            **{name: content[name] for name in _MOVED if name in content},
        }
        fields = {name: f"layer_outputs[{name!r}]" if name in layers else name for name in references}
        errors = {name: _errors(_paired(references[name], values[name], fields[name], source)) for name in references}
        if "gradients" in values:
            pairs = _paired_gradients(content["grads"], values["gradients"], source)
            errors["gradients"] = _errors(pairs, _SMALL[precision])
        if rounded is None:
            rounded = rounding(content, source) if precision == "32" else _NOTHING
        return [_worst(name, parts, precision, rounded) for name, parts in errors.items()]


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
        exact, largest = _values(content, load(content, source), source), dict[str, float]()
        for turn in range(3):  # a single change may happen to leave a quantity as it is
            moved = {
                name: {key: _moved(value, turn) for key, value in content[name].items()}
                for name in ("state_dict", "inputs")
            }
            shifted = _values({**content, **moved}, load({**content, **moved}, source), source)
            for name, parts in exact.items():
                pairs = {part: (value, shifted[name][part]) for part, value in parts.items()}
                changes = _errors(pairs, _SMALL["32"] if name == "gradients" else 0.0)
                largest[name] = max(largest.get(name, 0.0), *changes.values())
        return largest


def _moved(value: Any, turn: int) -> Any:
    """A tensor moved by up to 2⁻²⁴ of itself; equal numbers stay equal, so that points that coincide still do."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    exact = value.double()
    return exact * (1 + 2**-24 * torch.sin(1e5 * exact + turn))


def _values(
    content: Content, converted: Converted, source: str, device: str = "cpu", precision: str = "64"
) -> dict[str, dict[str, Tensor]]:
    """The parts of every quantity of the file as this library computes them; layers by their name in the file."""
    model = converted.model.to(device, DTYPES[precision])
    graph = graph_of(content["inputs"], model, source).to(device, DTYPES[precision])
    moved = {}
    if "output_rotated" in content:
        moved["output_rotated"] = graph.rotate(tensor(content.get("R"), (3, 3), "R", source).double().to(device))
    if "output_translated" in content:
        moved["output_translated"] = graph.translate(torch.tensor(SHIFT).to(graph.positions))
    values: dict[str, dict[str, Tensor]] = {}
    layers = {theirs: model.get_submodule(ours) for theirs, ours in converted.weights.layers.items()}
    hooks = [layer.register_forward_hook(partial(_keep, values, name)) for name, layer in layers.items()]
    with torch.no_grad():
        values["output"] = _by_name(model(graph))
        for hook in hooks:
            hook.remove()
        values |= {name: _by_name(model(turned)) for name, turned in moved.items()}
    if "grads" in content:
        values["gradients"] = _gradients(content.get("probe"), converted, graph, source)
    return values


def _keep(
    values: dict[str, dict[str, Tensor]], name: str, module: nn.Module, inputs: object, output: Features | Tensor
) -> None:
    values[name] = _by_name({0: output} if isinstance(output, Tensor) else output)


def _by_name(features: Features) -> dict[str, Tensor]:
    return {str(degree): value for degree, value in features.items()}


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
    expected, cls = "SE3TransformerPooled" if is_pooled else "SE3Transformer", config.get("cls")
    if cls is not None and architecture.recognises(state) and str(cls).replace(":", ".").split(".")[-1] != expected:
        raise UserError(f"{source}: config: cls={cls}: expected {expected}, whose weights these are")
    ignored = {"cls"} if is_pooled else {"cls", "output_dim"}
    ignored |= {"num_degrees", "num_channels"} if not is_pooled and "fiber_hidden" in config else set()
    return {name: value for name, value in config.items() if name in architecture.FIELDS and name not in ignored}


def _paired_gradients(grads: Any, received: Mapping[str, Tensor], source: str) -> Pairs:
    """Gradient of each of their parameters and ours; parameters without a reference gradient are left out."""
    grads = mapping(grads, "grads", source)
    given = {name: value for name, value in grads.items() if value is not None}  # None: none was computed there
    if not given:
        raise UserError(f"{source}: grads: holds no gradient, expected a tensor for at least one parameter")
    for name, value in given.items():
        require_known(name, received, "grads", source)
        tensor(value, received[name].shape, f"grads[{name!r}]", source)
    return {name: (value, received[name]) for name, value in given.items()}


def _gradients(probe: Any, converted: Converted, graph: Graph, source: str) -> dict[str, Tensor]:
    parameters = dict(converted.model.named_parameters())
    pairs = _paired(probe, _by_name(converted.model(graph)), "probe", source)
    total = torch.stack([(out.cpu().double() * weight.double()).sum() for weight, out in pairs.values()]).sum()
    values = torch.autograd.grad(total, [*parameters.values()], materialize_grads=True)
    return converted.weights.to_theirs(dict(zip(parameters, values, strict=True)))


def _paired(expected: Any, parts: Mapping[str, Tensor], field: str, source: str) -> Pairs:
    """Reference, in our shape, and our value of every part; a reference without degrees is that of a single part."""
    if isinstance(expected, Tensor) and len(parts) == 1:
        expected, parts = {"": expected}, dict(zip([""], parts.values(), strict=True))
    given = {str(degree): value for degree, value in expected.items()} if isinstance(expected, Mapping) else {}
    if set(given) != set(parts):
        one = "a tensor, or one" if len(parts) == 1 else "a tensor"
        raise refusal(source, field, f"{one} for each of the degrees {', '.join(parts)}", expected)
    names = {name: f"{field}[{name!r}]" if name else field for name in parts}
    return {name: (reshaped(given[name], part.shape, names[name], source), part) for name, part in parts.items()}


def _errors(pairs: Pairs, small: float = 0.0) -> Errors:
    """Largest |received − expected| of each part over its largest |expected|, in float64; of zeros the difference.

    A part that is below ``small`` times the largest of all is measured against that: its own size is mostly rounding.
    """
    sizes = {name: _largest(expected) for name, (expected, _) in pairs.items()}
    least = small * max(sizes.values())
    return {
        name: _largest(received.double().cpu() - expected.double().cpu()) / (max(sizes[name], least) or 1.0)
        for name, (expected, received) in pairs.items()
    }


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0


def tolerance(name: str, precision: str, rounded: Mapping[str, float]) -> float:
    """Largest relative error that is accepted.

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
    pairs = {f"{l}": (value, harmonics[:, l**2 : (l + 1) ** 2]) for l, value in values.items()}
    rows = [_worst("Y_J", _errors(pairs), precision)]
    signs = None if is_authors else nvidia.coefficient_signs(str(content.get("e3nn", nvidia.RELEASE)), source)
    sizes = (lambda a, b, c: (b * c, a)) if is_authors else (lambda a, b, c: (c, b, a))
    couplings = table(content, "Q_J", 3, lambda *degrees: sizes(*(2 * l + 1 for l in degrees)), source)
    with readable(source, "Q_J"):
        pairs = {str(key): (value, _coupling(key, value, signs, dtype)) for key, value in couplings.items()}
    rows.append(_worst("Q_J", _errors(pairs), precision))
    return [*rows, _compare_wigner(content, source, precision)] if is_authors else rows


def _compare_wigner(content: Content, source: str, precision: str) -> Comparison:
    stored, matrices = content.get("rot_zyz"), table(content, "wigner_D", 2, lambda l, _: (2 * l + 1,) * 2, source)
    count = max(number for _, number in matrices) + 1
    if not isinstance(stored, list | tuple) or len(stored) < count:
        raise refusal(source, "rot_zyz", f"a list of {count} rotations, as wigner_D counts them", stored)
    rotations = [tensor(value, (3, 3), f"rot_zyz[{number}]", source) for number, value in enumerate(stored)]
    turned = [rotation[_AXES][:, _AXES].to(DTYPES[precision]) for rotation in rotations]
    pairs = {str(key): (value, wigner_d(key[0], turned[key[1]])) for key, value in matrices.items()}
    return _worst("D^l", _errors(pairs), precision)


def _coupling(key: tuple[int, int, int], expected: Tensor, signs: Any, dtype: torch.dtype) -> Tensor:
    """Our matrix; where its sign is arbitrary (the authors'), with that of the reference."""
    degree, degree_in, degree_out = key
    ours = clebsch_gordan(degree_out, degree_in, degree).to(dtype).reshape(expected.shape)
    sign = signs(degree_out, degree_in, degree) if signs else float((ours.double() * expected).sum().sign())
    return sign * ours
