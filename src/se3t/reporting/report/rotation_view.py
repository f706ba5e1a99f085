"""The three-dimensional view of a prediction that turns with its input: the data behind ``se3t figure 3``, checked.

``rotation.html`` has the controls, which ``report.js`` brings to life.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from se3t.reporting.figures.figure3 import Prediction, load_trajectories
from se3t.reporting.published import printed_names
from se3t.runs import Fields, read_json

_FIRST = "se3_transformer"
"""The model that the view opens on."""
_PLACES = 9  # of coordinates: below the rounding of single precision, so that the page can tell an error from none


def load_view(path: Path) -> dict[str, Any]:
    """Read and check a file of Figure 3.

    Returns:
        What the page embeds: nothing but what is shown.

    Raises:
        UserError: naming file and field, when the file cannot be read or holds something else.
    """
    found, first = load_trajectories(path), printed_names()[_FIRST]
    fields = Fields(read_json(path, "what se3t figure 3 wrote"), str(path))
    particles = range(len(found.charges))
    velocities = [[fields.number(f"velocities.{particle}.{axis}") for axis in range(3)] for particle in particles]
    return {
        "data": f"{found.data}, horizon {found.horizon:g}, checksum {fields.text('data.checksum')[:8]}",
        "sample": found.sample,
        "axis": _rounded(found.axis),
        "angles": list(found.angles),
        "charges": list(found.charges),
        "positions": _rounded(found.positions),
        "velocities": _rounded(velocities),
        "target": _rounded(found.target),
        "models": [_model(model) for model in sorted(found.models, key=lambda model: model.label != first)],
    }


def _model(model: Prediction) -> dict[str, Any]:
    return {
        "label": model.label,
        "steps": model.steps,
        "mse": model.mse_x,
        "error": model.equivariance_error_x,
        "predictions": _rounded(model.positions),
    }


def _rounded(value: Any) -> Any:
    return round(float(value), _PLACES) if isinstance(value, int | float) else [_rounded(item) for item in value]
