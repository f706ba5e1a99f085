from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from se3t.fiber import Fiber
from se3t.models.pointwise import as_dense, flatten_features, from_dense, unflatten_features

from .clouds import clouds


@pytest.mark.parametrize("fiber", [Fiber("1x0+2x1"), Fiber("3x2"), Fiber("2x0+1x3")])
def test_flattening_is_undone_exactly(fiber: Fiber):
    features = clouds(4, 3, fiber=fiber).features
    flat = flatten_features(features, fiber)
    assert flat.shape == (7, fiber.dim)
    restored = unflatten_features(flat, fiber)
    assert all(torch.equal(restored[degree], features[degree]) for degree in fiber)


def test_flattening_does_not_depend_on_the_order_of_degrees():
    features = clouds(3).features
    assert torch.equal(
        flatten_features(features, Fiber("1x0+2x1")),
        flatten_features(dict(reversed(features.items())), Fiber("1x0+2x1")),
    )


def test_flattening_refuses_another_fiber():
    with pytest.raises(ValueError, match="expected fiber 1x0"):
        flatten_features(clouds(3).features, Fiber("1x0"))


@pytest.mark.parametrize("sizes", [(3, 3), (1,), (4, 1, 3), (2, 0, 3), (0, 2), (0, 0)])
def test_unpacking_undoes_packing(sizes: tuple[int, ...]):
    graph = clouds(*sizes)
    dense, mask = as_dense(graph.positions, graph)
    assert dense.shape == (len(sizes), max(sizes), 3)
    assert torch.equal(from_dense(dense, mask), graph.positions)
    for index, size in enumerate(sizes):
        assert torch.equal(dense[index, :size], graph.positions[graph.batch == index])
        assert not dense[index, size:].any()


def test_clouds_of_equal_size_are_a_reshape_without_a_mask():
    graph = replace(clouds(4, 4, 4), cloud_size=4)
    dense, mask = as_dense(graph.positions, graph)
    assert mask is None
    assert dense.data_ptr() == graph.positions.data_ptr()
    assert torch.equal(from_dense(dense, mask), graph.positions)
    assert torch.equal(as_dense(graph.positions, clouds(4, 4, 4))[0], dense)


def test_a_batch_without_clouds_has_no_rows():
    graph = replace(clouds(0), batch=torch.empty(0, dtype=torch.int64), num_graphs=0)
    dense, mask = as_dense(graph.positions, graph)
    assert dense.shape == (0, 0, 3)
    assert from_dense(dense, mask).shape == (0, 3)
