from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from se3t.data.nbody.dataset import random_bits, random_signs, random_starts


def splitmix64(seed: int, count: int) -> list[int]:
    """The generator as published, on Python's integers."""
    found, state, mask = [], seed, 2**64 - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        value = state
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        found.append(value ^ (value >> 31))
    return found


def test_the_bits_are_those_of_splitmix64() -> None:
    for draw in (0, 1234567, 2**63 - 1):
        bits = random_bits(draw, torch.arange(50))
        assert [value % 2**64 for value in bits.tolist()] == splitmix64(draw, 50)
        assert torch.equal(bits, random_bits(torch.tensor(draw), torch.arange(50)))


def test_a_draw_depends_on_its_trajectory_and_not_on_the_batch() -> None:
    whole = random_bits(99, torch.arange(100))
    index = torch.tensor([64, 3, 64, 99])
    assert torch.equal(random_bits(99, index), whole[index])
    assert not bool((random_bits(98, torch.arange(100)) == whole).any())


def test_starts_are_uniform_over_trajectories_and_over_draws() -> None:
    num_starts = 210
    over_trajectories = random_starts(random_bits(5, torch.arange(42_000)), num_starts)
    over_draws = random_starts(random_bits(torch.arange(21_000), torch.tensor([17])), num_starts)
    for starts in (over_trajectories, over_draws):
        counts = np.bincount(starts.flatten().numpy(), minlength=num_starts)
        assert len(counts) == num_starts
        assert stats.chisquare(counts).pvalue > 1e-3


def test_signs_are_even_and_say_nothing_about_the_starts() -> None:
    bits = random_bits(11, torch.arange(40_000))
    signs, starts = random_signs(bits), random_starts(bits, 8)
    assert set(signs.tolist()) == {-1, 1}
    table = [[int(((signs == sign) & (starts == start)).sum()) for start in range(8)] for sign in (-1, 1)]
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert stats.binomtest(int((signs > 0).sum()), len(signs)).pvalue > 1e-3
