"""Who takes part: our kernels by name, the twin made of e3nn's tensor products, the peer from PyPI, adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import torch
from torch import nn

from se3t.bench import peer, twin
from se3t.bench.adapters import Adapter
from se3t.bench.counting import Sizes, kept_bytes, weights_per_edge
from se3t.bench.equality import Difference, difference_from_reference, reduced
from se3t.bench.timing import Step, Timed
from se3t.bench.workloads import Workload, mean_square
from se3t.errors import UserError, did_you_mean
from se3t.nn.kernels import KERNELS

PEER, E3NN, AUTO, REFERENCE = "peer", "e3nn", "auto", "reference"
SEPARATE = "-separate"  # keys and values apart, and one radial network for each pair of degrees, as the peer has them
MEMORY = {"-low": "low", "-speed": "speed"}
_MOST_KEPT = {False: 2**30, True: 2**27}  # bytes of radial weights; True: for the slow reference kernel
_CHOOSES_MEMORY = "edge_frame"


class UnusableError(UserError):
    """A contender that cannot run here, with the reason."""


@dataclass(frozen=True)
class Ours:
    """A form of our model.

    Attributes:
        name: as it was asked for.
        kernel: its kernel, or ``e3nn``.
        memory: ``auto``, ``low`` or ``speed``.
        separate: see ``SEPARATE``.
    """

    name: str
    kernel: str
    memory: str = "auto"
    separate: bool = False

    @classmethod
    def parse(cls, name: str) -> Ours:
        """Read a kernel with its endings.

        Raises:
            UserError: for an unknown word.
        """
        base = name.removesuffix(SEPARATE)
        ending = next((ending for ending in MEMORY if base.endswith(ending)), None)
        kernel = base.removesuffix(ending) if ending else base
        if kernel not in (*kernel_names(), E3NN):
            raise UserError(f"contender {name!r} is not known; {did_you_mean(name, all_names())}")
        return cls(name, kernel, MEMORY[ending] if ending else "auto", name.endswith(SEPARATE))

    def build(self, workload: Workload, memory: str | None = None) -> nn.Module:
        """The model, in float32 on the CPU; ``memory`` in place of its own."""
        share, fuse = ("none", False) if self.separate else ("full", True)
        if self.kernel == E3NN:
            return twin.with_tensor_products(workload.model(REFERENCE, "auto", share, fuse))
        return workload.model(self.kernel, memory or self.memory, share, fuse)

    def difference(self, workload: Workload) -> Difference:
        """Differences from the reference kernel; of ``auto`` memory the larger one of both that it chooses from."""
        small, oracle = reduced(workload), Ours(REFERENCE, REFERENCE, separate=self.separate)
        modes = [self.memory]
        if self.memory == "auto" and self.kernel not in (E3NN, REFERENCE):  # which one it takes depends on the size
            modes = [*MEMORY.values()]
        found = [
            difference_from_reference(small.graph, partial(self.build, small, mode), partial(oracle.build, small))
            for mode in modes
        ]
        return Difference.largest(found)


@dataclass(frozen=True)
class Contender:
    """What takes part on one workload.

    Attributes:
        name: short.
        work: the step.
        description: what it is, in words, for peers.
        difference: from the reference kernel; None for peers, whose outputs are other numbers.
        parameters: how many, where known.
        weights_per_edge: numbers that its radial networks make for an edge, where known.
    """

    name: str
    work: Timed
    description: str = ""
    difference: Difference | None = None
    parameters: int | None = None
    weights_per_edge: int | None = None


def kernel_names() -> list[str]:
    """All kernels, the best first: ``auto`` where the library has it, the reference last."""
    names = [*KERNELS]
    return sorted(names, key=lambda name: (name != AUTO, name == REFERENCE, -names.index(name)))


def all_names() -> list[str]:
    """Everything that can be asked for but peers from files, without the rarer endings."""
    kernels = kernel_names()
    return [
        *kernels,
        *(_CHOOSES_MEMORY + ending for ending in MEMORY),
        *(name + SEPARATE for name in kernels),
        E3NN,
        PEER,
    ]


def unavailable(name: str, device: str) -> str | None:
    """Why a contender cannot run on a device, in words; None where it can.

    Args:
        name: of a contender.
        device: where it would run.
    """
    if name == PEER:
        return None if peer.is_installed() else _needs(peer.PACKAGE)
    ours = Ours.parse(name)
    if ours.kernel == E3NN:
        return None if twin.is_installed() else _needs(twin.PACKAGE)
    if ours.kernel not in KERNELS:
        return None
    try:
        module = import_module(KERNELS[ours.kernel])
    except ImportError as error:
        return f"cannot be imported: {error}"
    ask = vars(module).get("unavailable")
    reason: str | None = None if ask is None else ask(torch.device(device))
    return reason


def default_names(workload: Workload) -> tuple[list[str], list[str]]:
    """Contenders that a run without names has, and why others are missing.

    What would hold more than a GiB of radial weights is left out, the reference kernel, which is slow, far earlier.
    """
    names = [*kernel_names(), *(_CHOOSES_MEMORY + ending for ending in MEMORY), E3NN]
    if workload.name == "nbody":
        names += [_CHOOSES_MEMORY + SEPARATE, PEER]
    kept = kept_bytes(workload, Sizes.of(workload).unique)
    chosen, notes = [], []
    for name in names:
        reason = unavailable(name, workload.device)
        keeps = name in (REFERENCE, "vectorised", E3NN) or name.endswith("-speed")
        if reason is None and keeps and kept > _MOST_KEPT[name == REFERENCE]:
            reason = f"holds {kept / 2**20:,.0f} MiB of radial weights here; name it to have it all the same"
        if reason is None:
            chosen.append(name)
        else:
            notes.append(f"{workload.name}: {name} is left out: {reason}.")
    return chosen, notes


def make(workload: Workload, name: str, *, check: bool = True) -> Contender:
    """A contender that is ours or the peer from PyPI.

    Args:
        workload: what it works on.
        name: see :func:`all_names`.
        check: whether it is compared with the reference kernel first.

    Raises:
        DisagreementError: when it computes something else.
        UnusableError: when it cannot run here.
        UserError: for an unknown name.
    """
    reason = unavailable(name, workload.device)
    if reason is not None:
        raise UnusableError(f"contender {name!r} {reason}")
    if name == PEER:
        return _make_peer(workload)
    ours = Ours.parse(name)
    difference = ours.difference(workload).check(name) if check else None
    model, graph = ours.build(workload).to(workload.device), workload.graph()
    return Contender(
        name=name,
        work=Step(model, lambda: mean_square(model(graph))),
        difference=difference,
        parameters=sum(value.numel() for value in model.parameters()),
        weights_per_edge=weights_per_edge(model),
    )


def make_adapted(workload: Workload, adapter: Adapter) -> Contender:
    """A contender from a file.

    Raises:
        UnusableError: when the file says that it does not offer this workload.
        UserError: when the file fails.
    """
    try:
        work, description = adapter.build(workload)
    except NotImplementedError as error:
        raise UnusableError(f"adapter {adapter.path} does not offer workload {workload.name!r}: {error}") from error
    return Contender(adapter.name, work, f"{adapter.name}: {description}; its outputs are not compared.")


def rebuild(spec: dict[str, object], name: str | None = None, adapter: str | None = None) -> Timed:
    """The step of a contender from plain values, without a check: for a process of its own."""
    workload = Workload.of(**spec)  # type: ignore[arg-type]
    if adapter is not None:
        return make_adapted(workload, Adapter.parse(adapter)).work
    return make(workload, str(name), check=False).work


def collect(workload: Workload, names: Sequence[str], adapters: Sequence[Adapter]) -> tuple[list[Contender], list[str]]:
    """All contenders of a workload, checked, and why some are missing.

    Args:
        workload: what they work on.
        names: ours and the peer; empty: :func:`default_names`.
        adapters: files.

    Raises:
        DisagreementError: when a kernel computes something else than the reference.
        UserError: for an unknown name, a contender that was named and cannot run, or a file that fails.
    """
    chosen, notes = (list(names), []) if names else default_names(workload)
    found: list[Contender] = []
    for name in chosen:
        try:
            found.append(make(workload, name))
        except RuntimeError as error:  # NotImplementedError among them: the peer knows one workload
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if names and not isinstance(error, NotImplementedError):
                raise UserError(f"contender {name!r} fails on workload {workload.name!r}: {reason}") from error
            notes.append(f"{workload.name}: {name} is left out: {reason}.")
    for adapter in adapters:
        try:
            found.append(make_adapted(workload, adapter))
        except UnusableError as error:
            notes.append(f"{workload.name}: {error}.")
    if not found:
        raise UserError(f"workload {workload.name!r}: no contender is left; {' '.join(notes)}")
    return found, notes


_PEER_DESCRIPTION = (
    "peer: se3-transformer-pytorch. Equal: data, a basis in every step, layers with kernels (its attention stands "
    "between two convolutions), degrees, channels, heads, key and value channels, width of the radial networks "
    "(rebuilt from 128). Not equal: a feed-forward part in each block, no attentive self-interaction, softmax for each "
    "degree apart, GELU for ReLU, a radial network for each pair of degrees, for keys and for values (ours with the "
    "ending -separate). It is another model: of its output the shape is checked, not the values."
)


def _needs(package: str) -> str:
    return f"needs the package {package}; install it: pip install 'se3t[bench]'"


def _make_peer(workload: Workload) -> Contender:
    model, loss = peer.build_peer(workload)
    return Contender(
        name=PEER,
        work=Step(model, loss),
        description=_PEER_DESCRIPTION,
        parameters=sum(value.numel() for value in model.parameters()),
        weights_per_edge=peer.weights_per_edge(model),
    )
