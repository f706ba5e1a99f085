from __future__ import annotations

import pytest
import torch

from se3t.config import LinearModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models import build_model
from se3t.models.linear import Linear
from se3t.testing import ModelContract

from .clouds import FIBER_IN, FIBER_OUT, clouds


class TestLinear(ModelContract):
    fiber_in, fiber_out, num_edge_scalars = FIBER_IN, FIBER_OUT, 1
    holds, breaks = ModelContract.SE3 | {"reflection"}, frozenset()

    def make_model(self) -> Linear:
        return Linear(FIBER_IN, FIBER_OUT, horizon=0.7)


def test_linear_is_constant_velocity():
    graph = clouds(5, 5)
    change = Linear(FIBER_IN, FIBER_OUT, horizon=0.7)(graph)[1]
    torch.testing.assert_close(change[:, 0], 0.7 * graph.features[1][:, 1])
    assert not change[:, 1].any()


def test_linear_is_exact_for_free_motion():
    graph = clouds(4)
    start, velocity = graph.features[1].unbind(1)
    end = start + 1.5 * velocity
    change = Linear(FIBER_IN, FIBER_OUT, horizon=1.5)(graph)[1]
    torch.testing.assert_close(start + change[:, 0], end)


def test_linear_has_no_parameters_and_says_its_horizon():
    model = Linear(FIBER_IN, FIBER_OUT, horizon=0.5)
    assert list(model.parameters()) == []
    assert "1x0+2x1 -> 2x1, horizon=0.5" in repr(model)


def test_linear_refuses_fibers_without_position_and_velocity():
    with pytest.raises(ValueError, match="got 1x0"):
        Linear(Fiber("1x0+1x1"), FIBER_OUT, horizon=1.0)
    with pytest.raises(ValueError, match="expected fiber_out 2x1, got 1x1"):
        Linear(FIBER_IN, Fiber("1x1"), horizon=1.0)
    with pytest.raises(ValueError, match="expected fiber 1x0"):
        Linear(FIBER_IN, FIBER_OUT, horizon=1.0)(clouds(3, fiber=Fiber("2x1")))


def test_linear_has_no_value_for_a_whole_cloud():
    config = LinearModel()
    model = build_model(config, fiber_in=FIBER_IN, fiber_out=FIBER_OUT, num_edge_scalars=1, horizon=0.7)
    assert isinstance(model, Linear)
    assert model.horizon == 0.7
    with pytest.raises(UserError, match=r"gives one prediction for each point, .* one for each cloud: choose another"):
        build_model(config, fiber_in=FIBER_IN, fiber_out=FIBER_OUT, num_edge_scalars=1, pooled=True)
