"""The fastest kernel measured for where the tensors are, and for how many there are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import torch

from se3t.compiling import constant
from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis
from se3t.nn.kernels import KERNELS, Kernel, Sources, edge_frame, get_kernel, native
from se3t.nn.kernels.native import MAX_DEGREE
from se3t.nn.radial import RadialNetwork


@dataclass(frozen=True)
class Rule:
    """From which size on a kernel is the fastest.

    Attributes:
        kernel: its name.
        least: radial weights of a convolution: edges that differ in their invariants × weights of an edge.
    """

    kernel: str
    least: int = 0


RULES = {"cpu": (Rule("native"),), "cuda": ()}
"""By device, ascending, as measured (``benchmarks/RESULTS.md``). On a GPU no kernel was timed yet."""
FALLBACK = "edge_frame"
"""Where there is no rule, or its kernel cannot run: torch's operations, which run everywhere."""
_LOADED: dict[str, ModuleType] = {"native": native, "edge_frame": edge_frame}  # need no import, which is not traced
_log = logging.getLogger(__name__)


def messages(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
    """The same sum as the reference kernel, arguments and result alike."""
    length = basis.geometry.length
    size = basis.geometry.num_edges // basis.geometry.repeat * radial.weights_per_edge
    name = choose(length.device, length.dtype, size)
    if name == "native" and max(radial.fiber_in.max_degree, radial.fiber_out.max_degree) > MAX_DEGREE:
        name = FALLBACK
    kernel: Kernel = _LOADED[name].messages if name in _LOADED else get_kernel(name)
    return kernel(sources, radial, basis, memory)


def choose(device: torch.device, dtype: torch.dtype, size: int = 0) -> str:
    """Name of the kernel.

    Args:
        device: of the tensors.
        dtype: of the positions.
        size: radial weights, see :class:`Rule`.
    """
    return next(rule.kernel for rule in reversed(_usable(device, dtype)) if rule.least <= size)


def describe(device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """Which kernels are taken on a device, and why not the fastest where that is so."""
    first, *rest = _usable(device, dtype)
    text = ", ".join([first.kernel, *(f"{rule.kernel} from {rule.least:,} radial weights on" for rule in rest)])
    rules = RULES.get(device.type, ())
    if not rules:
        runs = device.type == "cuda" and _reason(Rule("triton"), device, dtype) is None
        advice = "; model.kernel=triton takes the Triton kernel" if runs else ""
        return f"{text} (no kernel was timed on {device.type} yet{advice})"
    reasons = {rule.kernel: _reason(rule, device, dtype) for rule in rules}
    return "; ".join([text, *(f"{name} is not used: {reason}" for name, reason in reasons.items() if reason)])


@constant
def _usable(device: torch.device, dtype: torch.dtype) -> tuple[Rule, ...]:
    """The rules whose kernels can run, behind one that always does; says in the log, once, why others cannot."""
    rules = [Rule(FALLBACK)]
    for rule in RULES.get(device.type, ()):
        reason = _reason(rule, device, dtype)
        if reason is None:
            rules = [*(other for other in rules if other.least < rule.least), rule]
        else:
            _log.warning("kernel %s is not used: %s; %s computes the same", rule.kernel, reason, rules[-1].kernel)
    return tuple(rules)


def _reason(rule: Rule, device: torch.device, dtype: torch.dtype) -> str | None:
    ask = vars(import_module(KERNELS[rule.kernel])).get("unavailable")
    reason: str | None = None if ask is None else ask(device, dtype)
    return reason
