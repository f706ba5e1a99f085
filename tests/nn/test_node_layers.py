"""Layers that act on each node alone: linear, attentive self-interaction, norm nonlinearity; and pooling."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from se3t.fiber import Features, Fiber, rotate_features
from se3t.nn import AttentiveSelfInteraction, EquivariantLinear, GateNonlinearity, NormNonlinearity, pool
from se3t.nn import linear as linear_module
from se3t.nn import norm as norm_module
from se3t.nn.norm import KINDS
from se3t.nn.pool import Pooling
from se3t.nn.readout import Readout
from se3t.so3 import random_rotation, safe_norm, safe_normalize

from .clouds import FIBER, features_of

WIDE = Fiber("3x0+2x1+4x2+2x3")  # LayerNorm needs two channels
torch.manual_seed(0)  # what was imported before must not change the weights
LAYERS = [
    EquivariantLinear(FIBER, Fiber("2x0+5x2"), bias=True),
    AttentiveSelfInteraction(FIBER, Fiber("2x0+5x1+1x3")),
    AttentiveSelfInteraction(FIBER, FIBER, softmax=True),
    *[NormNonlinearity(FIBER, kind) for kind in KINDS if kind != "layer"],
    NormNonlinearity(WIDE, "layer"),
    NormNonlinearity(WIDE, "layer", num_layers=2, min_norm=1e-12),
    NormNonlinearity(FIBER, "bias", min_norm=2.0**-24),
    NormNonlinearity(FIBER, "tfn", functional.softplus),
    GateNonlinearity(FIBER),
    GateNonlinearity(Fiber("3x0")),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_node_layer_commutes_with_rotations(layer: nn.Module, generator: torch.Generator) -> None:
    layer = copy.deepcopy(layer).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    features = features_of(layer.fiber_in, 6)
    rotation = random_rotation(generator=generator, dtype=torch.float64)
    expected = rotate_features(layer(features), rotation)
    received = layer(rotate_features(features, rotation))
    for degree in expected:
        torch.testing.assert_close(received[degree], expected[degree], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_node_layer_has_finite_gradients_at_zero_and_refuses_other_fibers(layer: nn.Module) -> None:
    layer = layer.double()
    zero = {
        degree: torch.zeros_like(value).requires_grad_() for degree, value in features_of(layer.fiber_in, 2).items()
    }
    out: Features = layer(zero)
    grads = torch.autograd.grad(sum(value.sum() for value in out.values()), list(zero.values()), allow_unused=True)
    assert all(grad is None or grad.isfinite().all() for grad in grads)
    assert all((value == 0).all() for degree, value in out.items() if degree > 0)
    with pytest.raises(ValueError, match="expected fiber"):
        layer(features_of(Fiber("1x0"), 2))


@pytest.mark.parametrize("build", [EquivariantLinear, AttentiveSelfInteraction])
def test_output_degree_that_the_input_lacks_is_refused(build: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"1x0 -> 1x0\+1x2\): the input has no degree 2"):
        build(Fiber("1x0"), Fiber("1x0+1x2"))


def test_linear_mixes_channels_and_never_components() -> None:
    layer = EquivariantLinear(Fiber("2x1"), Fiber("1x1"))
    features = torch.tensor([[[1.0, 2, 3], [10, 20, 30]]])
    weight = layer.weight["1"]
    expected = weight[0, 0] * features[:, 0] + weight[0, 1] * features[:, 1]
    torch.testing.assert_close(layer({1: features})[1][:, 0], expected)


def test_linear_bias_belongs_to_degree_zero_alone() -> None:
    layer = EquivariantLinear(FIBER, FIBER, bias=True)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, 7.0)
    zero = {degree: torch.zeros(1, count, 2 * degree + 1) for degree, count in FIBER.items()}
    out = layer(zero)
    assert (out[0] == 7).all()
    assert all((out[degree] == 0).all() for degree in (1, 2, 3))
    assert EquivariantLinear(Fiber("1x1"), Fiber("1x1"), bias=True).bias is None


def test_attentive_weights_depend_on_the_gram_matrix_alone() -> None:
    layer = AttentiveSelfInteraction(Fiber("3x1"), Fiber("2x1")).double()
    value = features_of(Fiber("3x1"), 1)[1]
    layer_norm, activation, linear = layer.mlp["1"]  # type: ignore[misc]
    gram = torch.einsum("nci,ndi->ncd", value, value)
    weights = linear(activation(layer_norm(gram.flatten(1)))).view(2, 3)
    torch.testing.assert_close(layer({1: value})[1][0], weights @ value[0])


def test_attentive_softmax_is_a_convex_combination_of_the_channels() -> None:
    layer = AttentiveSelfInteraction(Fiber("3x0"), Fiber("4x0"), softmax=True).double()
    constant = torch.full((2, 3, 1), 5.0, dtype=torch.float64)
    torch.testing.assert_close(layer({0: constant})[0], torch.full((2, 4, 1), 5.0, dtype=torch.float64))


def test_gates_of_scalar_zero_let_features_pass_unchanged() -> None:
    layer, features = GateNonlinearity(Fiber("2x0+1x1")).double(), features_of(Fiber("2x0+1x1"), 4)
    assert layer.gates is not None
    nn.init.zeros_(layer.gates.bias)
    features[0][:3] = 0
    out = layer(features)[1]
    torch.testing.assert_close(out[:3], features[1][:3])
    assert (out[3] - features[1][3]).abs().max() > 1e-3


def test_gates_without_scalars_are_refused() -> None:
    with pytest.raises(ValueError, match="norm='gate': scalars are the gates, and 2x1 has none; use another norm"):
        GateNonlinearity(Fiber("2x1"))


def test_norm_nonlinearities_equal_their_formulas() -> None:
    value = features_of(Fiber("3x2"), 4)[2]
    norm = value.norm(dim=-1)
    bias = torch.tensor([0.5, -0.5, -9.0], dtype=torch.float64)
    layers = {kind: NormNonlinearity(Fiber("3x2"), kind).double() for kind in KINDS}
    for kind in ("bias", "tfn"):
        layers[kind].bias["2"].data.copy_(bias)
    unit = value / norm[..., None]
    expected = {
        "layer": functional.relu(functional.layer_norm(norm, (3,)))[..., None] * unit,
        "bias": functional.relu(norm + bias)[..., None] * unit,
        "tfn": functional.relu(norm + bias)[..., None] * value,
        "none": value,
    }
    for kind, layer in layers.items():
        torch.testing.assert_close(layer({2: value})[2], expected[kind])
    assert (expected["bias"][:, 2] == 0).all()


def test_tfn_nonlinearity_keeps_the_sign_of_scalars() -> None:
    layer = NormNonlinearity(Fiber("1x0"), "tfn", torch.tanh)
    value = torch.tensor([[[-2.0]], [[2.0]]])
    torch.testing.assert_close(layer({0: value})[0], torch.tanh(value))


@pytest.mark.parametrize("num_layers", [1, 2])
def test_norms_may_pass_linear_layers(num_layers: int) -> None:
    layer = NormNonlinearity(Fiber("3x2"), "layer", num_layers=num_layers).double()
    value = features_of(Fiber("3x2"), 4)[2]
    changed = norm = value.norm(dim=-1)
    linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    assert [linear.bias is not None for linear in linears] == [number == num_layers - 1 for number in range(num_layers)]
    for linear in linears:
        changed = linear(functional.relu(functional.layer_norm(changed, (3,))))
    torch.testing.assert_close(layer({2: value})[2], value / norm[..., None] * changed[..., None])
    assert (changed < 0).any()  # no ReLU at the end: a feature may be turned round


def test_linear_layers_go_with_layer_norm_alone() -> None:
    for kind in ("bias", "tfn", "none", "layer_inverted"):
        with pytest.raises(ValueError, match=f"norm='{kind}': num_layers=1 goes with norm='layer' only"):
            NormNonlinearity(FIBER, kind, num_layers=1)


@pytest.mark.parametrize("kind", ["bias", "layer"])
def test_short_features_are_scaled_down_by_min_norm(kind: str) -> None:
    layer = NormNonlinearity(Fiber("2x1"), kind, min_norm=1e-2).double()
    plain = NormNonlinearity(Fiber("2x1"), kind).double()
    for each in (layer, plain):
        nn.init.constant_(each.bias["1"] if kind == "bias" else each.norm["1"].bias, 2.0)
    long = features_of(Fiber("2x1"), 3)
    torch.testing.assert_close(layer(long)[1], plain(long)[1])
    short = torch.tensor([[[1e-4, 0, 0], [0, 1e-5, 0]]], dtype=torch.float64)
    size = torch.tensor([2.01, 2.01]) if kind == "bias" else torch.tensor([2.0, 2.0])  # both count as 1e-2: equal norms
    torch.testing.assert_close(layer({1: short})[1], size[:, None].double() * short / 1e-2)


def test_the_inverted_norm_is_as_released_and_not_equivariant(generator: torch.Generator) -> None:
    layer = NormNonlinearity(Fiber("3x1"), "layer_inverted").double()
    value = features_of(Fiber("3x1"), 4)[1]
    norm = value.norm(dim=-1)
    size = functional.relu(functional.layer_norm(norm, (3,)))
    expected = size[..., None] * norm[..., None] / value
    torch.testing.assert_close(layer({1: value})[1], expected)
    rotation = random_rotation(generator=generator, dtype=torch.float64)
    turned = layer(rotate_features({1: value}, rotation))[1]
    assert (turned - rotate_features({1: expected}, rotation)[1]).abs().max() > 1e-2


def test_a_single_channel_loses_its_norm_in_layer_norm() -> None:
    """Why the configuration refuses it: the released codes have it, and only the bias is left."""
    layer = NormNonlinearity(Fiber("1x1"), "layer").double()
    value = features_of(Fiber("1x1"), 4)[1]
    nn.init.constant_(layer.norm["1"].bias, 0.5)
    torch.testing.assert_close(layer({1: value})[1], 0.5 * value / value.norm(dim=-1, keepdim=True))


def test_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="norm='batch': expected one of layer, bias, tfn, none"):
        NormNonlinearity(FIBER, "batch")


def _by_formula(layer: Any, features: Features) -> Features:
    """Each layer as it is written, degree by degree, in operations that autograd differentiates by itself."""
    if isinstance(layer, EquivariantLinear):
        out = {
            degree: torch.einsum("wu,...ui->...wi", layer.weight[str(degree)], features[degree])
            for degree in layer.fiber_out
        }
        return out if layer.bias is None else out | {0: out[0] + layer.bias}
    if isinstance(layer, AttentiveSelfInteraction):
        return {degree: _attentive(layer, degree, features[degree]) for degree in layer.fiber_out}
    if isinstance(layer, GateNonlinearity):
        return _gated(layer, features)
    return {degree: _nonlinearity(layer, degree, value) for degree, value in features.items()}


def _gated(layer: GateNonlinearity, features: Features) -> Features:
    """Gates stand in the order of degree and channel."""
    out, first, scalars = {0: features[0] / (1 + torch.exp(-features[0]))}, 0, features[0][..., 0]
    for degree, channels in layer.fiber_in.items():
        if degree > 0 and layer.gates is not None:
            rows = slice(first, first + channels)
            gates = scalars @ layer.gates.weight[rows].T + layer.gates.bias[rows]
            out[degree] = 2 / (1 + torch.exp(-gates))[..., None] * features[degree]
            first += channels
    return out


def _attentive(layer: AttentiveSelfInteraction, degree: int, value: Tensor) -> Tensor:
    gram = torch.einsum("nui,nvi->nuv", value, value)
    weights = layer.mlp[str(degree)](gram.flatten(1)).unflatten(1, (-1, value.shape[1]))
    return torch.einsum("nwu,nui->nwi", weights.softmax(2) if layer.softmax else weights, value)


def _nonlinearity(layer: NormNonlinearity, degree: int, value: Tensor) -> Tensor:
    if layer.kind == "none":
        return value
    if layer.kind == "tfn" and degree == 0:
        return layer.activation(value + layer.bias["0"][:, None])
    norm = safe_norm(value)
    if layer.kind == "tfn":
        return layer.activation(norm + layer.bias[str(degree)])[..., None] * value
    norm = norm.clamp(min=layer.min_norm)
    size = norm + layer.bias[str(degree)] if layer.kind == "bias" else layer.norm[str(degree)](norm)
    size = size if layer.num_layers else layer.activation(size)
    if layer.kind == "layer_inverted":
        return size[..., None] / value * norm[..., None]
    return size[..., None] * (value / norm[..., None] if layer.min_norm else safe_normalize(value))


def _features_with_a_zero(fiber: Fiber, num: int) -> Features:
    """The first channel of the first node has no direction."""
    features = features_of(fiber, num)
    for value in features.values():
        value[0, 0] = 0
    return features


def _with_gradients(function: Callable[[Features], Features], layer: nn.Module, features: Features) -> list[Tensor]:
    """Outputs, and gradients with respect to features and parameters."""
    return _derivatives(function, layer, features, False)


def _derivatives(
    function: Callable[[Features], Features], layer: nn.Module, features: Features, twice: bool
) -> list[Tensor]:
    """Outputs, gradients with respect to features and parameters, and the gradients of their squares."""
    leaves = {degree: value.clone().requires_grad_() for degree, value in features.items()}
    inputs = [*leaves.values(), *layer.parameters()]
    out = list(function(leaves).values())
    weights = [torch.linspace(-1, 1, value.numel(), dtype=value.dtype).view_as(value) for value in out]
    total = torch.stack([(weight * value).sum() for weight, value in zip(weights, out, strict=True)]).sum()
    options = {"allow_unused": True, "materialize_grads": True}
    first = torch.autograd.grad(total, inputs, create_graph=twice, **options)
    if not twice:
        return [*out, *first]
    squares = torch.stack([grad.square().sum() for grad in first]).sum() + 0 * total
    return [*out, *first, *torch.autograd.grad(squares, inputs, **options)]


EVERY_LAYER = [
    *LAYERS,
    EquivariantLinear(Fiber.uniform(4, 16), Fiber.uniform(4, 3)),  # wide rows and narrow ones
    AttentiveSelfInteraction(Fiber("17x1"), Fiber("2x1"), softmax=True),
    NormNonlinearity(Fiber("3x1+2x4"), "tfn"),
    NormNonlinearity(Fiber("3x0"), "tfn"),
    NormNonlinearity(WIDE, "layer", functional.silu),
]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("layer", EVERY_LAYER, ids=repr)
def test_node_layer_equals_its_formula_in_values_and_derivatives(
    layer: nn.Module, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the compiled code and without."""
    if not compiled:
        for module in (linear_module, norm_module):
            monkeypatch.setattr(module, "is_usable", lambda *_: False)
    layer = layer.double()
    features = _features_with_a_zero(layer.fiber_in, 5)
    for twice, tolerance in ((False, 1e-12), (True, 1e-9)):  # second ones reach 1e24 at features below min_norm
        found = _derivatives(layer, layer, features, twice)
        expected = _derivatives(lambda inputs: _by_formula(layer, inputs), layer, features, twice)
        for one, other in zip(found, expected, strict=True):
            assert (one - other).abs().max() <= tolerance * max(1, other.abs().max())


