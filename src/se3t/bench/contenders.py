"""Who takes part: our kernels by name, the twin made of e3nn's tensor products, the peer from PyPI, adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib import import_module

import torch
from torch import nn

from se3t.bench import peer, twin
from se3t.bench.adapters import Adapter
from se3t.bench.counting import Sizes, kept_bytes, weights_per_edge
from se3t.bench.equality import Difference, DisagreementError, Reference, reduced
from se3t.bench.timing import Step, Timed
from se3t.bench.workloads import Workload, mean_square
from se3t.errors import UserError, did_you_mean
from se3t.nn.kernels import KERNELS

PEER, E3NN, AUTO, REFERENCE = "peer", "e3nn", "auto", "reference"
SEPARATE = "-separate"  # keys and values apart, and one radial network for each pair of degrees, as the peer has them
MEMORY = {"-low": "low", "-speed": "speed"}
MOST_KEPT = 2**30
"""Bytes of radial weights; a contender that holds more takes part only where it is named."""
_REFERENCE_KEPT = 2**27  # the same for the reference kernel in the default run: it is slow long before it is large
_KEEPERS = (REFERENCE, "vectorised", E3NN)
_CHOOSES_MEMORY = "edge_frame"
_WITH_MEMORY = (_CHOOSES_MEMORY, AUTO)  # auto: it falls back on the other one


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
            UserError: for an unknown word, or an ending that has no effect.
        """
        if name == PEER:
            raise UserError(f"contender {PEER!r} takes part in bench step only")
        base = name.removesuffix(SEPARATE)
        ending = next((ending for ending in MEMORY if base.endswith(ending)), None)
        kernel = base.removesuffix(ending) if ending else base
        if kernel not in (*kernel_names(), E3NN):
            raise UserError(f"contender {name!r} is not known; {did_you_mean(name, all_names())}")
        if ending is not None and kernel not in _WITH_MEMORY:
            raise UserError(
                f"contender {name!r}: only {' and '.join(_WITH_MEMORY)} have the endings {' and '.join(MEMORY)}; "
                f"name it {name.replace(ending, '')!r}"
            )
        return cls(name, kernel, MEMORY[ending] if ending else "auto", name.endswith(SEPARATE))

    @property
    def keeps_weights(self) -> bool:
        """Whether it holds the radial weights of all edges and layers at the same time."""
        return self.kernel in _KEEPERS or self.memory == "speed"

    @property
    def modes(self) -> list[str]:
        """Modes of memory that a size may bring about."""
        return [*MEMORY.values()] if self.memory == "auto" and self.kernel in _WITH_MEMORY else [self.memory]

    def build(self, workload: Workload, memory: str | None = None) -> nn.Module:
        """The model, in float32 on the CPU; ``memory`` in place of its own."""
        share, fuse = ("none", False) if self.separate else ("full", True)
        if self.kernel == E3NN:
            return twin.with_tensor_products(workload.model(REFERENCE, "auto", share, fuse))
        return workload.model(self.kernel, memory or self.memory, share, fuse)

    def difference(self, workload: Workload) -> Difference:
        """Differences from the reference kernel, the largest of all its modes."""
        small = reduced(workload)
        oracle = _oracle(small, self.separate)
        return Difference.largest([oracle.difference(small.graph, partial(self.build, small, m)) for m in self.modes])


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
        precision: of the products of its step; what it computes was compared in float64 and float32.
    """

    name: str
    work: Timed
    description: str = ""
    difference: Difference | None = None
    parameters: int | None = None
    weights_per_edge: int | None = None
    precision: str = "32"

    @property
    def title(self) -> str:
        """The name, with the precision where it is not float32."""
        return self.name if self.precision == "32" else f"{self.name} {self.precision}"

    def in_precision(self, precision: str) -> Contender:
        """The same with products in another precision; others than ours know float32 alone."""
        if not isinstance(self.work, Step) or self.name == PEER or self.name.startswith(E3NN):
            return self
        return replace(self, precision=precision, work=replace(self.work, precision=precision))


@lru_cache(maxsize=2)  # with and without separate, for all contenders of a workload
def _oracle(small: Workload, separate: bool) -> Reference:
    return Reference.of(small.graph, partial(Ours(REFERENCE, REFERENCE, separate=separate).build, small))


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
        return f"it cannot be imported: {error}"
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
        keeps = name != PEER and Ours.parse(name).keeps_weights
        if reason is None and keeps and kept > (_REFERENCE_KEPT if name == REFERENCE else MOST_KEPT):
            reason = too_large(kept)
        if reason is None:
            chosen.append(name)
        else:
            notes.append(f"{workload.name}: {name} is left out: {reason}.")
    return chosen, notes


def too_large(kept: int) -> str:
    """Why a contender that was not named is left out.

    Args:
        kept: bytes of radial weights that it would hold.
    """
    return f"it holds {kept / 2**20:,.0f} MiB of radial weights here; name it to have it all the same"


def refusal(name: str, reason: str) -> UnusableError:
    """The error for a contender that cannot run.

    Args:
        name: which.
        reason: why, see :func:`unavailable`.
    """
    return UnusableError(f"contender {name!r} cannot run here: {reason}")


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
        raise refusal(name, reason)
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


def rebuild(
    spec: dict[str, object], name: str | None = None, adapter: str | None = None, precision: str = "32"
) -> Timed:
    """The step of a contender from plain values, without a check: for a process of its own."""
    workload = Workload.of(**spec)  # type: ignore[arg-type]
    if adapter is not None:
        return make_adapted(workload, Adapter.parse(adapter)).work
    return make(workload, str(name), check=False).in_precision(precision).work


def collect(
    workload: Workload, names: Sequence[str], adapters: Sequence[Adapter], wrong: list[str] | None = None
) -> tuple[list[Contender], list[str]]:
    """All contenders of a workload, checked, and why some are missing.

    Args:
        workload: what they work on.
        names: ours and the peer; empty: :func:`default_names`.
        adapters: files.
        wrong: takes what is said of kernels that compute something else than the reference, and are left out.

    Raises:
        DisagreementError: when there is such a kernel, and no ``wrong``.
        UserError: for an unknown name, two contenders of one name, a contender that was named and cannot run, or a
            file that fails.
    """
    chosen, notes = (list(dict.fromkeys(names)), []) if names else default_names(workload)
    _require_different([*chosen, *(adapter.name for adapter in adapters)])
    found: list[Contender] = []
    for name in chosen:
        try:
            found.append(make(workload, name))
        except DisagreementError as error:
            if wrong is None:
                raise
            wrong.append(f"{workload.name}: {error}")
        except (RuntimeError, UserError) as error:  # NotImplementedError among them: the peer knows one workload
            if names and isinstance(error, UserError):
                raise
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
        raise UserError(f"workload {workload.name!r}: no contender is left; {' '.join([*notes, *(wrong or [])])}")
    return found, notes


def _require_different(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"contender {name!r} is named twice; give each adapter file or its options another name")


_PEER_DESCRIPTION = (
    "peer: se3-transformer-pytorch. Equal: data, a basis in every step, layers with kernels (its attention stands "
    "between two convolutions), degrees, channels, heads, key and value channels, width of the radial networks "
    "(rebuilt from 128). Not equal: a feed-forward part in each block, no attentive self-interaction, softmax for each "
    "degree apart, GELU for ReLU, a radial network for each pair of degrees, for keys and for values (ours with the "
    "ending -separate). It is another model: of its output the shape is checked, not the values."
)


def _needs(package: str) -> str:
    return f"it needs the package {package}; install it: pip install 'se3t[bench]'"


def _make_peer(workload: Workload) -> Contender:
    model, loss = peer.build_peer(workload)
    return Contender(
        name=PEER,
        work=Step(model, loss),
        description=_PEER_DESCRIPTION,
        parameters=sum(value.numel() for value in model.parameters()),
        weights_per_edge=peer.weights_per_edge(model),
    )
