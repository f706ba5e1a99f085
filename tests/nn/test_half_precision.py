"""Autocast to half precision: nothing overflows, results stay near float32; models in half precision are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from se3t.config import SE3TransformerModel, TFNModel
from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.models.se3_transformer import SE3Transformer
from se3t.models.tfn import TFN
from se3t.nn import AttentiveSelfInteraction, EquivariantLinear, NormNonlinearity
from se3t.nn.pool import pool
from se3t.nn.readout import Readout

from .clouds import features_of, make_graph

FIBER = Fiber("4x0+3x1+2x2")
HALF = [torch.float16, torch.bfloat16]
SIZES = [300.0, 3e4]
HIDDEN = Fiber.uniform(num_degrees=3, channels=4)
LAYERS: dict[str, Callable[[], nn.Module]] = {
    **{f"norm {kind}": lambda kind=kind: NormNonlinearity(FIBER, kind) for kind in ("layer", "bias", "tfn")},
    "norm network": lambda: NormNonlinearity(FIBER, "layer", num_layers=2),
    "linear": lambda: EquivariantLinear(FIBER, FIBER, bias=True),
    "attentive": lambda: AttentiveSelfInteraction(FIBER, FIBER),
    "attentive softmax": lambda: AttentiveSelfInteraction(FIBER, FIBER, softmax=True),
}
MODELS: dict[str, Callable[[str], nn.Module]] = {
    "se3_transformer": lambda kernel: SE3Transformer(
        FIBER,
        Fiber("2x0"),
        SE3TransformerModel(num_layers=2, num_heads=1, channels_div=1, kernel=kernel),
        fiber_hidden=HIDDEN,
        num_edge_scalars=2,
    ),
    "tfn": lambda kernel: TFN(
        FIBER, Fiber("2x0"), TFNModel(num_layers=2, kernel=kernel), fiber_hidden=HIDDEN, num_edge_scalars=2
    ),
}


def with_gradients(
    function: Callable[[Features], Features], features: Features, size: float, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Results, relative to the size of the features, and gradients of their sum; under autocast to ``dtype``."""
    leaves = {degree: value.clone().requires_grad_() for degree, value in features.items()}
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        out = function({degree: size * value for degree, value in leaves.items()})
    total = torch.stack([value.float().sum() / size for value in out.values()]).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return [*(value.detach().float() / size for value in out.values()), *found]


def assert_near(rough: list[Tensor], exact: list[Tensor], share: float) -> None:
    for one, other in zip(rough, exact, strict=True):
        assert one.isfinite().all()
        assert (one - other).norm() <= share * (other.norm() + 1e-3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("layer", LAYERS)
def test_large_features_pass_a_layer_under_autocast(layer: str, dtype: torch.dtype, size: float) -> None:
    torch.manual_seed(0)
    module = LAYERS[layer]()
    features = {degree: value.float().clamp(-1.5, 1.5) for degree, value in features_of(FIBER, 5).items()}
    exact = with_gradients(module, features, size)
    rough = with_gradients(module, features, size, dtype)
    with torch.autocast("cpu", dtype):
        lower = module({degree: (size * value).to(dtype) for degree, value in features.items()})
    assert_near(rough, exact, 1e-5 if dtype == torch.float16 else 0.1)
    assert all(value.isfinite().all() for value in lower.values())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kernel", ["reference", "vectorised", "edge_frame", "native"])
@pytest.mark.parametrize("model", MODELS)
def test_large_features_pass_a_model_under_autocast(model: str, kernel: str, dtype: torch.dtype, size: float) -> None:
    torch.manual_seed(0)
    module, graph = MODELS[model](kernel), make_graph(FIBER, symmetric=True).to(torch.float32)

    def function(features: Features) -> Features:
        out: Features = module(replace(graph, features=features))
        return out

    exact = with_gradients(function, graph.features, size)
    rough = with_gradients(function, graph.features, size, dtype)
    assert_near(rough, exact, 1e-4 if dtype == torch.float16 else 0.3)


def test_sums_over_a_cloud_and_the_head_keep_their_range_and_digits() -> None:
    ones = torch.full((3000, 2, 1), 30.0)
    batch = torch.zeros(3000, dtype=torch.int64)
    for dtype in HALF:
        assert pool({0: ones.to(dtype)}, batch, 1, "sum")[0].tolist() == [[[90000.0], [90000.0]]]
    head = Readout(Fiber("2x0"), Fiber("1x0"), pooling="sum", head=True)
    with torch.autocast("cpu", torch.float16):
        assert head({0: ones.half()}, batch, 1)[0].isfinite().all()


@pytest.mark.parametrize("dtype", HALF)
def test_models_and_layers_in_half_precision_are_refused_in_one_sentence(dtype: torch.dtype) -> None:
    graph = make_graph(FIBER, symmetric=True).to(torch.float32)
    for make in MODELS.values():
        with pytest.raises(UserError, match=r"its parameters are b?float16, .* under torch\.autocast\('cpu', torch\."):
            make("auto").to(dtype)(graph)
        with pytest.raises(UserError, match=r"positions are b?float16, .* under torch\.autocast"):
            make("auto").to(dtype)(graph.to(dtype))
    for layer in LAYERS.values():
        with pytest.raises(UserError, match=r"its parameters are b?float16"):
            layer().to(dtype)({degree: value.to(dtype) for degree, value in graph.features.items()})