def test_the_inverted_norm_equals_its_formula() -> None:
    layer = NormNonlinearity(WIDE, "layer_inverted").double()
    features = features_of(WIDE, 5)
    expected = _with_gradients(lambda inputs: _by_formula(layer, inputs), layer, features)
    for one, other in zip(_with_gradients(layer, layer, features), expected, strict=True):
        assert (one - other).abs().max() <= 1e-12 * max(1, other.abs().max())


@pytest.mark.parametrize("layer", EVERY_LAYER, ids=repr)
def test_derivatives_of_a_node_layer_agree_with_finite_differences(layer: nn.Module) -> None:
    layer = layer.double()
    leaves = [value.requires_grad_() for value in features_of(layer.fiber_in, 2).values()]

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(dict(zip(layer.fiber_in, values, strict=True))).values())

    assert gradcheck(function, leaves, fast_mode=True)
    assert gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("layer", EVERY_LAYER, ids=repr)
def test_function_transforms_give_the_derivatives_of_autograd(layer: nn.Module) -> None:
    layer = layer.double()
    features, parameters = _features_with_a_zero(layer.fiber_in, 4), dict(layer.named_parameters())

    def total(parameters: dict[str, Tensor], features: Features) -> Tensor:
        out = torch.func.functional_call(layer, parameters, (features,))
        return torch.stack([value.square().sum() for value in out.values()]).sum()

    leaves = {degree: value.clone().requires_grad_() for degree, value in features.items()}
    found = torch.func.grad(total, argnums=(0, 1))(parameters, features)
    inputs = [*parameters.values(), *leaves.values()]
    expected = torch.autograd.grad(total(parameters, leaves), inputs, allow_unused=True, materialize_grads=True)
    for one, other in zip([*found[0].values(), *found[1].values()], expected, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_linear_and_norm_take_any_batch_shape(shape: tuple[int, ...]) -> None:
    flat = features_of(WIDE, 6)
    count = max(torch.Size(shape).numel(), 0)
    shaped = {degree: value[:count].reshape(*shape, *value.shape[1:]) for degree, value in flat.items()}
    for layer in (NormNonlinearity(WIDE).double(), EquivariantLinear(WIDE, WIDE).double()):
        out = layer(shaped)
        for degree, value in layer({degree: value[:count] for degree, value in flat.items()}).items():
            torch.testing.assert_close(out[degree], value.reshape(*shape, *value.shape[1:]))


@pytest.mark.parametrize("layer", EVERY_LAYER, ids=repr)
def test_node_layer_runs_under_autocast(layer: nn.Module) -> None:
    layer = layer.float()
    features = {degree: value.float() for degree, value in features_of(layer.fiber_in, 4).items()}
    exact = _with_gradients(layer, layer, features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = _with_gradients(layer, layer, features)
    for one, other in zip(rough, exact, strict=True):
        far = (one - other).abs() > 0.1 * (1 + other.abs().max())
        # LayerNorm of nearly equal norms is as steep as one likes: one node of four may be far off.
        assert far.double().mean() <= 0.25


class _Operations(TorchDispatchMode):
    """How many operations compute something: views and empty memory do not."""

    FREE = ("view", "expand", "t.", "transpose", "split", "select", "slice", "squeeze", "unsqueeze", "detach", "empty")

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function).removeprefix("aten.").lstrip("_")
        self.number += not name.startswith(self.FREE)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("kind", "ratio"), [("layer", 0.4), ("bias", 0.4), ("tfn", 0.8)])
