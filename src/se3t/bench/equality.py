"""Nothing is timed that does not compute what the reference kernel computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor, nn

from se3t.bench.workloads import Workload, mean_square
from se3t.fiber import Features
from se3t.graph import Graph

TOLERANCE = 1e-11
"""Largest relative difference of an output from the reference kernel's, both in float64."""
GRADIENT_TOLERANCE = 1e-8
SINGLE_TOLERANCE, SINGLE_GRADIENT_TOLERANCE = 1e-4, 1e-2
"""The same in float32 against the reference in float64; a ReLU that rounding switches moves gradients further."""
_MOST_GRAPHS, _MOST_POINTS = 2, 18

Build = Callable[[], nn.Module]
MakeGraph = Callable[[torch.dtype], Graph]
Evaluated = tuple[Features, dict[str, Tensor]]


class DisagreementError(ValueError):
    """A contender computes something else than the reference kernel."""


@dataclass(frozen=True)
class Difference:
    """Relative differences from the reference kernel in float64.

    Attributes:
        value: of the output, float64: the largest one over the largest value.
        gradient: of all gradients of parameters, float64: norm of the difference over the norm.
        single: of the output, float32.
        single_gradient: of all gradients, float32.
    """

    value: float
    gradient: float
    single: float
    single_gradient: float

    @classmethod
    def largest(cls, differences: Sequence[Difference]) -> Difference:
        """The largest of each."""
        return cls(*(max(values) for values in zip(*map(astuple, differences), strict=True)))

    def check(self, name: str) -> Difference:
        """Return the difference itself.

        Raises:
            DisagreementError: when it is above the tolerance, or not a number.
        """
        for word, value, limit in (
            ("output in float64", self.value, TOLERANCE),
            ("gradient in float64", self.gradient, GRADIENT_TOLERANCE),
            ("output in float32", self.single, SINGLE_TOLERANCE),
            ("gradient in float32", self.single_gradient, SINGLE_GRADIENT_TOLERANCE),
        ):
            if not value <= limit:
                raise DisagreementError(
                    f"{name}: its {word} differs from the reference kernel's by {value:.1e} relative, above "
                    f"{limit:.0e}; it is not timed"
                )
        return self


def reduced(workload: Workload) -> Workload:
    """A size at which the reference kernel is quick."""
    return workload.resized(min(_MOST_GRAPHS, workload.num_graphs), min(_MOST_POINTS, workload.num_points))


@dataclass(frozen=True)
class Reference:
    """What the model with the reference kernel computes in float64, once for all that are compared with it.

    Attributes:
        weights: parameters and buffers of the model.
        expected: output by degree, and gradients of the parameters by name.
    """

    weights: dict[str, Tensor]
    expected: Evaluated

    @classmethod
    def of(cls, graph: MakeGraph, build: Build) -> Reference:
        """Evaluate it.

        Args:
            graph: makes the batch, a small one, in a dtype; the model runs on its device.
            build: makes the model with the reference kernel.
        """
        batch = graph(torch.float64)
        model = build().double().to(batch.device)
        return cls(model.state_dict(), _evaluate(model, batch))

    def difference(self, graph: MakeGraph, build: Build) -> Difference:
        """Compare a model with the same weights.

        Args:
            graph: makes the same batch.
            build: makes the contender, whose parameters are named as those of the reference.
        """
        compared = []
        for dtype in (torch.float64, torch.float32):
            batch = graph(dtype)
            model = build().to(batch.device).to(dtype)
            model.load_state_dict(self.weights)
            compared.append(_compare(_evaluate(model, batch), self.expected))
        return Difference(*compared[0], *compared[1])


def _evaluate(model: nn.Module, graph: Graph) -> Evaluated:
    output: Features = model(graph)
    mean_square(output).backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {degree: value.detach().double() for degree, value in output.items()}, gradients


def _compare(actual: Evaluated, expected: Evaluated) -> tuple[float, float]:
    largest = max(float(value.abs().max()) for value in expected[0].values())
    gap = max(float((actual[0][degree] - value).abs().max()) for degree, value in expected[0].items())
    squares = [float((actual[1][name].double() - value).square().sum()) for name, value in expected[1].items()]
    norm = sum(float(value.square().sum()) for value in expected[1].values())
    return gap / largest, (sum(squares) / norm) ** 0.5
