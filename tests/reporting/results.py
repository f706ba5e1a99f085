"""Results as training writes them, for the tests of reporting."""

from __future__ import annotations

from typing import Any


def result(model: str = "se3_transformer", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A finished run; ``changes`` replace fields by dotted name, ``__`` for the dot."""
    content: dict[str, Any] = {
        "status": "finished",
        "experiment": "nbody",
        "model": model,
        "preset": None,
        "seed": seed,
        "budget": {"max_steps": 2000, "batch_size": 128, "steps_done": 2000, "seconds": 10.0},
        "parameters": 12345,
        "data": {
            "preset": "calibrated",
            "horizon": 1.0,
            "checksum": "0123456789abcdef",
            "baselines": {"constant_velocity": [0.07, 0.26], "constant_position": [0.2, 0.26]},
        },
        "test": {
            "mse_x": 0.035,
            "mse_v": 0.13,
            "relative_mse_x": 0.5,
            "relative_mse_v": 0.5,
            "equivariance_error_x": 3.4e-7,
            "equivariance_error_v": 5.6e-7,
        },
        "config": {
            "seed": seed,
            "runs": "runs",
            "model": {"name": model, "channels": 8},
            "trainer": {"max_steps": 2000},
        },
    }
    for name, value in changes.items():
        target = content
        *path, last = name.split("__")
        for key in path:
            target = target[key]
        target[last] = value
    return content
