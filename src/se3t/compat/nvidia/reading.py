"""What names and shapes of weights of NVIDIA's code show of the model they belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from se3t.fiber import Fiber
from se3t.nn.basis import num_paths

FUSIONS = {"conv_out": "degree_out", "conv_in": "degree_in"}


def recognises(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether parameter names are those of NVIDIA's code."""
    return any(re.match(r"(transformer\.)?graph_modules\.\d+\.", name) for name in state_dict)


class WeightReader:
    """What names and shapes of a state_dict show.

    Args:
        state: their state_dict, one that :func:`recognises` knows.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.is_pooled = any(name.startswith("transformer.") for name in state)
        self.all = state
        self.root = root = "transformer.graph_modules." if self.is_pooled else "graph_modules."
        self.modules: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith(root):
                number, _, rest = name.removeprefix(root).partition(".")
                self.modules.setdefault(int(number), {})[rest] = value
        self.attention = [m for m in self.modules.values() if any(name.startswith("to_key_value.") for name in m)]
        self.last = self.modules[max(self.modules)]

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that shapes show, and ``fiber_value`` and ``radial_hidden``."""
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
        """For each layer, which pairs of degrees share a radial network."""
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
        channels = {l: weight.shape[0] for l, weight in _by_degree(self.last, "to_kernel_self.").items()}
        fused = _fusion_by_name(self.last)
        if fused == "degree_out":
            degrees = {int(name.split(".")[1]) for name in self.last if name.startswith("conv_out.")}
        elif fused == "none":
            degrees = {int(re.split(r"[.,]", name)[2]) for name in self.last if name.startswith("conv.")}
        else:
            degrees = set(channels)  # all degrees up to the largest; those that the hidden layers lack do not show
        return Fiber(channels) if degrees == set(channels) else None


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
    channels: dict[int, int] = {}
    every = range(max_degree + 1)
    for name, size in rows.items():
        head, _, degrees = name.partition(".")
        if head == "conv" and degrees:
            k, l = (int(part) for part in degrees.split(","))
            channels[k] = size // (fiber_out.get(l, 1) * num_paths(l, k))
        elif head == "conv_out":
            l = int(degrees)
            width = size // (fiber_out.get(l, 1) * sum(num_paths(l, k) for k in every))
            channels |= dict.fromkeys(every, width)
        elif head == "conv_in":
            k = int(degrees)
            channels[k] = size // (max(fiber_out.values()) * sum(num_paths(l, k) for l in every))
        else:
            total = sum(num_paths(l, k) for l in every for k in every)
            channels |= dict.fromkeys(every, size // (max(fiber_out.values()) * total))
    return channels
