from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from se3t.fiber import Fiber, cat_features, split_features
from se3t.geometry import EdgeGeometry
from se3t.nn import AttentionSettings, AttentiveSelfInteraction, ConvSettings, EdgeAttention, SE3AttentionBlock
from se3t.nn.convolution import MergedConv
from se3t.nn.kernels import Sources
from se3t.nn.kernels.native import unavailable
from se3t.testing import equivariance_error

from .clouds import FIBER, basis_of, features_of, make_block, make_graph

PLAIN = AttentionSettings()


@pytest.mark.parametrize("kernel", ["auto", "edge_frame"])
@pytest.mark.parametrize(
    "settings", [PLAIN, *(AttentionSettings("sqrt_softmax", scale) for scale in ("all_heads", "head", "learned"))]
)
@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_attention_equals_a_loop_over_nodes_and_heads(num_heads: int, settings: AttentionSettings, kernel: str) -> None:
    graph = make_graph(FIBER)
    fiber_key, fiber_value = Fiber("4x0+8x1"), Fiber("8x0+4x2")
    layer = EdgeAttention(num_heads, fiber_key, fiber_value, kernel, settings).double()
    factors = [1 / math.sqrt(fiber_key.dim / (1 if settings.logit_scale == "all_heads" else num_heads))] * num_heads
    if layer.log_factor is not None:
        torch.testing.assert_close(layer.log_factor.exp(), torch.ones_like(layer.log_factor))  # at the start
        layer.log_factor.data = torch.randn_like(layer.log_factor)
        factors = [factor * math.exp(one) for factor, one in zip(factors, layer.log_factor.tolist(), strict=True)]
    power = 0.5 if settings.weights == "sqrt_softmax" else 1.0
    num_edges = graph.edge_index.shape[1]
    query, key = features_of(fiber_key, graph.num_nodes), features_of(fiber_key, num_edges)
    value = features_of(fiber_value, num_edges)
    geometry = basis_of(graph).geometry
    out, weights = layer(query, key, value, geometry), layer.weights(query, key, geometry)
    for node in range(graph.num_nodes):
        edges = torch.nonzero(graph.target == node)[:, 0]
        for head in range(num_heads):
            logits = torch.zeros(len(edges), dtype=torch.float64)
            for degree, channels in fiber_key.items():
                part = slice(head * channels // num_heads, (head + 1) * channels // num_heads)
                logits += (query[degree][node, part] * key[degree][edges, part]).sum((1, 2))
            alpha = torch.softmax(factors[head] * logits, 0) ** power
            torch.testing.assert_close(weights[edges, head], alpha)
            for degree, channels in fiber_value.items():
                part = slice(head * channels // num_heads, (head + 1) * channels // num_heads)
                expected = (alpha[:, None, None] * value[degree][edges, part]).sum(0)
                torch.testing.assert_close(out[degree][node, part], expected)


def test_attention_weights_of_a_neighbourhood_sum_to_one() -> None:
    positions = torch.randn(9, 3, dtype=torch.float64)
    positions[4] = 50.0
    graph = make_graph(FIBER, positions, radius=4.0)
    fiber = Fiber("2x0+2x1")
    layer = EdgeAttention(2, fiber, fiber)
    num_edges = graph.edge_index.shape[1]
    weights = layer.weights(features_of(fiber, 9), features_of(fiber, num_edges), basis_of(graph).geometry)
    sums = torch.zeros(9, 2, dtype=torch.float64).index_add(0, graph.target, weights)
    neighbours = torch.bincount(graph.target, minlength=9)
    assert neighbours.max() > 2
    reached = neighbours > 0
    assert reached.tolist() == [True] * 4 + [False] + [True] * 4
    torch.testing.assert_close(sums[reached], torch.ones_like(sums[reached]))
    assert (sums[~reached] == 0).all()


def test_edge_attention_is_invariant_to_neighbour_order() -> None:
    graph = make_graph(FIBER)
    fiber = Fiber("2x0+2x1")
    layer = EdgeAttention(2, fiber, fiber)
    num_edges = graph.edge_index.shape[1]
    query, key, value = features_of(fiber, 9), features_of(fiber, num_edges), features_of(fiber, num_edges)
    geometry = basis_of(graph).geometry
    order = torch.randperm(num_edges)
    shuffled = graph.__class__(
        graph.positions, graph.features, graph.edge_index[:, order], graph.batch, 2, graph.edge_scalars, {}
    )
    out = layer(query, key, value, geometry)
    moved = layer(
        query,
        {degree: part[order] for degree, part in key.items()},
        {degree: part[order] for degree, part in value.items()},
        basis_of(shuffled).geometry,
    )
    for degree in fiber:
        torch.testing.assert_close(out[degree], moved[degree])


@pytest.mark.parametrize("kernel", ["auto", "edge_frame"])
@pytest.mark.parametrize(("scale", "power"), [("sqrt_degree", 0.5), ("degree", 1.0)])
def test_outputs_are_multiplied_by_a_power_of_the_number_of_incoming_edges(
    scale: str, power: float, kernel: str
) -> None:
    geometry, fiber = geometry_of(torch.tensor([3, 0, 0, 3, 0, 1, 0]), 5), Fiber("2x0+4x1")  # none at nodes 2 and 4
    query, messages = features_of(fiber, 5), features_of(fiber + fiber, 7)
    mean = EdgeAttention(2, fiber, fiber, kernel).joint(query, messages, geometry)
    out = EdgeAttention(2, fiber, fiber, kernel, AttentionSettings(scale=scale)).joint(query, messages, geometry)
    counts = torch.tensor([4, 1, 0, 2, 0], dtype=torch.float64)
    for degree in fiber:
        torch.testing.assert_close(out[degree], counts[:, None, None] ** power * mean[degree])
        assert (out[degree][counts > 0] != 0).all()


def test_with_equal_weights_the_scale_degree_makes_a_sum() -> None:
    targets, fiber = torch.tensor([1, 0, 0, 1, 0]), Fiber("2x0+4x1")
    layer = EdgeAttention(2, fiber, fiber, settings=AttentionSettings(scale="degree"))
    layer.scale_logits(0.0)
    value = features_of(fiber, 5)
    out = layer(features_of(fiber, 3), features_of(fiber, 5), value, geometry_of(targets, 3))
    for degree, part in value.items():
        torch.testing.assert_close(out[degree], torch.zeros_like(part[:3]).index_add(0, targets, part))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weights": "sigmoid"}, "attention_weights='sigmoid': expected one of softmax, sqrt_softmax"),
        ({"logit_scale": "none"}, "logit_scale='none': expected one of all_heads, head, learned"),
        ({"scale": "mean"}, "attention_scale='mean': expected one of none, sqrt_degree, degree"),
    ],
)
def test_unknown_settings_of_attention_are_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AttentionSettings(**settings)


