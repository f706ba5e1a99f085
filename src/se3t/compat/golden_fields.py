"""Fields of a reference file, checked: an error names the file and the field."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.nn import RadialNetwork

_TOPOLOGY = ("positions", "edge_index", "batch")


@contextmanager
def readable(source: str, what: str) -> Iterator[None]:
    """Turn any error that the content of a file causes into one that names the file."""
    try:
        yield
    except UserError as error:
        text = " ".join(line.strip() for line in str(error).splitlines())  # a value may print as several lines
        raise UserError(text if text.startswith(source) else f"{source}: {text}") from error
    except (ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, AttributeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{source}: {what} cannot be computed ({type(error).__name__}: {reason})") from error


def refusal(source: str, field: str, expected: str, value: object) -> UserError:
    """The error for a field with an unexpected value."""
    text = f"a {type(value).__name__}" if isinstance(value, Mapping | list | tuple) else repr(value)
    if isinstance(value, Mapping):
        text += f" of {', '.join(repr(name) for name in [*value][:6]) or 'nothing'}"
    if isinstance(value, Tensor):
        text = f"{str(value.dtype).removeprefix('torch.')} of shape {list(value.shape)}"
    return UserError(f"{source}: {field}: expected {expected}, found {text}")


def require_known(name: object, known: Iterable[str], field: str, source: str) -> None:
    """Refuse a name that is not among those known, with the nearest one."""
    if name not in (names := list(known)):
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0)
        raise refusal(source, field, f"names of this model, such as {', '.join(near)}", name)


def mapping(value: Any, field: str, source: str) -> dict[Any, Any]:
    """The value itself if it is a mapping."""
    if not isinstance(value, Mapping):
        raise refusal(source, field, "a mapping by name", value)
    return dict(value)


def tensors(value: Any, field: str, source: str, names: type = str) -> dict[Any, Tensor]:
    """The value itself if it maps names (or other keys of that type) to floating-point tensors."""
    for name, part in mapping(value, field, source).items():
        if not isinstance(name, names) or not isinstance(part, Tensor) or not part.is_floating_point():
            raise refusal(source, f"{field}[{name!r}]", f"a {names.__name__} that names a floating-point tensor", part)
    return dict(value)


def tensor(value: Any, shape: Sequence[int | str], field: str, source: str, *, whole: bool = False) -> Tensor:
    """The value itself if it holds real numbers, or whole ones, in that shape, where a word stands for any size."""
    if isinstance(value, Tensor) and value.dim() == len(shape):
        fits = all(isinstance(size, str) or size == received for size, received in zip(shape, value.shape, strict=True))
        is_whole = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
        if fits and (is_whole or (value.is_floating_point() and not whole)):
            return value
    expected = f"a tensor of {'whole ' if whole else ''}numbers of shape [{', '.join(str(size) for size in shape)}]"
    raise refusal(source, field, expected, value)


def reshaped(value: Any, shape: Sequence[int], field: str, source: str) -> Tensor:
    """The value in that shape; dimensions of size one may be missing or too many."""
    if isinstance(value, Tensor) and [n for n in value.shape if n != 1] == [n for n in shape if n != 1]:
        value = value.reshape(tuple(shape))
    return tensor(value, shape, field, source)


def table(
    content: Mapping[str, Any], field: str, length: int, shape: Callable[..., Any], source: str
) -> dict[Any, Tensor]:
    """Tensors by degrees: a key is so many whole numbers, from which the shape follows."""
    entries = mapping(content[field], field, source)
    if not entries:
        raise refusal(source, field, "at least one tensor", entries)
    for key, value in entries.items():
        numbers = key if isinstance(key, tuple) and length > 1 else (key,)
        if len(numbers) != length or not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise UserError(f"{source}: {field}: expected keys of {length} whole number(s) each, found {key!r}")
        tensor(value, shape(*numbers), f"{field}[{key!r}]", source)
    return entries


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
        scalars = reshaped(scalars, (edge_index.shape[1], number), "inputs: edge_attr", source)
    return Graph(
        positions=positions,
        features={degree: _node_feature(inputs, degree, channels, source) for degree, channels in fiber_in.items()},
        edge_index=edge_index,
        batch=batch,
        num_graphs=int(batch.max()) + 1,
        edge_scalars=scalars,
        edge_features=edges,
    ).sort_edges()


def _topology(inputs: Any, source: str) -> tuple[Tensor, Tensor, Tensor]:
    if missing := [name for name in _TOPOLOGY if name not in mapping(inputs, "inputs", source)]:
        raise UserError(f"{source}: inputs: {' and '.join(missing)} missing; expected {', '.join(_TOPOLOGY)}")
    positions = tensor(inputs["positions"], ("N", 3), "inputs: positions", source)
    last = len(positions) - 1
    if last < 0:
        raise refusal(source, "inputs: positions", "at least one point", positions)
    edge_index = tensor(inputs["edge_index"], (2, "E"), "inputs: edge_index", source, whole=True).long()
    if outside := edge_index[(edge_index < 0) | (edge_index > last)].tolist():
        raise refusal(source, "inputs: edge_index", f"nodes 0 to {last}", outside[0])
    batch = tensor(inputs["batch"], (last + 1,), "inputs: batch", source, whole=True).long()
    if int(batch[0]) < 0 or int(batch[-1]) > last or bool((batch.diff() < 0).any()):
        expected = f"the index of each point's graph, ascending, 0 to at most {last}"
        raise UserError(f"{source}: inputs: batch: expected {expected}, found {batch.tolist()[:12]}")
    return positions, edge_index, batch


def _node_feature(inputs: Mapping[str, Any], degree: int, channels: int, source: str) -> Tensor:
    names = [f"node_{degree}", *{0: ("features", "charges"), 1: ("velocities",)}.get(degree, ())]
    shape = (len(inputs["positions"]), channels, 2 * degree + 1)
    candidates = [inputs[name] for name in names if name in inputs]
    fitting = [value for value in candidates if isinstance(value, Tensor) and value.numel() == math.prod(shape)]
    field = f"inputs: the model takes {channels} channels of type {degree}, expected them in {' or '.join(names)}"
    return reshaped(next(iter([*fitting, *candidates]), None), shape, field, source)


def _edge_feature(inputs: Mapping[str, Any], degree: int, channels: int, source: str) -> Tensor:
    positions, (first, second) = inputs["positions"], inputs["edge_index"]
    if (degree, channels) == (1, 1) and "edge_1" not in inputs:
        return (positions[second] - positions[first])[:, None]
    field = f"inputs: the model takes {channels} edge channels of type {degree}, expected in edge_{degree}"
    return reshaped(inputs.get(f"edge_{degree}"), (len(first), channels, 2 * degree + 1), field, source)
