from __future__ import annotations

import pytest
from torch import nn

from se3t.config import TFNModel
from se3t.fiber import Fiber
from se3t.models import build_model
from se3t.models.tfn import TFN
from se3t.testing import ModelContract


class TestTFN(ModelContract):
    """As Table 1 uses it, in small."""

    fiber_in, fiber_out, num_edge_scalars = Fiber("1x0+2x1"), Fiber("2x1"), 1

    def make_model(self) -> TFN:
        return TFN(self.fiber_in, self.fiber_out, TFNModel(num_layers=3, channels=3), num_edge_scalars=1)


class TestTFNOwnNonlinearity(ModelContract):
    """Unequal channels, TFN's own nonlinearity, mean aggregation, edge features, vectorised kernel."""

    fiber_in, fiber_out, fiber_edge = Fiber("2x0+1x2"), Fiber("1x0+1x3"), Fiber("1x1")

    def make_model(self) -> TFN:
        return TFN(
            self.fiber_in,
            self.fiber_out,
            TFNModel(num_layers=2, norm="tfn", reduce="mean", kernel="vectorised"),
            fiber_hidden=Fiber("4x0+2x1+3x2"),
            fiber_edge=self.fiber_edge,
        )


class TestTFNRadialBasis(ModelContract):
    """Gates, Gaussians of the distance beside an edge scalar, some edges beyond their cutoff."""

    fiber_in, fiber_out, num_edge_scalars = Fiber("1x0+2x1"), Fiber("2x0+2x1"), 1

    def make_model(self) -> TFN:
        basis = {"radial_basis": "gaussian", "radial_functions": 4, "radial_cutoff": 2.0}
        settings = TFNModel(num_layers=2, channels=3, norm="gate", **basis)
        return TFN(self.fiber_in, self.fiber_out, settings, num_edge_scalars=1)


class TestTFNPooled(ModelContract):
    """Unequal channels, LayerNorm, relative positions as edge features, maximum over the cloud, linear layers."""

    fiber_in, fiber_out, num_edge_scalars = Fiber("3x0"), Fiber("2x0"), 1
    holds, breaks = ModelContract.SE3, frozenset({"reflection"})

    def make_model(self) -> TFN:
        return TFN(
            self.fiber_in,
            self.fiber_out,
            TFNModel(num_layers=2, norm="layer", share_radial="full", pool_channels=5),
            fiber_hidden=Fiber("4x0+3x1+2x2"),
            num_edge_scalars=1,
            relative_position="to_target",
            pooled=True,
        )


class TestTFNParity(ModelContract):
    """Paths of natural parity alone: reflection is a symmetry, too."""

    fiber_in, fiber_out, fiber_edge, num_edge_scalars = Fiber("1x0+2x1"), Fiber("1x0+2x1"), Fiber("1x1"), 1
    holds, breaks = ModelContract.SE3 | {"reflection"}, frozenset()

    def make_model(self) -> nn.Module:
        config = TFNModel(num_layers=3, channels=3, parity=True)
        fibers = {"fiber_in": self.fiber_in, "fiber_out": self.fiber_out, "fiber_edge": self.fiber_edge}
        return build_model(config, **fibers, num_edge_scalars=1)


def test_configuration_decides_the_sizes() -> None:
    config = TFNModel(num_layers=3, num_degrees=2, channels=6, norm="layer")
    model = build_model(config, fiber_in=Fiber("1x0+2x1"), fiber_out=Fiber("2x1"), num_edge_scalars=1, horizon=1.0)
    assert isinstance(model, TFN)
    assert model.fiber_hidden == Fiber("6x0+6x1")
    assert [conv.fiber_out for conv in model.layers] == [model.fiber_hidden, model.fiber_hidden, Fiber("2x1")]
    assert {norm.kind for norm in model.norms} == {"layer"}


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="num_layers=0 is out of range: it must be 1 or more"):
        TFN(Fiber("1x0"), Fiber("1x0"), TFNModel(num_layers=0))
