from __future__ import annotations

import itertools

import pytest

from se3t.config import OptimConfig
from se3t.training.schedule import lr_factor


def test_constant_schedule_is_one_after_the_warm_up() -> None:
    config = OptimConfig(schedule="constant", warmup_steps=4)
    assert [lr_factor(step, config, 100) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert lr_factor(0, OptimConfig(), 100) == 1.0


def test_cosine_schedule_passes_through_its_known_values() -> None:
    config = OptimConfig(schedule="cosine", warmup_steps=20, final_lr_ratio=0.1)
    values = {step: lr_factor(step, config, 120) for step in (20, 45, 70, 95, 120, 500)}
    # t = 0, 1/4, 1/2, 3/4, 1 and beyond: cos is 1, 1/√2, 0, −1/√2, −1
    assert values == pytest.approx(
        {20: 1.0, 45: 0.55 + 0.45 / 2**0.5, 70: 0.55, 95: 0.55 - 0.45 / 2**0.5, 120: 0.1, 500: 0.1}, abs=1e-12
    )


def test_cosine_schedule_never_rises_after_the_warm_up() -> None:
    config = OptimConfig(schedule="cosine", warmup_steps=10, final_lr_ratio=0.0)
    values = [lr_factor(step, config, 50) for step in range(10, 60)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    assert values[-1] == 0.0


def test_warm_up_longer_than_the_training_stays_finite() -> None:
    assert lr_factor(10, OptimConfig(schedule="cosine", warmup_steps=10), 10) == pytest.approx(1.0)


def test_step_schedule_multiplies_the_rate_every_so_many_steps() -> None:
    config = OptimConfig(schedule="step", decay_every=15_000, decay_ratio=0.3)
    values = {step: lr_factor(step, config, 60_000) for step in (0, 14_999, 15_000, 29_999, 30_000, 45_000, 59_999)}
    expected = {0: 1.0, 14_999: 1.0, 15_000: 0.3, 29_999: 0.3, 30_000: 0.09, 45_000: 0.027, 59_999: 0.027}
    assert values == pytest.approx(expected, rel=1e-12)


def test_step_schedule_is_a_function_of_the_step_alone() -> None:
    config = OptimConfig(schedule="step", warmup_steps=2, decay_every=5, decay_ratio=0.5)
    short, long = ([lr_factor(step, config, steps) for step in range(12)] for steps in (12, 10_000))
    assert short == long == [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
