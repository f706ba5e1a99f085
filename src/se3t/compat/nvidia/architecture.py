"""Which model of NVIDIA's code some weights belong to: read off names and shapes, or from constructor arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from se3t.compat.nvidia.reading import WeightReader, recognises
from se3t.compat.settings import (
    Field,
    anything,
    checked,
    choice,
    first_name,
    flag,
    readable,
    require,
    require_heads,
    whole,
)
from se3t.errors import UserError
from se3t.fiber import Fiber

_FIBER = anything("{degree: channels}")
FIELDS: dict[str, Field] = {
    "num_layers": whole(0),
    **dict.fromkeys(("fiber_in", "fiber_hidden", "fiber_out", "fiber_edge"), _FIBER),
    "num_heads": whole(),
    "channels_div": whole(),
    "return_type": whole(0, None),
    "pooling": choice("avg", "max", None),
    **dict.fromkeys(("norm", "use_layer_norm", "tensor_cores", "low_memory"), flag()),
    "num_degrees": whole(),
    "num_channels": whole(),
    "output_dim": whole(),
    "e3nn": anything("a release, such as 0.3.3"),
    "unequal_norm": choice("equivariant", "inverted"),
}
"""Fields of a configuration: constructor arguments of ``SE3Transformer`` and ``SE3TransformerPooled``, ``e3nn`` (the
release that made the Clebsch–Gordan coefficients) and ``unequal_norm`` (which of two releases of the norm layer). The
effect of ``tensor_cores`` and ``low_memory`` is read from the weights."""
_WORDS = {
    "num_layers": "attention layers",
    "num_heads": "attention heads",
    "channels_div": "hidden channels / channels of keys and values",
    "fiber_in": "{degree: channels}",
    "fiber_hidden": "{degree: channels}",
    "fiber_out": "{degree: channels}",
    "pooling": "avg, max or null for none",
    "return_type": "degree that is returned, or null for all",
    "unequal_norm": "equivariant as in RFdiffusion, or inverted as in NVIDIA's later code",
}


@dataclass(frozen=True)
class Architecture:
    """All that decides the function and the names of the weights.

    Attributes:
        fiber_in, fiber_hidden, fiber_out, fiber_edge: as their constructor has them.
        fiber_value: types and channels of the values.
        num_layers: attention layers, the last convolution not counted.
        num_heads: attention heads.
        norm: whether there are norm layers. use_layer_norm: whether the radial networks have LayerNorm.
        radial_hidden: width of the radial networks.
        fusions: for each layer, the convolution included, which pairs of degrees share a radial network (see
            :class:`se3t.nn.RadialNetwork`).
        return_type: the degree returned, or None. pooling: "avg", "max" or None.
        output_dim: width of the MLP's output, or None without MLP.
        unequal_norm: "equivariant" or "inverted"; only where hidden channels differ.
    """

    fiber_in: Fiber
    fiber_hidden: Fiber
    fiber_out: Fiber
    fiber_edge: Fiber
    fiber_value: Fiber
    num_layers: int
    num_heads: int
    norm: bool
    fusions: tuple[str, ...]
    return_type: int | None
    pooling: str | None
    use_layer_norm: bool = True
    output_dim: int | None = None
    radial_hidden: int = 32
    unequal_norm: str | None = None

    @property
    def max_degree(self) -> int:
        """Largest degree of any node feature."""
        return max(fiber.max_degree for fiber in (self.fiber_in, self.fiber_hidden, self.fiber_out))

    @property
    def has_group_norm(self) -> bool:
        """Whether the norm layers are one GroupNorm: all degrees have as many channels."""
        return len(set(self.fiber_hidden.values())) == 1


# --- from constructor arguments ---------------------------------------------------------------------------------------


def fusion(fiber_in: Fiber, fiber_out: Fiber, max_degree: int, level: str) -> str:
    """Which radial networks a convolution of theirs shares.

    Full sharing needs all degrees 0 … max_degree with equal channels on both sides, sharing by output degree on the
    input side, sharing by input degree on the output side.

    Args:
        fiber_in: source features, edge features of degree > 0 included.
        fiber_out: messages.
        max_degree: largest degree of the model.
        level: ``none``, ``partial`` or ``full``, the most that is allowed.
    """
    spans = [_spans(fiber, max_degree) for fiber in (fiber_in, fiber_out)]
    if level == "full" and all(spans):
        return "full"
    if level != "none" and spans[0]:
        return "degree_out"
    if level != "none" and spans[1]:
        return "degree_in"
    return "none"


def _spans(fiber: Fiber, max_degree: int) -> bool:
    return fiber.degrees == tuple(range(max_degree + 1)) and len(set(fiber.values())) == 1


def layer_fibers(
    fiber_in: Fiber, fiber_hidden: Fiber, fiber_out: Fiber, fiber_edge: Fiber, fiber_value: Fiber, num_layers: int
) -> list[tuple[Fiber, Fiber]]:
    """Source features and messages of every convolution, in order: keys and values together, then the last one."""
    pairs = []
    for _ in range(num_layers):
        pairs.append((fiber_in + joined(fiber_edge, fiber_in), fiber_value + fiber_value.restrict(fiber_in)))
        fiber_in = fiber_hidden
    return [*pairs, (fiber_in + joined(fiber_edge, fiber_in), fiber_out)]


def joined(fiber_edge: Fiber, fiber_in: Fiber) -> Fiber:
    """The edge features that join the node features of a layer: degrees above 0 that the nodes have as well."""
    return Fiber({degree: channels for degree, channels in fiber_edge.items() if degree > 0 and degree in fiber_in})


def from_arguments(arguments: Mapping[str, Any], source: str = "SE3Transformer") -> Architecture:
    """The architecture that their constructor makes of these arguments.

    Raises:
        UserError: for a missing or wrong argument.
    """
    settings = _normalised(checked(arguments, FIELDS, source), source)
    wanted = ("num_layers", "fiber_in", "fiber_hidden", "fiber_out", "channels_div")
    require(settings, {name: _WORDS[name] for name in wanted}, source, of_weights=False)
    settings = _with_values({"norm": True, "fiber_edge": Fiber({}), **settings})
    return _complete(settings, _fusions_of_arguments(settings), source, of_weights=False)


def _fusions_of_arguments(settings: Mapping[str, Any]) -> tuple[str, ...]:
    level = "full" if settings.get("tensor_cores") else "partial"
    level = "none" if settings.get("low_memory") else level
    names = ("fiber_in", "fiber_hidden", "fiber_out", "fiber_edge", "fiber_value", "num_layers")
    max_degree = max(settings[name].max_degree for name in names[:3])
    pairs = layer_fibers(**{name: settings[name] for name in names})
    return tuple(fusion(before, after, max_degree, level) for before, after in pairs)


def _normalised(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Fibers of any spelling as ours; ``num_degrees`` and ``num_channels`` as ``fiber_hidden``."""
    settings = dict(config)
    if "num_degrees" in settings and "num_channels" in settings:
        settings["fiber_hidden"] = Fiber.uniform(settings.pop("num_degrees"), settings.pop("num_channels"))
    for name in ("fiber_in", "fiber_hidden", "fiber_out", "fiber_edge"):
        if name in settings:
            settings[name] = _fiber(settings[name], name, source)
    return settings


