"""Reference values of a released code, compared with what this library computes from the same weights.

A reference file holds weights, inputs, and what the released code made of them: output, output of every layer, output
of the rotated and of the translated input, gradients of all weights. A second kind holds spherical harmonics, coupling
matrices and Wigner matrices alone. All of it is plain tensors, computed in float64.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from se3t.compat import authors
from se3t.compat.mapping import Converted
from se3t.compat.nvidia import architecture
from se3t.compat.nvidia import loading as nvidia
from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.nn import RadialNetwork
from se3t.so3 import clebsch_gordan, spherical_harmonics, to_authors_phase, wigner_d

Content: TypeAlias = Mapping[str, Any]
Errors: TypeAlias = dict[str, float]
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
_TOPOLOGY = ("positions", "edge_index", "batch")


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
    content: Content, source: str, *, kernel: str = "auto", precision: str = "64", device: str = "cpu"
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
        UserError: that begins with ``source`` and says what in the file is not as it should be.
    """
    with _readable(source, "what it holds"):
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
        return [_worst(name, errors, precision) for name, errors in rows]


def load(content: Content, source: str, kernel: str = "auto") -> Converted:
    """The model of a reference file, in the precision of its weights.

    Raises:
        UserError: for weights of neither code, or weights that do not fit ``config``.
    """
    state, config = _tensors(content["state_dict"], "state_dict", source), _mapping(content["config"], "config", source)
    couplings = None if content.get("Q_J") is None else _tensors(content["Q_J"], "Q_J", source, names=tuple)
    given: dict[str, Any] = {"couplings": couplings, "source": source, "kernel": kernel}
    with _readable(source, "the model of config and state_dict"):
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


def graph_of(inputs: Any, model: nn.Module, source: str) -> Graph:
    """The inputs of a reference file as a graph with the fields that the model takes.

    Type 0 is ``features`` or ``charges``, type 1 ``velocities``, whichever has as many channels as the model takes;
    ``node_l`` gives type l outright. Edge features of type 1 are the relative positions x_i − x_j unless the file has
    ``edge_1``. Indices may be of any whole-number dtype.

    Raises:
        UserError: when the file lacks an input, or an input is not what the model takes.
    """
    fiber_in, fiber_edge = cast(Fiber, model.fiber_in), cast(Fiber, model.fiber_edge)
    positions, edge_index, batch = _topology(inputs, source)
    inputs = {**inputs, "positions": positions, "edge_index": edge_index}
    edges: Features = {}
    if model.relative_position == "none":
        edges = {degree: _edge_feature(inputs, degree, channels, source) for degree, channels in fiber_edge.items()}
    number = next((part.num_edge_scalars for part in model.modules() if isinstance(part, RadialNetwork)), 0)
    scalars = inputs.get("edge_attr")
    if scalars is not None or number > 0:
        scalars = _reshaped(scalars, (edge_index.shape[1], number), "inputs: edge_attr", source)
    return Graph(
        positions=positions,
        features={degree: _node_feature(inputs, degree, channels, source) for degree, channels in fiber_in.items()},
        edge_index=edge_index,
        batch=batch,
        num_graphs=int(batch.max()) + 1,
        edge_scalars=scalars,
        edge_features=edges,
    ).sort_edges()


@contextmanager
def _readable(source: str, what: str) -> Iterator[None]:
    """What a file holds can fail anywhere in the library: what no check of a field foresaw is the file's fault too."""
    try:
        yield
    except UserError as error:
        words = " ".join(line.strip() for line in str(error).splitlines())  # a strange value may print as several
        raise UserError(words if words.startswith(source) else f"{source}: {words}") from error
    except (ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, AttributeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{source}: {what} cannot be computed ({type(error).__name__}: {reason})") from error


def _refusal(source: str, field: str, expected: str, found: object) -> UserError:
    words = f"a {type(found).__name__}" if isinstance(found, Mapping | list | tuple) else repr(found)
    if isinstance(found, Mapping):
        words += f" of {', '.join(repr(name) for name in [*found][:6]) or 'nothing'}"
    if isinstance(found, Tensor):
        words = f"{str(found.dtype).removeprefix('torch.')} of shape {list(found.shape)}"
    return UserError(f"{source}: {field}: expected {expected}, found {words}")


def _require_known(name: object, known: Iterable[str], field: str, source: str) -> None:
    if name not in (names := list(known)):
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0)
        raise _refusal(source, field, f"names of this model, such as {', '.join(near)}", name)