def test_heads_must_divide_channels() -> None:
    with pytest.raises(ValueError, match="value fiber 3x0: 3 channels of degree 0 cannot be divided among 2 heads"):
        EdgeAttention(2, Fiber("2x0"), Fiber("3x0"))


BLOCKS = [
    {"num_heads": 2, "channels_div": 2},
    {"num_heads": 1, "self_interaction": "attentive"},
    {"num_heads": 2, "skip": "sum"},
    {"num_heads": 2, "skip": "sum", "self_interaction": "attentive"},
    {"num_heads": 3, "channels_div": 4, "fuse_key_value": False},
    {"num_heads": 1, "self_interaction": "attentive_softmax"},
    {"num_heads": 2, "fiber_value": Fiber("4x0+2x1+2x2+2x4+2x5")},
    {"num_heads": 1, "fiber_edge": Fiber("2x1")},
    {"num_heads": 1, "fiber_edge": Fiber("2x1"), "edge_mode": "cat_shared"},
    {"num_heads": 1, "fiber_edge": Fiber("2x1"), "edge_mode": "add"},
    {"num_heads": 2, "attention": AttentionSettings("sqrt_softmax", "learned", "sqrt_degree")},
    {"num_heads": 2, "attention": AttentionSettings(scale="degree"), "fuse_key_value": False},
    {"num_heads": 1, "key_nodes": "both", "fiber_edge": Fiber("2x1")},
    {"num_heads": 1, "key_nodes": "both", "fuse_key_value": False, "skip": "sum"},
]


class Layer(torch.nn.Module):
    """A block as a model of graphs."""

    def __init__(self, block: SE3AttentionBlock) -> None:
        super().__init__()
        self.block, self.fiber_in, self.fiber_out = block, block.fiber_in, block.fiber_out

    def forward(self, graph):
        return self.block(graph.features, basis_of(graph, self.block.max_degree))


