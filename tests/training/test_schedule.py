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
