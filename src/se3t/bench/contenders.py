"""The contenders of a benchmark: our model with each of the kernels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import nn

from se3t.bench.equality import Difference, DisagreementError, Reference, reduced
from se3t.bench.timing import Step, Timed
from se3t.bench.workloads import Workload, mean_square, weights_per_edge
from se3t.errors import UserError, did_you_mean
from se3t.nn.kernels import KERNELS

AUTO, REFERENCE, EDGE_FRAME = "auto", "reference", "edge_frame"
SEPARATE = "-separate"
"""Ending of contenders whose keys and values, and whose pairs of degrees, have radial networks of their own."""
MEMORY = {"-low": "low", "-speed": "speed"}
MOST_KEPT = 2**30
"""Bytes of radial weights; a contender that holds more takes part only where it is named."""
REFERENCE_KEPT = 2**27
"""The same for the reference kernel where it is timed: it is slow long before it is large."""
_WITH_MEMORY = (EDGE_FRAME, AUTO)  # auto falls back on edge_frame
REBUILD = "se3t.bench.contenders:rebuild"


class UnusableError(UserError):
    """A contender that cannot run here, with the reason."""


@dataclass(frozen=True)
class Ours:
    """A form of our model.

    Attributes:
        name: as it was asked for.
        kernel: its kernel.
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
            UserError: for an unknown kernel, or an ending that has no effect.
        """
        base = name.removesuffix(SEPARATE)
        ending = next((ending for ending in MEMORY if base.endswith(ending)), None)
        kernel = base.removesuffix(ending) if ending else base
        if kernel not in KERNELS:
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
        return self.kernel in (REFERENCE, "vectorised") or is_foreign(self.kernel) or self.memory == "speed"

    @property
    def modes(self) -> list[str]:
        """Modes of memory that a size may bring about."""
        return [*MEMORY.values()] if self.memory == "auto" and self.kernel in _WITH_MEMORY else [self.memory]

    def build(self, workload: Workload, memory: str | None = None) -> nn.Module:
        """The model, in float32 on the CPU; ``memory`` in place of its own."""
        return workload.model(self.kernel, memory or self.memory, self.separate)

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
        maker: ``module:function`` that makes the step in another process.
        arguments: of the maker.
        description: of a model that is not ours.
        difference: from the reference kernel; None for another model, whose outputs are other numbers.
        parameters: how many, where known.
        weights_per_edge: numbers that its radial networks make for an edge, where known.
        precision: of the products of its step; what it computes was compared in float64 and float32.
        precisions: whether its step can be done in others than float32.
    """

    name: str
    work: Timed
    maker: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    difference: Difference | None = None
    parameters: int | None = None
    weights_per_edge: int | None = None
    precision: str = "32"
    precisions: bool = False

    @property
    def title(self) -> str:
        """The name, with the precision where it is not float32."""
        return self.name if self.precision == "32" else f"{self.name} {self.precision}"

    def in_precision(self, precision: str) -> Contender:
        """The same with products in another precision, where it has others than float32."""
        if not self.precisions or not isinstance(self.work, Step):
            return self
        arguments = {**self.arguments, "precision": precision}
        return replace(self, precision=precision, work=replace(self.work, precision=precision), arguments=arguments)


Collected: TypeAlias = tuple[list[Contender], list[str]]
"""Contenders of a workload, and notes on why others are missing."""


@lru_cache(maxsize=2)  # with and without separate, for all contenders of a workload
def _oracle(small: Workload, separate: bool) -> Reference:
    return Reference.of(small.graph, partial(Ours(REFERENCE, REFERENCE, separate=separate).build, small))


def is_foreign(kernel: str) -> bool:
    """Whether a kernel was registered from outside: it knows float32 alone and keeps its weights."""
    return not KERNELS[kernel].startswith("se3t.")


def kernel_names() -> list[str]:
    """All kernels, the best first: ``auto``, ours, the reference, those of others."""
    names = [*KERNELS]
    return sorted(names, key=lambda name: (name != AUTO, is_foreign(name), name == REFERENCE, -names.index(name)))


def all_names() -> list[str]:
    """Everything that can be asked for, without the rarer endings."""
    kernels = kernel_names()
    return [*kernels, *(EDGE_FRAME + ending for ending in MEMORY), *(name + SEPARATE for name in kernels)]


def unavailable(name: str, device: str) -> str | None:
    """Why a contender cannot run on a device; None where it can.

    Args:
        name: of a contender.
        device: where it would run.
    """
    try:
        module = import_module(KERNELS[Ours.parse(name).kernel])
    except ImportError as error:
        return f"it cannot be imported: {error}"
    ask = vars(module).get("unavailable")
    reason: str | None = None if ask is None else ask(torch.device(device))
    return reason


def require_usable(names: Sequence[str], device: str) -> None:
    """Refuse contenders that were named and cannot run.

    Raises:
        UnusableError: for the first of them.
        UserError: for an unknown name.
    """
    for name in names:
        if (reason := unavailable(name, device)) is not None:
            raise UnusableError(f"contender {name!r} cannot run here: {reason}")


