"""How long a training takes, from its first steps. Imports no torch."""

from __future__ import annotations

import yaml

from se3t.config import Config, choices, conf_file

LONG_SECONDS = 3600.0
_SHORT_SECONDS = 1200.0


def duration(seconds: float) -> str:
    """Such as "40 s", "12 min", "3.5 h" or "6 days"."""
    for size, unit, least in ((86_400, "days", 2), (3_600, "h", 2), (60, "min", 1.5)):
        if seconds >= least * size:
            digits = 1 if seconds < 10 * size and unit != "min" else 0
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def forecast(config: Config, steps_left: int, seconds_per_step: float) -> str:
    """What the rest of a training takes, in a sentence; where that is hours, with the preset that takes minutes.

    Args:
        config: of the run.
        steps_left: steps to the end.
        seconds_per_step: as measured; evaluations come on top.
    """
    seconds = steps_left * seconds_per_step
    pace = f"{1000 * seconds_per_step:.3g} ms"
    text = f"about {duration(seconds)} for {steps_left:,} steps at {pace}, evaluations not counted"
    shorter = shorter_preset(config, seconds_per_step) if seconds >= LONG_SECONDS else None
    if shorter is None:
        return text
    name, steps = shorter
    return f"{text}; preset={name} ({steps:,} steps) takes about {duration(steps * seconds_per_step)} at this pace"


def shorter_preset(config: Config, seconds_per_step: float) -> tuple[str, int] | None:
    """The longest preset of the experiment that takes minutes on the same data, with its number of steps; None where
    there is none.
    """
    shorter: list[tuple[int, str]] = []
    for name in choices(f"budget/{config.experiment}"):
        path = conf_file(f"budget/{config.experiment}/{name}.yaml")
        assert path is not None
        budget = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        steps = None if "data" in budget else budget.get("trainer", {}).get("max_steps")
        if isinstance(steps, int) and steps < config.trainer.max_steps and steps * seconds_per_step <= _SHORT_SECONDS:
            shorter.append((steps, name))
    if not shorter:
        return None
    steps, name = max(shorter)
    return name, steps
