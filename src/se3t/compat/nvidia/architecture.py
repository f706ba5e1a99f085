"""Which model of NVIDIA's code some weights belong to: read off names and shapes, or from constructor arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from se3t.compat.settings import merged, readable, require, require_choice, whole
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.nn.basis import num_paths

FIELDS = (
    "num_layers",
    "fiber_in",
    "fiber_hidden",
    "fiber_out",
    "fiber_edge",
    "num_heads",
    "channels_div",
    "return_type",
    "pooling",
    "norm",
    "use_layer_norm",
    "tensor_cores",
    "low_memory",
    "num_degrees",
    "num_channels",
    "output_dim",
    "e3nn",
    "unequal_norm",
)
"""Words of a configuration: constructor arguments of ``SE3Transformer`` and ``SE3TransformerPooled``, ``e3nn`` (release
that made the Clebsch–Gordan coefficients) and ``unequal_norm`` (which of two releases of the norm layer)."""
_WORDS = {
    "num_heads": "attention heads",
    "fiber_in": "{degree: channels}",
    "fiber_hidden": "{degree: channels}",
    "fiber_out": "{degree: channels}",
    "pooling": "avg, max or null for none",
    "return_type": "degree that is returned, or null for all",
    "unequal_norm": "equivariant as in RFdiffusion, or inverted as in NVIDIA's later code",
}
FUSIONS = {"conv_out": "degree_out", "conv_in": "degree_in"}


@dataclass(frozen=True)
class Architecture:
    """All that decides the function and the names of the weights.

    Attributes:
        fiber_in, fiber_hidden, fiber_out, fiber_edge: as their constructor has them.
        fiber_value: types and channels of the values.
        num_layers: attention layers, the last convolution not counted.
        num_heads: attention heads.
        norm: whether there are norm layers. layer_norm: whether the radial networks have LayerNorm.
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
    layer_norm: bool
    fusions: tuple[str, ...]
    return_type: int | None
    pooling: str | None
    output_dim: int | None
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
    settings = _with_values({"norm": True, **_normalised(arguments, source)})
    return _complete(settings, _fusions_of_arguments(settings), source)


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
            return Fiber({int(degree): int(channels) for degree, channels in pairs})
        num_degrees, channels = value
        return Fiber.uniform(int(num_degrees), int(channels))
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
        first = next(iter(state), "nothing")
        raise UserError(
            f"{source}: not weights of NVIDIA's code: expected parameters named graph_modules.0… or "
            f"transformer.graph_modules.0…, the first one here is {first!r}"
        )
    with readable(source):
        reader = _Reader(state, source)
        known, fusions = reader.settings(), reader.fusions()
    given = _normalised(merged({}, config, FIELDS, source), source)
    settings = _with_values({**known, **given}) if "channels_div" in given else {**known, **given}
    if settings["num_layers"] != known["num_layers"]:
        raise UserError(
            f"{source}: does not fit the configuration: it has {known['num_layers']} attention layers, not "
            f"num_layers={settings['num_layers']}; they differ from parameter {reader.first_of_last_layer()!r} on"
        )
    return _complete(settings, fusions, source)