def _with_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    hidden, div = settings["fiber_hidden"], settings["channels_div"]
    return {**settings, "fiber_value": Fiber({degree: channels // div for degree, channels in hidden.items()})}


def _fiber(value: Any, name: str, source: str) -> Fiber:
    if isinstance(value, Fiber):
        return value
    try:
        if isinstance(value, str):
            return Fiber(value)
        if isinstance(value, dict):
            pairs = dict.items(value)  # their class iterates over pairs
            return Fiber({int(degree): channels for degree, channels in pairs})
        num_degrees, channels = value
        return Fiber.uniform(num_degrees, channels)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{source}: {name}={value!r}: expected {{degree: channels}}, '16x0+8x1' or (num_degrees, channels)"
        ) from error


# --- from weights -----------------------------------------------------------------------------------------------------


def from_weights(state: Mapping[str, Tensor], config: Mapping[str, Any], source: str) -> Architecture:
    """The architecture of weights; ``config`` adds what shapes do not show.

    Args:
        state: their state_dict.
        config: constructor arguments.
        source: for errors.

    Raises:
        UserError: when these are not weights of that code, or fields are missing.
    """
    if not recognises(state):
        raise UserError(
            f"{source}: not weights of NVIDIA's code: expected parameters named graph_modules.0… or "
            f"transformer.graph_modules.0…, {first_name(state)}"
        )
    with readable(source):
        reader = WeightReader(state)
        known, fusions = reader.settings(), reader.fusions()
    given = _normalised(_with_degrees(checked(config, FIELDS, source), known), source)
    settings = {**known, **given}
    if "channels_div" in given and "fiber_hidden" in settings:
        settings = _with_values(settings)
    if settings["num_layers"] != known["num_layers"]:
        raise UserError(
            f"{source}: does not fit the configuration: it has {known['num_layers']} attention layers, not "
            f"num_layers={settings['num_layers']}; they differ from parameter {reader.first_of_last_layer()!r} on"
        )
    for degree in sorted({*settings.get("fiber_hidden", {})} ^ {*known.get("fiber_hidden", {})}):
        raise UserError(
            f"{source}: does not fit the configuration: fiber_hidden={settings['fiber_hidden']!r} and parameter "
            f"'{reader.root}0.project.weights.{degree}': one has degree {degree}, the other has not"
        )
    return _complete(settings, fusions, source)


def _with_degrees(config: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``num_degrees`` and ``num_channels`` one may be given: weights show the other."""
    hidden: Fiber = known.get("fiber_hidden", Fiber({}))
    if hidden and ("num_degrees" in config or "num_channels" in config):
        return {"num_degrees": len(hidden), "num_channels": hidden[hidden.degrees[0]], **config}
    return config


def _complete(
    settings: Mapping[str, Any], fusions: tuple[str, ...], source: str, *, of_weights: bool = True
) -> Architecture:
    is_pooled = "output_dim" in settings
    if is_pooled and "pooling" in settings:
        settings = {**settings, "pooling": settings["pooling"] or "max"}  # as their constructor does
    wanted = ["num_heads", "fiber_in", "fiber_hidden", "fiber_out", "pooling"]
    wanted += [] if is_pooled else ["return_type"]
    hidden = settings.get("fiber_hidden", Fiber({}))
    if settings.get("norm", True) and len(set(hidden.values())) > 1:
        wanted.append("unequal_norm")
    require(settings, {name: _WORDS[name] for name in wanted}, source, of_weights=of_weights)
    if is_pooled:
        settings = {**settings, "return_type": 0}
    _require_sound(settings, source)
    known = {item.name for item in fields(Architecture)}
    return Architecture(fusions=fusions, **{name: value for name, value in settings.items() if name in known})


def _require_sound(settings: Mapping[str, Any], source: str) -> None:
    """What their constructor refuses, and what would fail in a call."""
    for name in ("fiber_in", "fiber_hidden", "fiber_out"):
        if not settings[name]:
            raise UserError(f"{source}: {name}: has no channels; expected {_WORDS[name]}")
    require_heads(settings["num_heads"], settings["fiber_value"], source)
    returned, pooling = settings["return_type"], settings["pooling"]
    if returned is not None and returned not in settings["fiber_out"]:
        degrees = ", ".join(map(str, settings["fiber_out"]))
        raise UserError(f"{source}: return_type={returned}: expected a degree of fiber_out: {degrees}")
    if pooling is not None and returned is None:
        raise UserError(f"{source}: return_type=null: with pooling={pooling} expected the degree that is pooled")
    if pooling == "max" and returned:
        raise UserError(f"{source}: max pooling of degree {returned} is not equivariant; use avg, or return_type 0")
