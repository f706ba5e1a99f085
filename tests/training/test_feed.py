from __future__ import annotations

import itertools

import pytest
import torch

from se3t.errors import UserError
from se3t.training.feed import StepFeed, derived_seed, epoch_order, step_seed


def test_every_epoch_covers_each_sample_once() -> None:
    feed = StepFeed(size=20, batch_size=8, seed=3)
    seen = torch.cat([feed.batch(step) for step in range(5)])  # 5 batches of 8 are two epochs of 20
    assert sorted(seen[:20].tolist()) == list(range(20))
    assert sorted(seen[20:].tolist()) == list(range(20))
    assert not torch.equal(seen[:20], seen[20:])


def test_a_batch_depends_on_the_step_alone() -> None:
    walked = list(itertools.islice(StepFeed(20, 8, seed=3), 12))
    for step in (11, 0, 7, 2):
        assert torch.equal(StepFeed(20, 8, seed=3).batch(step), walked[step])
    resumed = list(itertools.islice(StepFeed(20, 8, seed=3, first_step=7), 5))
    assert all(torch.equal(left, right) for left, right in zip(resumed, walked[7:], strict=True))


def test_processes_share_every_batch_without_overlap() -> None:
    whole = StepFeed(20, 8, seed=3)
    shares = [StepFeed(20, 8, seed=3, rank=rank, world_size=4) for rank in range(4)]
    for step in range(7):
        assert torch.equal(torch.cat([share.batch(step) for share in shares]), whole.batch(step))


def test_a_batch_may_be_larger_than_the_data() -> None:
    batch = StepFeed(size=3, batch_size=7, seed=0).batch(0)
    assert torch.bincount(batch, minlength=3).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


def test_order_depends_on_seed_and_epoch() -> None:
    orders = [tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == len(orders)
    assert derived_seed(1, 2) != derived_seed(2, 1)


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(UserError, match=r"batch_size=9.*devices=2"):
        StepFeed(20, 9, seed=0, world_size=2)


def test_an_empty_training_split_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        StepFeed(0, 9, seed=0)


def test_the_seed_of_a_step_is_derived_from_the_run_and_the_step() -> None:
    for seed, step in ((0, 0), (3, 63), (3, 64), (4, 64), (3, 63), (2**40, 100_000)):
        assert step_seed(seed, step) == derived_seed(seed, step)
