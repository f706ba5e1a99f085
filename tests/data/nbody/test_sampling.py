from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.random import Philox, SeedSequence
from scipy import stats

from se3t.data.nbody.presets import NBodySettings
from se3t.data.nbody.sampling import initial_states, natural_log, standard_normal


def test_natural_log_agrees_with_the_standard_library() -> None:
    random = np.random.default_rng(0)
    values = np.concatenate(
        [10.0 ** random.uniform(-300, 300, 2000), random.uniform(0, 2, 2000), 1 - 2.0 ** -np.arange(1.0, 53)]
    )
    expected = np.array([math.log(value) for value in values])
    np.testing.assert_allclose(natural_log(values), expected, rtol=4e-16, atol=0)
    assert natural_log(np.ones(1))[0] == 0.0


def test_standard_normal_is_normal_and_uncorrelated() -> None:
    sample = standard_normal(Philox(SeedSequence(5)), 40_001)
    assert sample.shape == (40_001,)
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(sample[:-1:2], sample[1::2])[0, 1]) < 0.03  # the two deviates of one pair
    assert np.mean(sample**4) == pytest.approx(3.0, abs=0.15)


def test_initial_states_follow_the_recipe() -> None:
    settings = NBodySettings(position_scale=2.0, speed=0.7, start="random_once")
    positions, velocities, charges, starts = initial_states(settings, "train", np.arange(1500))
    assert stats.kstest(positions.ravel() / 2.0, "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.sqrt((velocities**2).sum(0)), 0.7, rtol=1e-14)
    assert stats.kstest(velocities[2].ravel() / 0.7, stats.uniform(-1, 2).cdf).pvalue > 1e-3  # uniform on the sphere
    assert set(np.unique(charges)) == {-1.0, 1.0}
    assert abs(charges.mean()) < 0.05
    assert (starts.min(), starts.max()) == (0, settings.num_starts - 1)
    assert stats.chisquare(np.bincount(starts)).pvalue > 1e-3


def test_a_trajectory_has_its_own_stream() -> None:
    settings = NBodySettings()
    whole = initial_states(settings, "train", np.arange(10))
    part = initial_states(settings, "train", np.array([7, 2]))
    for all_of_them, chosen in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_them[..., [7, 2]], chosen)


def test_splits_and_seeds_have_different_streams() -> None:
    index = np.arange(3)
    draws = [
        initial_states(NBodySettings(data_seed=seed), split, index)[0].tobytes()
        for seed in (0, 1)
        for split in ("train", "valid", "test")
    ]
    assert len(set(draws)) == 6


def test_starts_that_training_redraws_are_spread_evenly_over_each_split() -> None:
    settings = NBodySettings(start="random", num_test=80)
    *_, starts = initial_states(settings, "test", np.arange(80))
    assert settings.num_starts == 39
    np.testing.assert_array_equal(starts, np.arange(80) * 38 // 80)
    *_, few = initial_states(settings, "test", np.array([70, 3]))
    np.testing.assert_array_equal(few, starts[[70, 3]])
