from __future__ import annotations

import math

import pytest
import torch

from se3t.geometry import EdgeGeometry
from se3t.nn import RadialBasis

from .clouds import COINCIDENT, make_graph

BASES = [RadialBasis("gaussian", 5, 2.0), RadialBasis("bessel", 5, 2.0)]


def test_functions_are_those_of_their_formulas() -> None:
    gaussian, bessel = (basis.functions(torch.tensor([0.7], dtype=torch.float64))[0] for basis in BASES)
    x = 0.7 / 2
    envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    for n in range(5):
        assert float(gaussian[n]) == pytest.approx(envelope * math.exp(-((0.7 - 0.5 * n) ** 2) / (2 * 0.5**2)))
        sine = math.sin((n + 1) * math.pi * 0.7 / 2)
        assert float(bessel[n]) == pytest.approx(envelope * math.sqrt(2 / 2) * sine / 0.7)


@pytest.mark.parametrize("basis", BASES, ids=repr)
def test_functions_end_smoothly_at_the_cutoff_and_stay_zero(basis: RadialBasis) -> None:
    near, far = torch.tensor([1.99, 2.01], dtype=torch.float64), torch.tensor([2.0, 7.0], dtype=torch.float64)
    assert (basis.functions(near)[0].abs() < 1e-3).all()
    assert (basis.functions(near)[0] != 0).any()
    assert (basis.functions(near)[1] == 0).all()
    torch.testing.assert_close(basis.functions(far), torch.zeros(2, 5, dtype=torch.float64))
    slopes = torch.func.jacrev(basis.functions)(torch.tensor([1.999], dtype=torch.float64))
    assert (slopes.abs() < 1e-3).all()


@pytest.mark.parametrize("basis", BASES, ids=repr)
def test_derivatives_of_the_functions_are_exact_and_finite_at_zero(basis: RadialBasis) -> None:
    length = torch.tensor([0.3, 1.1, 1.9, 2.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(basis.functions, length)
    assert torch.autograd.gradgradcheck(basis.functions, length)
    positions = COINCIDENT.clone().requires_grad_()
    graph = make_graph(positions=positions, scalars=0)
    scalars = basis.of(EdgeGeometry.of(graph, pair=True)).invariants
    (first,) = torch.autograd.grad(scalars.square().sum(), positions, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), positions)
    assert first.isfinite().all()
    assert second.isfinite().all()


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("scalars", [0, 2])
def test_functions_stand_between_the_scalars_and_the_length_of_their_edge(scalars: int, pair: bool) -> None:
    basis = BASES[1]
    geometry = EdgeGeometry.of(make_graph(scalars=scalars, symmetric=True), pair=pair)
    invariants = basis.of(geometry).invariants
    assert geometry.repeat == (2 if pair else 1)
    torch.testing.assert_close(invariants[:, -1], geometry.length[:: geometry.repeat])
    torch.testing.assert_close(invariants[:, scalars:-1], basis.functions(invariants[:, -1]))
    torch.testing.assert_close(invariants[:, :scalars], geometry.invariants[:, :-1])
    assert RadialBasis().of(geometry) is geometry


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "sine"}, "radial_basis='sine': expected one of distance, gaussian, bessel"),
        ({"num_functions": 1}, "radial_functions=1, radial_cutoff=5.0: expected 2 or more, above 0"),
        ({"cutoff": 0.0}, "radial_functions=16, radial_cutoff=0.0: expected 2 or more, above 0"),
    ],
)
def test_a_basis_that_cannot_be_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RadialBasis(**settings)  # type: ignore[arg-type]
