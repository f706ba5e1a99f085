"""Which numbers of another code's parameters are which numbers of ours: a signed permutation, exact both ways.

Both codes parametrise the same functions, so that every entry of one of their parameters is, up to a sign, one entry of
one of ours. Gradients map the same way as weights do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.nn import EquivariantConv
from se3t.nn.basis import num_paths, path_degrees
from se3t.so3 import clebsch_gordan

View: TypeAlias = Callable[[Tensor], Tensor]
Shape: TypeAlias = tuple[int, ...]
Signs: TypeAlias = Callable[[int, int, int], int]
"""(degree_out, degree_in, J) → ±1: the factor between their kernel of that path and ours."""

AFFINE = ("weight", "bias")
TWO_LINEAR = ("0.weight", "0.bias", "2.weight", "2.bias")
"""Parameters of three modules in a row, the second without any."""


def _misfit(source: str, reason: str) -> UserError:
    return UserError(f"{source}: does not fit the configuration: {reason}")


def _same(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Piece:
    """A block of numbers: ``of_ours(ours) = sign · of_theirs(theirs)``.

    Attributes:
        theirs: name of their parameter. ours: name of ours.
        of_theirs: a view of their parameter. of_ours: a view of ours, of the same shape.
        sign: ±1, broadcastable to the views; None means +1.
    """

    theirs: str
    ours: str
    of_theirs: View = _same
    of_ours: View = _same
    sign: Tensor | None = None


@dataclass(frozen=True)
class RadialNames:
    """Names inside one of their radial networks Linear – LN – ReLU – Linear – LN – ReLU – Linear.

    Attributes:
        linear: the three linear layers. norm: the two LayerNorms, empty if it has none.
    """

    linear: tuple[str, str, str]
    norm: tuple[str, ...]


class WeightMap:
    """The parameters of another code beside those of one model of this library.

    Args:
        model: the equal model; its parameters may be on any device.

    Attributes:
        theirs: shape of each of their parameters, in the order of their modules.
        ours: shape of each of ours.
        aliases: prefixes under which their state_dict repeats parameters: repeated → original.
        layers: name of each of their layers that makes node features → name of the module of ``model`` that equals it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.ours: dict[str, Shape] = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        self.theirs: dict[str, Shape] = {}
        self.pieces: list[Piece] = []
        self.aliases: dict[str, str] = {}
        self.layers: dict[str, str] = {}
        self._signs: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    # --- building a layout --------------------------------------------------------------------------------------------

    def add(self, shape: Sequence[int], piece: Piece) -> None:
        """Add a block of their parameter of that shape."""
        self.theirs.setdefault(piece.theirs, tuple(shape))
        self.pieces.append(piece)

    def same(self, theirs: str, ours: str, shape: Sequence[int] | None = None) -> None:
        """A parameter with the same numbers in the same order: of our shape, or of ``shape``."""
        our_shape = self.ours[ours]
        self.add(shape or our_shape, Piece(theirs, ours, _reshaped(our_shape)))

    def joined(self, theirs: str, ours: Sequence[str]) -> None:
        """A vector of theirs that holds several vectors of ours, one after another."""
        sizes = [self.ours[name][0] for name in ours]
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        for name, start, size in zip(ours, starts, sizes, strict=True):
            self.add((sum(sizes),), Piece(theirs, name, _at(slice(start, start + size))))

    def linear(self, theirs: str, ours: str, fiber: Fiber, lead: Shape = ()) -> None:
        """Matrices ``[C_out, C_in]`` of an :class:`EquivariantLinear`, one for each degree of ``fiber``.

        Args:
            theirs: name of theirs before the degree.
            ours: name of the module.
            fiber: the output.
            lead: leading dimensions of size one that theirs have.
        """
        for degree in fiber:
            name = f"{ours}.weight.{degree}"
            self.same(f"{theirs}.{degree}", name, (*lead, *self.ours[name]))

    def network(self, theirs: str, ours: str, names: Sequence[str] = AFFINE) -> None:
        """Parameters ``theirs.name`` and ``ours.name`` of equal shape."""
        for name in names:
            self.same(f"{theirs}.{name}", f"{ours}.{name}")

    def head(self, theirs: str) -> None:
        """Their MLP Linear – ReLU – Linear after the pooling, a list of modules of that name."""
        self.network(theirs, "readout.head", TWO_LINEAR)
        self.layers |= {f"{theirs}.{layer}": f"readout.head.{layer}" for layer in range(3)}

    def radial(
        self,
        theirs: str,
        ours: str,
        conv: EquivariantConv,
        pairs: Sequence[tuple[int, int]],
        names: RadialNames,
        signs: Signs,
    ) -> None:
        """One of their radial networks: a trunk of ours, and the last layers of the pairs that share it.

        Their last layer has rows (C_out, C_in, path), paths of all pairs one after another.

        Args:
            theirs: name of their network.
            ours: name of the convolution.
            conv: the convolution.
            pairs: pairs (degree_out, degree_in), in their order.
            names: names inside their network.
            signs: sign of every path.
        """
        radial, prefix = conv.radial, f"{ours}.radial"
        trunk = radial.trunk_of[pairs[0]]
        for layer in range(2):
            our_layer = f"{prefix}.trunk.{layer}"
            width_in, width = self.ours[f"{our_layer}.weight"][1:]
            linear = f"{theirs}.{names.linear[layer]}"
            self.add((width, width_in), Piece(f"{linear}.weight", f"{our_layer}.weight", _transposed, _at(trunk)))
            self.add((width,), Piece(f"{linear}.bias", f"{our_layer}.bias", _same, _at(trunk, 0)))
            if names.norm:
                norm = f"{theirs}.{names.norm[layer]}"
                self.add((width,), Piece(f"{norm}.weight", f"{our_layer}.gain", _same, _at(trunk, 0)))
                self.add((width,), Piece(f"{norm}.bias", f"{our_layer}.shift", _same, _at(trunk, 0)))
        self._last_layer(f"{theirs}.{names.linear[2]}", prefix, conv, pairs, signs)

    def _last_layer(
        self, theirs: str, ours: str, conv: EquivariantConv, pairs: Sequence[tuple[int, int]], signs: Signs
    ) -> None:
        radial, start = conv.radial, 0
        total = sum(num_paths(*pair) for pair in pairs)
        if len({(radial.fiber_out[l], radial.fiber_in[k]) for l, k in pairs}) > 1:
            raise UserError(
                f"does not fit the configuration: parameter '{theirs}.weight' serves several degrees, which then need "
                "as many channels"
            )
        width_out, width_in = radial.fiber_out[pairs[0][0]], radial.fiber_in[pairs[0][1]]
        rows = (width_out, width_in, total)
        for l, k in pairs:
            values = [signs(l, k, degree) for degree in path_degrees(l, k)]
            sign = torch.tensor(values, dtype=torch.float64, device="cpu")[:, None] if -1 in values else None
            part, key = slice(start, start + num_paths(l, k)), radial.key(l, k)
            shape = (width_out * width_in * total, radial.hidden)
            self.add(
                shape, Piece(f"{theirs}.weight", f"{ours}.weight.{key}", _rows(rows, part, (3, 0, 2, 1)), _same, sign)
            )
            if f"{ours}.bias.{key}" in self.ours:
                piece = Piece(f"{theirs}.bias", f"{ours}.bias.{key}", _rows(rows, part, (0, 2, 1)), _same, sign)
                self.add(shape[:1], piece)
            start = part.stop

    # --- use of a layout ----------------------------------------------------------------------------------------------

    def check(self, state: Mapping[str, Tensor], source: str) -> None:
        """Make sure that ``state`` holds their parameters, and nothing else.

        Args:
            state: their state_dict.
            source: the file, for the error.

        Raises:
            UserError: naming the first parameter that does not fit.
        """
        for name, shape in self.theirs.items():
            if name not in state:
                raise _misfit(source, f"parameter {name!r} of shape {list(shape)} is missing")
            value = state[name]
            if tuple(value.shape) != shape:
                actual = list(value.shape)
                raise _misfit(source, f"parameter {name!r} should have shape {list(shape)}, it has {actual}")
            if not value.is_floating_point() or value.layout != torch.strided:
                raise UserError(f"{source}: parameter {name!r} holds {value.dtype} ({value.layout}); expected numbers")
        for name, value in state.items():
            original = self._original(name)
            if original not in self.theirs:
                raise _misfit(source, f"the model has no parameter {name!r}, of shape {list(value.shape)}")
            if original != name and not torch.equal(value, state[original]):
                raise _misfit(source, f"parameter {name!r} should equal {original!r}")

    def _original(self, name: str) -> str:
        for repeated, original in self.aliases.items():
            if name.startswith(repeated):
                return original + name.removeprefix(repeated)
        return name

    def load(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Give ``model`` their weights, in their precision: the highest that occurs, at least float32.

        Args:
            model: the equal model; changes its dtype.
            state: their state_dict, which has passed :meth:`check`.
        """
        dtype = precision_of(state)
        exact = {name: value.to(dtype) for name, value in state.items()}
        model.to(dtype).load_state_dict(self.to_ours(exact))

    def to_ours(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their weights (or gradients) under our names; differentiable."""
        return self._map(state, self.ours, reverse=False)

    def to_theirs(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our weights (or gradients) under their names; the exact inverse of :meth:`to_ours`."""
        mapped = self._map(state, self.theirs, reverse=True)
        repeated = {
            alias + name.removeprefix(original): value
            for alias, original in self.aliases.items()
            for name, value in mapped.items()
            if name.startswith(original)
        }
        return {**mapped, **repeated}

    def _map(self, state: Mapping[str, Tensor], shapes: Mapping[str, Shape], reverse: bool) -> dict[str, Tensor]:
        like = next(iter(state.values()))
        out = {name: torch.zeros(shape, dtype=like.dtype, device=like.device) for name, shape in shapes.items()}
        for number, piece in enumerate(self.pieces):
            if reverse:
                value, place = piece.of_ours(state[piece.ours]), piece.of_theirs(out[piece.theirs])
            else:
                value, place = piece.of_theirs(state[piece.theirs]), piece.of_ours(out[piece.ours])
            place.copy_(value if piece.sign is None else value * self._sign(number, value))
        return out

    def _sign(self, number: int, like: Tensor) -> Tensor:
        """The sign of a piece where it is needed; copied to a device once, not in each call."""
        key = (number, like.device, like.dtype)
        if key not in self._signs:
            self._signs[key] = cast(Tensor, self.pieces[number].sign).to(like)
        return self._signs[key]


@dataclass(frozen=True)
class Converted:
    """A released model as a model of this library.

    Attributes:
        model: the equal model, weights loaded.
        weights: the way between their parameters and ours.
        name: of the model's schema.
        arguments: its constructor arguments, as plain values.
        settings: what was read off the weights and the configuration, under their names.
    """

    model: nn.Module
    weights: WeightMap
    name: str
    arguments: dict[str, object]
    settings: dict[str, object] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Tensor]:
        """The weights of ``model`` under their names."""
        return self.weights.to_theirs(self.model.state_dict())


def precision_of(state: Mapping[str, Tensor]) -> torch.dtype:
    """The dtype that holds every number of some weights exactly, at least float32."""
    return reduce(torch.promote_types, (value.dtype for value in state.values()), torch.float32)


def _transposed(value: Tensor) -> Tensor:
    return value.mT


def _at(*index: int | slice) -> View:
    return partial(_take, index=index)


def _take(value: Tensor, index: tuple[int | slice, ...]) -> Tensor:
    return value[index]


def _reshaped(shape: Shape) -> View:
    return partial(torch.reshape, shape=shape)  # a view where it is written to: those tensors are contiguous


def _rows(rows: Shape, part: slice, order: Shape) -> View:
    return partial(_take_rows, rows=rows, part=part, order=order)


def _take_rows(value: Tensor, rows: Shape, part: slice, order: Shape) -> Tensor:
    return value.unflatten(0, rows)[:, :, part].permute(order)


def signs_of(couplings: Mapping[Any, Tensor], max_degree: int, source: str = "Q_J") -> Signs:
    """Signs of stored coupling matrices relative to :func:`se3t.so3.clebsch_gordan`.

    Args:
        couplings: Q_J by (J, d_in, d_out); any shape with as many entries, rows d_out before d_in.
        max_degree: largest degree needed.
        source: for errors.

    Raises:
        UserError: when a matrix is missing or is not ± the Clebsch–Gordan matrix.
    """
    table: dict[tuple[int, int, int], int] = {}
    for degree_out in range(max_degree + 1):
        for degree_in in range(max_degree + 1):
            for degree in range(abs(degree_out - degree_in), degree_out + degree_in + 1):
                key = (degree, degree_in, degree_out)
                ours = clebsch_gordan(degree_out, degree_in, degree).flatten()
                table[degree_out, degree_in, degree] = _sign(couplings.get(key), ours, f"{source}: Q_J[{key}]")
    return lambda degree_out, degree_in, degree: table[degree_out, degree_in, degree]


def _sign(theirs: object, ours: Tensor, where: str) -> int:
    if not isinstance(theirs, Tensor) or not theirs.is_floating_point():
        kind = "nothing" if theirs is None else getattr(theirs, "dtype", type(theirs).__name__)
        raise UserError(f"{where}: expected a matrix of (J, d_in, d_out), found {kind}")
    if theirs.numel() != ours.numel():
        raise UserError(f"{where}: has {theirs.numel()} entries, expected {ours.numel()}")
    product = float(theirs.detach().flatten().cpu().double() @ ours)
    tolerance = 1e-5 if theirs.element_size() >= 4 else 1e-2
    if not abs(abs(product) - 1) <= tolerance:  # also where it is not a number
        raise UserError(f"{where}: is not ± the Clebsch-Gordan matrix (inner product {product:.7g}, expected 1 or -1)")
    return 1 if product > 0 else -1