def recognises(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether parameter names are those of NVIDIA's code."""
    return any(re.match(r"(transformer\.)?graph_modules\.\d+\.", name) for name in state_dict)


def _complete(settings: Mapping[str, Any], fusions: tuple[str, ...], source: str) -> Architecture:
    is_pooled = "output_dim" in settings
    if is_pooled and "pooling" in settings:
        settings = {**settings, "pooling": settings["pooling"] or "max"}  # as their constructor does
    wanted = ["num_heads", "fiber_in", "fiber_hidden", "fiber_out", "pooling"]
    wanted += [] if is_pooled else ["return_type"]
    hidden = settings.get("fiber_hidden", Fiber({}))
    if settings.get("norm", True) and len(set(hidden.values())) > 1:
        wanted.append("unequal_norm")
    require(settings, {name: _WORDS[name] for name in wanted}, source)
    whole(settings, ["num_heads"], source)
    require_choice(settings, "pooling", ("avg", "max", None), source)
    if "unequal_norm" in wanted:
        require_choice(settings, "unequal_norm", ("equivariant", "inverted"), source)
    return Architecture(
        fusions=fusions,
        layer_norm=settings.get("use_layer_norm", True),
        return_type=0 if is_pooled else settings["return_type"],
        output_dim=settings.get("output_dim"),
        unequal_norm=settings.get("unequal_norm"),
        radial_hidden=settings.get("radial_hidden", 32),
        **{
            name: settings[name]
            for name in (
                "fiber_in",
                "fiber_hidden",
                "fiber_out",
                "fiber_edge",
                "fiber_value",
                "num_layers",
                "num_heads",
                "norm",
                "pooling",
            )
        },
    )


class _Reader:
    """What names and shapes of a state_dict show."""

    def __init__(self, state: Mapping[str, Tensor], source: str) -> None:
        self.source = source
        self.is_pooled = any(name.startswith("transformer.") for name in state)
        self.all = state
        root = "transformer.graph_modules." if self.is_pooled else "graph_modules."
        self.modules: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith(root):
                number, _, rest = name.removeprefix(root).partition(".")
                self.modules.setdefault(int(number), {})[rest] = value
        self.attention = [m for m in self.modules.values() if any(name.startswith("to_key_value.") for name in m)]
        self.last = self.modules[max(self.modules)]

    def settings(self) -> dict[str, Any]:
        known: dict[str, Any] = {
            "num_layers": len(self.attention),
            "norm": any("norm" in name.split(".")[0] for module in self.modules.values() for name in module),
        }
        first = next(v for m in self.modules.values() for n, v in m.items() if n.endswith("radial_func.net.0.weight"))
        known["radial_hidden"], invariants = first.shape[0], first.shape[1] - 1
        known["use_layer_norm"] = any(n.endswith("radial_func.net.3.weight") for n in self.all)
        if not self.attention:
            return known
        known |= self._fibers(invariants)
        if self.is_pooled and "mlp.2.weight" in self.all:
            known["output_dim"] = self.all["mlp.2.weight"].shape[0]
        return known

    def fusions(self) -> tuple[str, ...]:
        layers = [_below(module, "to_key_value.") for module in self.attention]
        return tuple(_fusion_by_name(layer) for layer in [*layers, self.last])

    def first_of_last_layer(self) -> str:
        """Name of the first parameter of the last convolution."""
        number = max(self.modules)
        return next(name for name in self.all if f"graph_modules.{number}." in name)

    def _fibers(self, invariants: int) -> dict[str, Any]:
        block = self.attention[0]
        project = _by_degree(block, "project.weights.")
        query = _by_degree(block, "to_query.weights.")
        hidden = Fiber({l: weight.shape[0] for l, weight in project.items()})
        value = Fiber({l: query[l].shape[0] if l in query else weight.shape[1] for l, weight in project.items()})
        fiber_in = Fiber({l: weight.shape[1] for l, weight in query.items()})
        known: dict[str, Any] = {"fiber_hidden": hidden, "fiber_value": value}
        sources = _source_channels(_below(block, "to_key_value."), value + value.restrict(fiber_in), hidden.max_degree)
        if set(sources) == set(fiber_in):
            known["fiber_in"] = fiber_in
        edges = {l: sources[l] - channels for l, channels in fiber_in.items() if l in sources}
        out = self._fiber_out(hidden)
        if out is not None:
            known["fiber_out"] = out
            last = _source_channels(self.last, out, max(hidden.max_degree, out.max_degree))
            edges |= {l: last[l] - channels for l, channels in hidden.items() if l in last}
        known["fiber_edge"] = Fiber({**{l: count for l, count in edges.items() if l > 0 and count > 0}, 0: invariants})
        return known

    def _fiber_out(self, hidden: Fiber) -> Fiber | None:
        """Channels of the last convolution, as far as they can be told from its weights."""
        own = {l: weight.shape[0] for l, weight in _by_degree(self.last, "to_kernel_self.").items()}
        fused = _fusion_by_name(self.last)
        if fused == "degree_out":
            degrees = {int(name.split(".")[1]) for name in self.last if name.startswith("conv_out.")}
        elif fused == "none":
            degrees = {int(re.split(r"[.,]", name)[2]) for name in self.last if name.startswith("conv.")}
        else:
            degrees = set(own)  # all degrees up to the largest; those that the hidden layers lack do not show
        return Fiber(own) if degrees == set(own) else None


def _below(module: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in module.items() if name.startswith(prefix)}


def _by_degree(module: Mapping[str, Tensor], prefix: str) -> dict[int, Tensor]:
    return {int(degree): value for degree, value in sorted(_below(module, prefix).items()) if degree.isdigit()}


def _fusion_by_name(module: Mapping[str, Tensor]) -> str:
    for name in module:
        if name.startswith("conv.radial_func."):
            return "full"
        if name.split(".")[0] in FUSIONS:
            return FUSIONS[name.split(".")[0]]
    return "none"


def _source_channels(module: Mapping[str, Tensor], fiber_out: Fiber, max_degree: int) -> dict[int, int]:
    """Channels of the source features by degree, edge features included: rows of the last radial layers, divided."""
    rows = {
        name.rpartition(".radial_func.")[0]: value.shape[0]
        for name, value in module.items()
        if re.search(r"radial_func\.net\.(4|6)\.weight$", name) and value.dim() == 2
    }
    found: dict[int, int] = {}
    every = range(max_degree + 1)
    for name, size in rows.items():
        head, _, degrees = name.partition(".")
        if head == "conv" and degrees:
            k, l = (int(part) for part in degrees.split(","))
            found[k] = size // (fiber_out.get(l, 1) * num_paths(l, k))
        elif head == "conv_out":
            l = int(degrees)
            width = size // (fiber_out.get(l, 1) * sum(num_paths(l, k) for k in every))
            found |= dict.fromkeys(every, width)
        elif head == "conv_in":
            k = int(degrees)
            found[k] = size // (max(fiber_out.values()) * sum(num_paths(l, k) for l in every))
        else:
            total = sum(num_paths(l, k) for l in every for k in every)
            found |= dict.fromkeys(every, size // (max(fiber_out.values()) * total))
    return found