def test_norms_of_all_degrees_are_taken_together(kind: str, ratio: float) -> None:
    """Forward and backward take a fraction of the operations of the formula, which goes degree by degree."""
    layer = NormNonlinearity(Fiber.uniform(4, 3), kind).double()
    features = features_of(layer.fiber_in, 4)
    with _Operations() as ours:
        _with_gradients(layer, layer, features)
    with _Operations() as formula:
        _with_gradients(lambda inputs: _by_formula(layer, inputs), layer, features)
    with _Operations() as frame:
        _with_gradients(lambda inputs: inputs, nn.Identity(), features)
    assert ours.number - frame.number < ratio * (formula.number - frame.number)


def test_pooling_reduces_each_cloud() -> None:
    features = features_of(Fiber("2x0+1x1"), 5)
    batch = torch.tensor([0, 0, 0, 1, 1])
    for degree, value in features.items():
        torch.testing.assert_close(pool(features, batch, 2, "mean")[degree][1], value[3:].mean(0))
        torch.testing.assert_close(pool(features, batch, 2, "sum")[degree][0], value[:3].sum(0))
    scalars = {0: features[0]}
    torch.testing.assert_close(pool(scalars, batch, 2, "max")[0][0], features[0][:3].max(0).values)


def test_readout_keeps_pools_and_regresses() -> None:
    fiber = Fiber("3x0+2x1")
    features = features_of(fiber, 5)
    batch = torch.tensor([0, 0, 0, 1, 1])
    unchanged = Readout(fiber, fiber)(features, batch, 2)
    assert all(unchanged[degree] is features[degree] for degree in fiber)
    assert Readout(fiber, Fiber("2x1"))(features, batch, 2).keys() == {1}
    pooled = Readout(fiber, fiber, pooling="mean")(features, batch, 2)
    assert all(torch.equal(pooled[degree], pool(features, batch, 2, "mean")[degree]) for degree in fiber)
    layer = Readout(fiber, Fiber("2x0"), pooling="max", head=True).double()
    assert layer.head is not None
    first, _, second = layer.head
    hidden = functional.relu(first(pool({0: features[0]}, batch, 2, "max")[0][..., 0]))
    torch.testing.assert_close(layer(features, batch, 2)[0], second(hidden)[..., None])
    assert repr(layer) == "Readout(3x0+2x1 -> 2x0, max, head)"


@pytest.mark.parametrize(
    ("fiber_in", "fiber_out", "head", "words"),
    [
        ("3x0+2x1", "1x1", True, "head: makes type 0 from type 0, got 3x0\\+2x1 -> 1x1"),
        ("2x1", "1x0", True, "head: makes type 0 from type 0"),
        ("3x0+2x1", "2x0", False, "2x0 is not a part of the last layer's 3x0"),
        ("3x0", "1x2", False, "1x2 is not a part"),
    ],
)
def test_a_readout_of_what_is_not_there_is_refused(fiber_in: str, fiber_out: str, head: bool, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Readout(Fiber(fiber_in), Fiber(fiber_out), head=head)


def test_pooling_that_breaks_equivariance_is_refused() -> None:
    features = features_of(Fiber("1x0+1x1"), 2)
    with pytest.raises(ValueError, match="max pooling of degree 1 is not equivariant"):
        pool(features, torch.zeros(2, dtype=torch.int64), 1, "max")
    with pytest.raises(ValueError, match="pooling 'median': expected mean, sum or max"):
        pool(features, torch.zeros(2, dtype=torch.int64), 1, "median")
    with pytest.raises(ValueError, match="pooling 'median': expected mean, sum or max"):
        Pooling("median")