@pytest.mark.parametrize("options", BLOCKS, ids=str)
@pytest.mark.parametrize("fiber_out", [FIBER, Fiber("5x0+1x4"), Fiber("2x2")], ids=repr)
def test_block_is_equivariant_in_every_branch(options: dict[str, object], fiber_out: Fiber) -> None:
    block = make_block(FIBER, fiber_out, 2, **options).double()  # type: ignore[arg-type]
    graph = make_graph(FIBER, fiber_edge=options.get("fiber_edge"))  # type: ignore[arg-type]
    for transform in ("rotation", "translation", "permutation"):
        errors = equivariance_error(Layer(block), graph, transform=transform)
        assert max(errors.values()) < 1e-12, (transform, errors)


def test_values_may_have_types_of_their_own() -> None:
    value = Fiber("4x0+2x1+2x5")
    block = make_block(FIBER, FIBER, 2, num_heads=2, fiber_value=value).double()
    assert block.attention.fiber_value == value
    assert block.attention.fiber_key == Fiber("4x0+2x1")  # the degrees of values that queries can have
    assert block.self_interaction is not None
    assert block.self_interaction.fiber_in == value + FIBER


def test_softmax_of_the_attentive_self_interaction_is_chosen() -> None:
    for kind, softmax in (("attentive", False), ("attentive_softmax", True)):
        block = make_block(FIBER, FIBER, 2, self_interaction=kind)
        assert isinstance(block.self_interaction, AttentiveSelfInteraction)
        assert block.self_interaction.softmax == softmax


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("key_nodes", ["source", "both"])
def test_keys_and_fused_values_are_made_of_the_nodes_that_are_named(key_nodes: str, fuse: bool) -> None:
    """The message of an edge that comes into node 0 depends on node 0 alone where both ends are named."""
    block = make_block(FIBER, FIBER, 2, num_heads=1, fuse_key_value=fuse, key_nodes=key_nodes).double()
    graph = make_graph(FIBER)
    other = {degree: value.clone() for degree, value in graph.features.items()}
    for value in other.values():
        value[0] += 1
    into = graph.target == 0
    changes = []
    for conv in block.value_key:
        before, after = conv(graph.features, basis_of(graph)), conv(other, basis_of(graph))
        differences = [(after[degree] - before[degree])[into].abs() for degree in conv.fiber_out]
        changes.append(bool(torch.stack([value.max() for value in differences]).max() > 1e-6))
    both = key_nodes == "both"
    assert changes == ([both] if fuse else [False, both])


def test_merged_sources_are_a_convolution_of_sources_and_one_of_targets() -> None:
    conv = MergedConv(FIBER, FIBER, ConvSettings(2), reduce="none").double()
    graph = make_graph(FIBER)
    basis, ends = basis_of(graph), [graph.source, graph.target]
    own = [graph.features, conv.target(graph.features)]
    gathered = [{l: value[end] for l, value in part.items()} for end, part in zip(ends, own, strict=True)]
    parts = [conv.kernel(Sources(part), conv.radial, basis) for part in gathered]
    for degree, value in conv(graph.features, basis).items():
        torch.testing.assert_close(value, (parts[0][degree] + parts[1][degree]) / math.sqrt(2))


def test_block_without_shared_degree_attends_with_the_degrees_of_its_input() -> None:
    block = make_block(Fiber("2x0"), Fiber("4x1"), 2, num_heads=2, skip="sum").double()
    assert block.attention.fiber_key.degrees == (0,)
    graph = make_graph(Fiber("2x0"))
    out = block(graph.features, basis_of(graph))
    assert out[1].shape == (9, 4, 3)
    assert (out[1] != 0).any()


def test_sum_skip_adds_the_self_interaction_of_the_input() -> None:
    block = make_block(FIBER, FIBER, 2, skip="sum").double()
    graph = make_graph(FIBER)
    before = block(graph.features, basis_of(graph))
    own = block.self_interaction(graph.features)
    with torch.no_grad():
        for parameter in block.self_interaction.parameters():
            parameter.zero_()
    after = block(graph.features, basis_of(graph))
    for degree in FIBER:
        torch.testing.assert_close(before[degree] - after[degree], own[degree])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"skip": "none"}, "skip='none': expected cat or sum"),
        ({"key_nodes": "target"}, "key_nodes='target': expected source or both"),
        ({"self_interaction": "max"}, "self_interaction='max': expected linear, attentive or attentive_softmax"),
    ],
)
def test_unknown_option_is_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_block(FIBER, FIBER, **options)  # type: ignore[arg-type]


# --- compiled attention against torch's operations --------------------------------------------------------------------


