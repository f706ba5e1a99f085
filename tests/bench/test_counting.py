from __future__ import annotations

import dataclasses

import pytest

from benchmarks.counting import Sizes, layer_work, step_work
from se3t.bench.workloads import WORKLOADS, weights_per_edge
from se3t.fiber import Fiber
from se3t.nn import ConvSettings, EquivariantConv, SE3AttentionBlock

pytestmark = pytest.mark.e2e  # comparisons with other codes

SIZES = Sizes(nodes=3, edges=4, unique=2, graphs=1)


def test_a_convolution_of_scalars_is_counted_as_by_hand() -> None:
    """Types 0 to 0, 2 to 3 channels, 1 edge scalar, hidden width 5: no rotation and 6 radial weights."""
    conv = EquivariantConv(Fiber("2x0"), Fiber("3x0"), ConvSettings(1, radial_hidden=5), reduce="none")
    hidden = 2 * 2 * (2 * 2 * 5 + 3 * 5 * 5)  # 2 unique edges; the inputs of the first layer need no gradient
    last = 3 * 2 * 2 * 5 * 6
    messages = 3 * 2 * 4 * 6
    assert layer_work(conv, SIZES).flop == hidden + last + messages
    assert layer_work(conv, SIZES, is_first=True).flop == hidden + last + 2 * messages // 3


def test_a_convolution_of_vectors_is_counted_as_by_hand() -> None:
    """Types 1 to 1, one channel each: three paths, one entry for m = 0 and four for m = 1, frames of 3 × 3."""
    conv = EquivariantConv(Fiber("1x1"), Fiber("1x1"), ConvSettings(radial_hidden=2), reduce="none")
    hidden = 2 * 2 * (2 * 1 * 2 + 3 * 2 * 2)
    last = 3 * 2 * 2 * 2 * 3
    messages = 3 * 2 * 4 * 5
    rotations = 2 * 4 * 4 * 9  # in and out, forward and backward
    work = layer_work(conv, SIZES)
    assert work.flop == hidden + last + messages + rotations
    parameters = sum(value.numel() for value in conv.parameters())
    read = 3 * 3 + 2 * 1 + 4 * 9 + parameters
    assert work.bytes == 4 * (2 * read + 2 * 4 * 3 + parameters + 3 * 3)


def test_an_attention_block_is_its_convolution_and_the_products_of_its_nodes_and_edges() -> None:
    """Types 0 and 1 with 4 channels, 16 numbers: queries, self-interaction of 8 channels, logits and weighted sums."""
    fiber = Fiber("4x0+4x1")
    block = SE3AttentionBlock(fiber, fiber, num_heads=2)
    (convolution,) = block.value_key
    query = 3 * 2 * SIZES.nodes * 4 * 16
    interaction = 3 * 2 * SIZES.nodes * 8 * 16
    attention = 3 * 2 * SIZES.edges * (16 + 16)
    assert layer_work(block, SIZES).flop == layer_work(convolution, SIZES).flop + query + interaction + attention
    saved = layer_work(convolution, SIZES).flop - layer_work(convolution, SIZES, is_first=True).flop + query // 3
    assert layer_work(block, SIZES, is_first=True).flop == layer_work(block, SIZES).flop - saved


def test_an_attentive_self_interaction_is_counted_as_by_hand() -> None:
    """8 scalars to 4: beyond the linear map of 4 × 8, a Gram matrix of 64 numbers and an MLP of 64 × 32."""
    fiber = Fiber("4x0")
    plain, attentive = (SE3AttentionBlock(fiber, fiber, self_interaction=kind) for kind in ("linear", "attentive"))
    gram, mlp = 2 * 2 * SIZES.nodes * 64, 3 * 2 * SIZES.nodes * 64 * 32
    assert layer_work(attentive, SIZES).flop == layer_work(plain, SIZES).flop + gram + mlp


def test_sharing_between_directions_halves_what_the_radial_networks_cost() -> None:
    conv = EquivariantConv(Fiber("8x0+8x1"), Fiber("8x0+8x1"), reduce="none")
    apart = layer_work(conv, dataclasses.replace(SIZES, unique=4)).flop
    shared = layer_work(conv, SIZES).flop
    without = layer_work(conv, dataclasses.replace(SIZES, unique=0)).flop
    assert apart - without == 2 * (shared - without) > 0


@pytest.mark.parametrize("name", WORKLOADS)
def test_work_grows_with_the_batch_and_the_parameters_do_not(name: str) -> None:
    one, two, three = (step_work(WORKLOADS[name].resized(count, 8)) for count in (1, 2, 3))
    assert three.flop - two.flop == two.flop - one.flop > 0
    assert three.bytes - two.bytes == two.bytes - one.bytes > 0
    assert two.flop == 2 * one.flop
    assert two.bytes < 2 * one.bytes


def test_radial_weights_are_paths_times_channels_in_and_out() -> None:
    """One layer: the input 1x0+2x1 to keys and values of 2 vectors and, where they occur, scalars."""
    workload = dataclasses.replace(WORKLOADS["nbody"], num_layers=1)
    values, keys = 2, 2  # vectors; keys have the types that input and output share
    expected = (values + keys) * (1 * 1 + 2 * 3)
    assert weights_per_edge(workload.model()) == expected
    assert workload.kept_bytes() == 4 * workload.num_edges // 2 * expected  # both directions of a pair share them