def default_names(workload: Workload, reference_kept: int = REFERENCE_KEPT) -> tuple[list[str], list[str]]:
    """Contenders of a run without names, and notes on why others are missing.

    Contenders that would hold more than a GiB of radial weights are left out, the reference kernel earlier.

    Args:
        workload: what they work on.
        reference_kept: bytes that the reference kernel may hold.
    """
    kept = workload.kept_bytes()
    chosen, notes = [], []
    for name in [*kernel_names(), *(EDGE_FRAME + ending for ending in MEMORY)]:
        reason = unavailable(name, workload.device)
        most = reference_kept if name == REFERENCE else MOST_KEPT
        if reason is None and Ours.parse(name).keeps_weights and kept > most:
            reason = f"it holds {kept / 2**20:,.0f} MiB of radial weights here; name it to measure it anyway"
        if reason is None:
            chosen.append(name)
        else:
            notes.append(f"{workload.name}: {name} is left out: {reason}.")
    return chosen, notes


def usable_kernels(names: Sequence[str], device: str) -> tuple[list[str], list[str]]:
    """Kernels to measure in a single layer, and notes on why others are missing.

    Args:
        names: what was asked for; empty: all of ours but the reference and ``auto``.
        device: where.

    Raises:
        UserError: for an unknown name, one that has no meaning for a layer, or one that was asked for and cannot run.
    """
    for name in names:
        if name.endswith(SEPARATE):
            raise UserError(f"contender {name!r}: the ending {SEPARATE} is for bench step and bench memory only")
    require_usable(names, device)
    if names:
        return list(dict.fromkeys(names)), []
    wanted = [name for name in kernel_names() if name not in (REFERENCE, AUTO) and not is_foreign(name)]
    reasons = {name: unavailable(name, device) for name in wanted}
    notes = [f"{name} is left out: {reason}." for name, reason in reasons.items() if reason is not None]
    return [name for name, reason in reasons.items() if reason is None], notes


def make(workload: Workload, name: str, *, check: bool = True) -> Contender:
    """A contender.

    Args:
        workload: what it works on.
        name: see :func:`all_names`.
        check: whether it is compared with the reference kernel first.

    Raises:
        DisagreementError: when it computes something else.
        UnusableError: when it cannot run here.
        UserError: for an unknown name.
    """
    require_usable([name], workload.device)
    ours = Ours.parse(name)
    difference = ours.difference(workload).check(name) if check else None
    model, graph = ours.build(workload).to(workload.device), workload.graph()
    return Contender(
        name=name,
        work=Step(model, lambda: mean_square(model(graph))),
        maker=REBUILD,
        arguments={"spec": workload.spec, "name": name},
        difference=difference,
        parameters=sum(value.numel() for value in model.parameters()),
        weights_per_edge=weights_per_edge(model),
        precisions=not is_foreign(ours.kernel),
    )


def rebuild(spec: dict[str, Any], name: str, precision: str = "32") -> Timed:
    """The step of a contender from plain values, without a check: for a process of its own."""
    return make(Workload.of(**spec), name, check=False).in_precision(precision).work


def collect(workload: Workload, names: Sequence[str], failures: list[str]) -> Collected:
    """All contenders of a workload, checked.

    Args:
        workload: what they work on.
        names: see :func:`all_names`; empty: :func:`default_names`.
        failures: receives the errors of kernels that disagree with the reference; they are left out.

    Raises:
        UserError: for an unknown name, or a contender that was named and cannot run.
    """
    chosen, notes = (list(dict.fromkeys(names)), []) if names else default_names(workload)
    return make_all(workload, {name: partial(make, workload, name) for name in chosen}, names, notes, failures)


def make_all(
    workload: Workload,
    makers: Mapping[str, Callable[[], Contender]],
    required: Collection[str],
    notes: list[str],
    failures: list[str],
) -> Collected:
    """Make contenders; those that fail are left out with a note unless they are required.

    Args:
        workload: what they work on.
        makers: by name.
        required: names of contenders whose failure is an error.
        notes: on others that are missing.
        failures: receives the errors of contenders that disagree with the reference.

    Raises:
        UserError: when a required contender fails, or none is left.
    """
    contenders: list[Contender] = []
    for name, maker in makers.items():
        try:
            contenders.append(maker())
        except DisagreementError as error:
            failures.append(f"{workload.name}: {error}")
        except (RuntimeError, UserError) as error:
            is_not_offered = isinstance(error, NotImplementedError)  # another code may know some workloads only
            if name in required and isinstance(error, UserError):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if name in required and not is_not_offered:
                raise UserError(f"contender {name!r} fails on workload {workload.name!r}: {reason}") from error
            notes.append(f"{workload.name}: {name} is left out: {reason}.")
    if not contenders:
        raise UserError(f"workload {workload.name!r}: no contender is left; {' '.join([*notes, *failures])}")
    return contenders, notes