def _mapping(value: Any, field: str, source: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _refusal(source, field, "a mapping by name", value)
    return dict(value)


def _tensors(value: Any, field: str, source: str, names: type = str) -> dict[Any, Tensor]:
    for name, part in _mapping(value, field, source).items():
        if not isinstance(name, names) or not isinstance(part, Tensor) or not part.is_floating_point():
            raise _refusal(source, f"{field}[{name!r}]", f"a {names.__name__} that names a floating-point tensor", part)
    return dict(value)


def _tensor(value: Any, shape: Sequence[int | str], field: str, source: str, *, whole: bool = False) -> Tensor:
    """The value itself if it holds real numbers, or whole ones, in that shape, where a word stands for any size."""
    if isinstance(value, Tensor) and value.dim() == len(shape):
        fits = all(isinstance(size, str) or size == own for size, own in zip(shape, value.shape, strict=True))
        is_whole = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
        if fits and (is_whole or (value.is_floating_point() and not whole)):
            return value
    expected = f"a tensor of {'whole ' if whole else ''}numbers of shape [{', '.join(str(size) for size in shape)}]"
    raise _refusal(source, field, expected, value)


def _reshaped(value: Any, shape: Sequence[int], field: str, source: str) -> Tensor:
    """The value in that shape; dimensions of size one may be missing or too many."""
    if isinstance(value, Tensor) and [n for n in value.shape if n != 1] == [n for n in shape if n != 1]:
        value = value.reshape(tuple(shape))
    return _tensor(value, shape, field, source)


def _topology(inputs: Any, source: str) -> tuple[Tensor, Tensor, Tensor]:
    if missing := [name for name in _TOPOLOGY if name not in _mapping(inputs, "inputs", source)]:
        raise UserError(f"{source}: inputs: {' and '.join(missing)} missing; expected {', '.join(_TOPOLOGY)}")
    positions = _tensor(inputs["positions"], ("N", 3), "inputs: positions", source)
    last = len(positions) - 1
    if last < 0:
        raise _refusal(source, "inputs: positions", "at least one point", positions)
    edge_index = _tensor(inputs["edge_index"], (2, "E"), "inputs: edge_index", source, whole=True).long()
    if strange := edge_index[(edge_index < 0) | (edge_index > last)].tolist():
        raise _refusal(source, "inputs: edge_index", f"nodes 0 to {last}", strange[0])
    batch = _tensor(inputs["batch"], (last + 1,), "inputs: batch", source, whole=True).long()
    if int(batch[0]) < 0 or int(batch[-1]) > last or bool((batch.diff() < 0).any()):
        words = f"the index of each point's graph, ascending, 0 to at most {last}"
        raise UserError(f"{source}: inputs: batch: expected {words}, found {batch.tolist()[:12]}")
    return positions, edge_index, batch


def _node_feature(inputs: Content, degree: int, channels: int, source: str) -> Tensor:
    names = [f"node_{degree}", *{0: ("features", "charges"), 1: ("velocities",)}.get(degree, ())]
    shape = (len(inputs["positions"]), channels, 2 * degree + 1)
    found = [inputs[name] for name in names if name in inputs]
    fitting = [value for value in found if isinstance(value, Tensor) and value.numel() == math.prod(shape)]
    words = f"inputs: the model takes {channels} channels of type {degree}, expected them in {' or '.join(names)}"
    return _reshaped(next(iter([*fitting, *found]), None), shape, words, source)


def _edge_feature(inputs: Content, degree: int, channels: int, source: str) -> Tensor:
    positions, (first, second) = inputs["positions"], inputs["edge_index"]
    if (degree, channels) == (1, 1) and "edge_1" not in inputs:
        return (positions[second] - positions[first])[:, None]
    words = f"inputs: the model takes {channels} edge channels of type {degree}, expected in edge_{degree}"
    return _reshaped(inputs.get(f"edge_{degree}"), (len(first), channels, 2 * degree + 1), words, source)


def _compare_forward(content: Content, converted: Converted, graph: Graph, source: str) -> list[tuple[str, Errors]]:
    found: dict[str, Features] = {}
    model, layers = converted.model, converted.weights.layers.items()
    hooks = [model.get_submodule(ours).register_forward_hook(partial(_keep, found, theirs)) for theirs, ours in layers]
    with torch.no_grad():
        out = model(graph)
    for hook in hooks:
        hook.remove()
    rows = [("output", _errors(content["output"], out, "output", source))]
    for name, expected in _mapping(content.get("layer_outputs", {}), "layer_outputs", source).items():
        _require_known(name, found, "layer_outputs", source)
        rows.append((name, _errors(expected, found[name], f"layer_outputs[{name!r}]", source)))
    return rows


def _compare_moved(content: Content, model: nn.Module, graph: Graph, source: str) -> list[tuple[str, Errors]]:
    moved = {}
    if "output_rotated" in content:
        moved["output_rotated"] = graph.rotate(_tensor(content.get("R"), (3, 3), "R", source).double().to(graph.device))
    if "output_translated" in content:
        moved["output_translated"] = graph.translate(torch.tensor(SHIFT).to(graph.positions))
    with torch.no_grad():
        return [(name, _errors(content[name], model(graph), name, source)) for name, graph in moved.items()]


def _keep(found: dict[str, Features], name: str, module: nn.Module, inputs: object, output: Features | Tensor) -> None:
    found[name] = {0: output} if isinstance(output, Tensor) else output


def _compare_gradients(content: Content, converted: Converted, graph: Graph, precision: str, source: str) -> Errors:
    """Relative error of the gradient of each of their parameters.

    A gradient that is tiny beside the largest one of all is measured against that (a fraction of it): where it is zero
    but for rounding, its own size says nothing. Parameters without a reference gradient are passed over.
    """
    grads = _mapping(content["grads"], "grads", source)
    given = {name: value for name, value in grads.items() if value is not None}  # None: none was computed there
    if not given:
        raise UserError(f"{source}: grads: holds no gradient, expected a tensor for at least one parameter")
    received = _gradients(content.get("probe"), converted, graph, source)
    for name, value in given.items():
        _require_known(name, received, "grads", source)
        _tensor(value, received[name].shape, f"grads[{name!r}]", source)
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
        raise _refusal(source, field, f"{one} for each of the degrees {', '.join(parts)}", expected)
    names = {name: f"{field}[{name!r}]" if name else field for name in parts}
    return {name: (_reshaped(given[name], own.shape, names[name], source), own) for name, own in parts.items()}


def _errors(expected: Any, received: Features, field: str, source: str) -> Errors:
    return {name: relative_error(*pair) for name, pair in _paired(expected, received, field, source).items()}


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


def _compare_functions(content: Content, source: str, precision: str) -> list[Comparison]:
    is_authors, dtype = "wigner_D" in content, DTYPES[precision]
    directions = _tensor(content.get("u"), ("points", 3), "u", source)
    values = _table(content, "Y", 1, lambda l: (len(directions), 2 * l + 1), source)
    harmonics = spherical_harmonics(max(values), directions.to(dtype))
    harmonics = to_authors_phase(harmonics) if is_authors else harmonics
    errors = {f"{l}": relative_error(value, harmonics[:, l**2 : (l + 1) ** 2]) for l, value in values.items()}
    row = _worst("Y_J", errors, precision)
    signs = None if is_authors else nvidia.coefficient_signs(str(content.get("e3nn", nvidia.RELEASE)), source)
    sizes = (lambda a, b, c: (b * c, a)) if is_authors else (lambda a, b, c: (c, b, a))
    couplings = _table(content, "Q_J", 3, lambda *degrees: sizes(*(2 * l + 1 for l in degrees)), source)
    with _readable(source, "Q_J"):
        errors = {str(key): _coupling_error(key, value, signs, dtype) for key, value in couplings.items()}
    rows = [row, _worst("Q_J", errors, precision)]
    return [*rows, _compare_wigner(content, source, precision)] if is_authors else rows


def _compare_wigner(content: Content, source: str, precision: str) -> Comparison:
    stored, matrices = content.get("rot_zyz"), _table(content, "wigner_D", 2, lambda l, _: (2 * l + 1,) * 2, source)
    count = max(number for _, number in matrices) + 1
    if not isinstance(stored, list | tuple) or len(stored) < count:
        raise _refusal(source, "rot_zyz", f"a list of {count} rotations, as wigner_D counts them", stored)
    rotations = [_tensor(value, (3, 3), f"rot_zyz[{number}]", source) for number, value in enumerate(stored)]
    turned = [rotation[_AXES][:, _AXES].to(DTYPES[precision]) for rotation in rotations]
    errors = {str(key): relative_error(value, wigner_d(key[0], turned[key[1]])) for key, value in matrices.items()}
    return _worst("D^l", errors, precision)


def _table(content: Content, field: str, length: int, shape: Callable[..., Any], source: str) -> dict[Any, Tensor]:
    """Tensors by degrees: a key is so many whole numbers, from which the shape follows."""
    table = _mapping(content[field], field, source)
    if not table:
        raise _refusal(source, field, "at least one tensor", table)
    for key, value in table.items():
        numbers = key if isinstance(key, tuple) and length > 1 else (key,)
        if len(numbers) != length or not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise UserError(f"{source}: {field}: expected keys of {length} whole number(s) each, found {key!r}")
        _tensor(value, shape(*numbers), f"{field}[{key!r}]", source)
    return table


def _coupling_error(key: tuple[int, int, int], expected: Tensor, signs: Any, dtype: torch.dtype) -> float:
    """Of a matrix whose sign is arbitrary (the authors'), the sign counts as right."""
    degree, degree_in, degree_out = key
    ours = clebsch_gordan(degree_out, degree_in, degree).to(dtype).reshape(expected.shape)
    sign = signs(degree_out, degree_in, degree) if signs else float((ours.double() * expected).sum().sign())
    return relative_error(expected, sign * ours)
