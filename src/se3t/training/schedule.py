"""Learning rates as a function of the step, and under ``trainer.max_time`` of the share of it that is used: nothing of
their own to save or restore. Imports no torch.
"""

from __future__ import annotations

import math

from se3t.config import OptimConfig


def lr_factor(step: int, config: OptimConfig, max_steps: int, time_share: float = 0.0) -> float:
    """What the base learning rate is multiplied with in a step.

    Linear warm-up, (s + 1) / w for the first w steps; then 1 ("constant"), or q to the power of ⌊s / n⌋ ("step"), or
    half a cosine from 1 down to r ("cosine"), r + (1 − r)(1 + cos πt) / 2, with t running from 0 to 1 between the end
    of the warm-up and ``max_steps``. Where the time is further than the steps, its share takes the place of t: the rate
    reaches its end with the run, whichever budget ends it.

    Args:
        step: s, number of steps already taken, from 0.
        config: w is ``warmup_steps``, r is ``final_lr_ratio``, q is ``decay_ratio``, n is ``decay_every``.
        max_steps: length of the training.
        time_share: how much of ``trainer.max_time`` is used, from 0 to 1; 0 without such a limit.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "step":
        return config.decay_ratio ** (step // config.decay_every)
    progress = min(max((step - config.warmup_steps) / max(max_steps - config.warmup_steps, 1), time_share), 1.0)
    return config.final_lr_ratio + (1 - config.final_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