@pytest.fixture
def compiled_code() -> None:
    reason = unavailable(torch.device("cpu"), torch.float64)
    if reason is not None:
        pytest.skip(f"there is no compiled attention here: {reason}")


EVERYTHING = AttentionSettings("sqrt_softmax", "learned", "degree")


def geometry_of(targets: Tensor, num_nodes: int) -> EdgeGeometry:
    zeros = torch.zeros(len(targets), 3, dtype=torch.float64)
    return EdgeGeometry(targets, targets, num_nodes, zeros, zeros[:, 0])


def attention_of(
    kernel: str,
    num_heads: int,
    fibers: tuple[Fiber, Fiber],
    geometry: EdgeGeometry,
    *,
    joint: bool,
    size: float = 1.0,
    settings: AttentionSettings = PLAIN,
) -> list[Tensor]:
    """Results and gradients of all inputs and parameters."""
    fiber_key, fiber_value = fibers
    torch.manual_seed(7)
    edges = len(geometry.source)
    query = {degree: size * value for degree, value in features_of(fiber_key, geometry.num_nodes).items()}
    messages = features_of(fiber_value + fiber_key, edges)
    leaves = [value.requires_grad_() for value in (*query.values(), *messages.values())]
    layer = EdgeAttention(num_heads, fiber_key, fiber_value, kernel, settings).double()
    leaves += list(layer.parameters())
    if joint:
        out = layer.joint(query, messages, geometry)
    else:
        value, key = split_features(messages, fiber_value, fiber_key)
        out = layer(query, key, value, geometry)
    probes = [torch.randn(value.shape, dtype=torch.float64) for value in out.values()]
    loss = sum((value * probe).sum() for value, probe in zip(out.values(), probes, strict=True))
    return [*(value.detach() for value in out.values()), *torch.autograd.grad(loss, leaves)]


def assert_both_attend_alike(*args: object, **options: object) -> None:
    expected, received = (attention_of(kernel, *args, **options) for kernel in ("edge_frame", "native"))  # type: ignore[arg-type]
    for one, other in zip(expected, received, strict=True):
        assert other.isfinite().all()
        torch.testing.assert_close(other, one, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("compiled_code")
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("num_heads", [1, 2, 8])
@pytest.mark.parametrize(
    ("fiber_key", "fiber_value"),
    [
        ("8x0+16x1", "16x0+8x1+8x2"),
        ("8x0+8x2", "24x1"),  # no degree in both
        ("8x1", "8x0+8x1+40x3"),  # keys with fewer degrees
        ("16x0+8x1+8x4", "8x1"),  # values with fewer degrees
    ],
)
@pytest.mark.parametrize("edges", [0, 1, 64, 150])
def test_compiled_attention_and_its_gradients_are_those_of_torch(
    joint: bool, num_heads: int, fiber_key: str, fiber_value: str, edges: int
) -> None:
    geometry = geometry_of(torch.randint(0, 9, (edges,)), 11)  # in no order; nodes 9 and 10 have no edge
    assert_both_attend_alike(num_heads, (Fiber(fiber_key), Fiber(fiber_value)), geometry, joint=joint)


@pytest.mark.usefixtures("compiled_code")
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("channels", ["1x0+1x1", "3x0+5x1", "17x0+33x2"])
def test_compiled_attention_takes_any_number_of_channels(joint: bool, channels: str) -> None:
    fiber = Fiber(channels)
    assert_both_attend_alike(1, (fiber, fiber), geometry_of(torch.randint(0, 9, (70,)), 9), joint=joint)


@pytest.mark.usefixtures("compiled_code")
@pytest.mark.parametrize("joint", [False, True])
def test_one_node_may_have_all_the_edges(joint: bool) -> None:
    geometry = geometry_of(torch.full((300,), 3), 5)
    assert_both_attend_alike(2, (Fiber("2x0+2x1"), Fiber("4x0+2x1")), geometry, joint=joint)


@pytest.mark.usefixtures("compiled_code")
def test_compiled_softmax_of_large_logits_is_finite() -> None:
    geometry = geometry_of(torch.arange(90) // 10, 9)
    assert_both_attend_alike(2, (Fiber("2x0+2x1"), Fiber("2x0+4x1")), geometry, joint=True, size=1e5)


@pytest.mark.usefixtures("compiled_code")
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("edges", [0, 1, 64])
def test_settings_of_attention_act_alike_on_compiled_and_composed_sums(edges: int, joint: bool) -> None:
    fibers, geometry = (Fiber("2x0+2x1"), Fiber("2x0+4x2")), geometry_of(torch.randint(0, 9, (edges,)), 11)
    assert_both_attend_alike(2, fibers, geometry, joint=joint, settings=EVERYTHING)


@pytest.mark.usefixtures("compiled_code")
def test_threads_share_out_the_nodes_and_change_nothing() -> None:
    geometry = geometry_of(torch.randint(0, 40, (600,)), 40)
    number, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            fibers = Fiber("2x0+4x1"), Fiber("4x0+2x2")
            results.append(attention_of("native", 2, fibers, geometry, joint=True))
    finally:
        torch.set_num_threads(number)
    for values in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], values, strict=True))


