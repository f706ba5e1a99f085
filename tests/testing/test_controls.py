"""Every negative control fails the helper for what it breaks, and for nothing else."""

from __future__ import annotations

import pytest
import torch

from se3t.fiber import Fiber
from se3t.testing import CONTROLS, TRANSFORMS, Control, assert_equivariant, equivariance_error

from .toys import Moments, random_graph

FIBER_IN, FIBER_OUT = Fiber("2x0+1x1"), Fiber("1x0+2x1+1x2")


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("control", CONTROLS)
def test_control_fails_the_helper_for_what_it_breaks_and_passes_otherwise(
    control: type[Control], transform: str
) -> None:
    model, graph = control(Moments(FIBER_IN, FIBER_OUT).double()), random_graph(FIBER_IN, 6, 5)
    if transform in control.breaks:
        assert max(equivariance_error(model, graph, transform=transform).values()) > 1e-2
        with pytest.raises(AssertionError, match=rf"{transform} .*!"):
            assert_equivariant(model, graph, transforms=[transform])
    else:
        assert_equivariant(model, graph, transforms=[transform])


def test_controls_break_every_transform_between_them() -> None:
    assert frozenset().union(*(control.breaks for control in CONTROLS)) == set(TRANSFORMS)


def test_controls_keep_parameters_of_the_model_they_spoil() -> None:
    for control in CONTROLS:
        model = Moments(FIBER_IN, FIBER_OUT)
        assert set(map(id, control(model).parameters())) == set(map(id, model.parameters()))


def test_the_fixed_vector_is_added_to_degree_one_alone() -> None:
    model, graph = Moments(FIBER_IN, FIBER_OUT).double(), random_graph(FIBER_IN, 4)
    clean, spoilt = model(graph), CONTROLS[0](model)(graph)
    assert torch.equal(spoilt[0], clean[0])
    assert torch.equal(spoilt[2], clean[2])
    torch.testing.assert_close((spoilt[1] - clean[1])[2, 1], torch.tensor([0.3, -0.5, 0.7], dtype=torch.float64))
