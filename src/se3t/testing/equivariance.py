"""How far a model is from commuting with rotations, translations, permutations and the reflection.

The measure is Δ_EQ of the paper (Equation 14). For a transform s, an input f (a graph) and a model Φ

    Δ_EQ = ‖L_s Φ(f) − Φ(L_s f)‖₂ / ‖L_s Φ(f)‖₂,

not squared; here for each graph of a batch and each degree apart, averaged over the graphs and over random s.
How s acts:

============  ===================================================  ====================================
transform     on the input, L_s f                                   on the output
============  ===================================================  ====================================
rotation      x → R x, type-l features by D^l(R), R Haar on SO(3)   D^l(R)
translation   x → x + t, features unchanged                         unchanged: outputs are relative
permutation   nodes of each cloud renumbered, edges with them       the same renumbering of the nodes
reflection    x → −x, type-l features by (−1)^l                     (−1)^l
============  ===================================================  ====================================

Parity: the reflection is the inversion −1 of O(3), and every type-l feature counts as *polar*, with parity (−1)^l, as
positions, velocities and spherical harmonics have. Fields of this library carry no parity label, and the kernels of the
paper contain *odd paths* (l + k + J odd, such as the cross product 1 ⊗ 1 → 1) that turn polar features into axial ones.
So a generic SE(3)-equivariant model is **not** equivariant to reflection, although rotation holds to rounding: a large
reflection error of such a model is right, and says that it can tell a molecule from its mirror image.

No test framework is needed here; :mod:`se3t.testing.contract` holds the ready-made tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from se3t.fiber import Features, rotate_features
from se3t.graph import Graph
from se3t.so3 import random_rotation

Model: TypeAlias = Callable[[Graph], Features]
"""What is tested: an ``nn.Module`` or a function; output rows are nodes, or clouds for a pooled output."""

TRANSFORMS = ("rotation", "translation", "permutation", "reflection")

_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}

_Action: TypeAlias = Callable[[Features], Features]


def equivariance_error(
    model: Model,
    graph: Graph,
    num_samples: int = 4,
    generator: torch.Generator | None = None,
    transform: str = "rotation",
) -> dict[int, float]:
    """Δ_EQ (Equation 14) of every degree of the output: mean over graphs and random transforms.

    The model is called as it is (put it in ``eval()`` yourself) and without gradients; transforms act in float64 and
    round once. A graph whose output vanishes counts 0 where Φ(L_s f) vanishes too, and infinity where it does not.

    Args:
        model: maps a graph to features ``[node or graph, channels, 2l+1]`` by degree.
        graph: one or several clouds, in the dtype of the model.
        num_samples: random transforms, at least 1; the reflection is a single one.
        generator: source of the random transforms; default: torch's global generator.
        transform: ``rotation``, ``translation``, ``permutation`` or ``reflection``; see the module's table.

    Returns:
        relative error by degree, ascending; NaN where an output is NaN.

    Raises:
        ValueError: for an unknown transform, ``num_samples`` < 1, or an output that has neither a row for each node nor
            one for each graph.

    Source: Equation 14 of the paper, for each degree apart, because a small type can hide behind a large one.
    """
    totals = {
        degree: (difference.sum(dim=-1), reference.sum(dim=-1))
        for degree, (difference, reference) in _squares(model, graph, num_samples, generator, transform).items()
    }
    return {degree: float(_ratio(*total).mean()) for degree, total in totals.items()}


def equivariance_error_per_channel(
    model: Model,
    graph: Graph,
    num_samples: int = 4,
    generator: torch.Generator | None = None,
    transform: str = "rotation",
) -> dict[int, Tensor]:
    """As :func:`equivariance_error`, with every channel measured against its own size.

    Returns:
        ``[channels]`` float64 by degree: for the N-body task degree 1 holds position and velocity.
    """
    squares = _squares(model, graph, num_samples, generator, transform)
    return {degree: _ratio(*square).mean(dim=(0, 1)) for degree, square in squares.items()}


def assert_equivariant(
    model: Model,
    graph: Graph,
    tolerance: float | None = None,
    transforms: Iterable[str] = ("rotation", "translation", "permutation"),
    num_samples: int = 4,
    generator: torch.Generator | None = None,
) -> dict[str, dict[int, float]]:
    """Fail unless every degree's error is within ``tolerance`` for every transform.

    Args:
        model: as for :func:`equivariance_error`.
        graph: one or several clouds, in the dtype of the model.
        tolerance: largest relative error; default by dtype: 1e-12 in float64, 1e-5 in float32.
        transforms: those that the model claims; the reflection is not among the default ones (see the module).
        num_samples: random transforms of each kind.
        generator: source of the random transforms.

    Returns:
        the measured errors by transform and degree.

    Raises:
        AssertionError: with the number of every degree and transform, the failing ones marked.
    """
    tolerance = _TOLERANCE[graph.positions.dtype] if tolerance is None else tolerance
    errors = {name: equivariance_error(model, graph, num_samples, generator, name) for name in transforms}
    # NaN is a failure too, so ask for "within" and not for "above".
    if not all(value <= tolerance for by_degree in errors.values() for value in by_degree.values()):
        raise AssertionError(_report(errors, tolerance))
    return errors


def _report(errors: dict[str, dict[int, float]], tolerance: float) -> str:
    lines = [f"not equivariant: relative error (Eq. 14) above {tolerance:.1e} where marked !"]
    for name, by_degree in errors.items():
        cells = (f"degree {d}: {value:.2e}{' ' if value <= tolerance else '!'}" for d, value in by_degree.items())
        lines.append(f"  {name:<12} {'  '.join(cells)}")
    return "\n".join(lines)


def _squares(
    model: Model, graph: Graph, num_samples: int, generator: torch.Generator | None, transform: str
) -> dict[int, tuple[Tensor, Tensor]]:
    """‖L_s Φ(f) − Φ(L_s f)‖² and ‖L_s Φ(f)‖² by degree, both ``[sample, graph, channel]``."""
    if transform not in TRANSFORMS:
        raise ValueError(f"transform: expected one of {', '.join(TRANSFORMS)}, got {transform!r}")
    if num_samples < 1:
        raise ValueError(f"num_samples: expected at least 1, got {num_samples}")
    samples: dict[int, list[tuple[Tensor, Tensor]]] = {}
    with torch.no_grad():
        output = model(graph)
        for moved, act in _transforms(transform, graph, num_samples, generator):
            expected, received = act(output), model(moved)
            for degree in sorted(output):
                difference = expected[degree].double() - received[degree].double()
                pair = (_per_graph(difference, graph), _per_graph(expected[degree].double(), graph))
                samples.setdefault(degree, []).append(pair)
    return {
        degree: (torch.stack([first for first, _ in pairs]), torch.stack([second for _, second in pairs]))
        for degree, pairs in samples.items()
    }


def _transforms(
    name: str, graph: Graph, num_samples: int, generator: torch.Generator | None
) -> Iterator[tuple[Graph, _Action]]:
    """Pairs of the transformed input and the action on the output."""
    if name == "reflection":
        yield _reflect(graph), _reflect_features
        return
    for _ in range(num_samples):
        if name == "rotation":
            rotation = random_rotation(generator=generator, dtype=torch.float64, device=graph.positions.device)
            yield graph.rotate(rotation), partial(rotate_features, rotation=rotation)
        elif name == "translation":
            yield graph.translate(_random_shift(graph, generator)), dict
        else:
            order = _random_order(graph, generator)
            yield graph.permute(order), partial(_reorder, order=order)


def _reflect(graph: Graph) -> Graph:
    features, edge_features = _reflect_features(graph.features), _reflect_features(graph.edge_features)
    return replace(graph, positions=-graph.positions, features=features, edge_features=edge_features)


def _reflect_features(features: Features) -> Features:
    return {degree: -value if degree % 2 else value for degree, value in features.items()}


def _random_shift(graph: Graph, generator: torch.Generator | None) -> Tensor:
    """A Gaussian vector as large as the clouds themselves, or of length about 1 when they are points."""
    size = graph.positions.std() if graph.num_nodes > 1 else graph.positions.new_zeros(())
    return _random(3, generator, graph.positions) * torch.where(size > 0, size, torch.ones_like(size))


def _random_order(graph: Graph, generator: torch.Generator | None) -> Tensor:
    """A uniform permutation within every cloud."""
    shuffled = _random(graph.num_nodes, generator, graph.positions).double().argsort()
    return shuffled[torch.argsort(graph.batch[shuffled], stable=True)]


def _random(size: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.randn(size, generator=generator, dtype=torch.float64, device=device).to(like)


def _reorder(output: Features, order: Tensor) -> Features:
    # A pooled output, a row for each graph, stays. (With as many graphs as nodes the order is the identity.)
    return {degree: value[order] if len(value) == len(order) else value for degree, value in output.items()}


def _per_graph(value: Tensor, graph: Graph) -> Tensor:
    """Sum of squares over the components, and over the nodes of each graph: ``[graph, channel]``."""
    squares = value.square().sum(dim=-1)
    if len(value) == graph.num_nodes:
        return squares.new_zeros(graph.num_graphs, squares.shape[1]).index_add(0, graph.batch, squares)
    if len(value) == graph.num_graphs:
        return squares
    raise ValueError(
        f"model output: expected {graph.num_nodes} rows (nodes) or {graph.num_graphs} rows (graphs), got {len(value)}"
    )


def _ratio(difference: Tensor, reference: Tensor) -> Tensor:
    ratio = (difference / reference).sqrt()
    return torch.where((difference == 0) & (reference == 0), torch.zeros_like(ratio), ratio)