@pytest.mark.usefixtures("compiled_code")
def test_what_is_attended_to_may_lie_in_memory_in_any_way() -> None:
    fiber, geometry = Fiber("2x0+4x1"), geometry_of(torch.randint(0, 6, (40,)), 6)
    query, key, value = features_of(fiber, 6), features_of(fiber, 40), features_of(fiber, 40)
    layer = EdgeAttention(2, fiber, fiber, "native")
    expected = layer(query, key, value, geometry)
    turned = [{degree: part.mT.contiguous().mT for degree, part in parts.items()} for parts in (query, key, value)]
    cut = [{degree: part.repeat(2, 2, 1)[len(part) :, part.shape[1] :] for degree, part in p.items()} for p in turned]
    for parts in (turned, cut):
        out = layer(*parts, geometry)
        assert all(torch.equal(expected[degree], out[degree]) for degree in fiber)
    same = {degree: part[:1].expand(40, -1, -1) for degree, part in value.items()}
    for degree, part in layer(query, key, same, geometry).items():
        reached = geometry.in_degree > 0
        torch.testing.assert_close(part[reached], same[degree][: int(reached.sum())].contiguous())


@pytest.mark.usefixtures("compiled_code")
@pytest.mark.parametrize("settings", [PLAIN, EVERYTHING])
@pytest.mark.parametrize("joint", [False, True])
def test_second_gradients_of_compiled_attention_are_exact(joint: bool, settings: AttentionSettings) -> None:
    fiber, geometry = Fiber("2x0+2x1"), geometry_of(torch.tensor([2, 0, 0, 1, 2, 2, 2]), 4)
    layer = EdgeAttention(2, fiber, fiber, "native", settings).double()

    def output(*leaves: Tensor) -> Tensor:
        query, key, value = (dict(zip(fiber, leaves[2 * n : 2 * n + 2], strict=True)) for n in range(3))
        out = layer.joint(query, cat_features(value, key), geometry) if joint else layer(query, key, value, geometry)
        return torch.cat([part.flatten() for part in out.values()])

    leaves = [part.requires_grad_() for points in (4, 7, 7) for part in features_of(fiber, points).values()]
    assert torch.autograd.gradcheck(output, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(output, leaves, fast_mode=True)


@pytest.mark.usefixtures("compiled_code")
def test_second_gradients_of_a_block_are_those_of_torch() -> None:
    """To positions, through convolution and attention, as training on forces needs them."""
    graph = make_graph(FIBER)
    results = []
    for kernel in ("reference", "native"):
        torch.manual_seed(3)
        block = make_block(FIBER, FIBER, 2, num_heads=2, kernel=kernel).double()
        positions = graph.positions.clone().requires_grad_()
        moved = replace(graph, positions=positions)
        energy = sum(value.square().sum() for value in block(moved.features, basis_of(moved, pair=True)).values())
        (forces,) = torch.autograd.grad(energy, positions, create_graph=True)
        results.append([forces.detach(), *torch.autograd.grad(forces.square().sum(), list(block.parameters()))])
    for expected, received in zip(*results, strict=True):
        assert (expected - received).abs().max() <= 1e-11 * (1 + expected.abs().max())


@pytest.mark.usefixtures("compiled_code")
def test_messages_of_another_number_of_edges_are_refused() -> None:
    fiber, geometry = Fiber("2x0"), geometry_of(torch.tensor([0, 1, 1]), 2)
    layer = EdgeAttention(1, fiber, fiber, "native")
    with pytest.raises(ValueError, match="messages of degree 0: expected 3 edges, got 2"):
        layer(features_of(fiber, 2), features_of(fiber, 2), features_of(fiber, 3), geometry)
    with pytest.raises(ValueError, match="query of degree 0: expected 2 nodes, got 1"):
        layer(features_of(fiber, 1), features_of(fiber, 3), features_of(fiber, 3), geometry)
