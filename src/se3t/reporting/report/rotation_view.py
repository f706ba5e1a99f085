"""The three-dimensional view of a prediction that turns with its input: the data behind ``se3t figure 3``, checked, and
the controls that ``report.js`` brings to life.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se3t.reporting.figures.figure3 import Prediction, load_trajectories
from se3t.reporting.published import printed_names
from se3t.reporting.report.markup import Markup, element, embedded_json, join
from se3t.runs import Fields, read_json

_FIRST = "se3_transformer"
"""The model that the view opens on."""
_PLACES = 9  # of coordinates: below the rounding of single precision, so that the page can tell an error from none
_SHOWN = (
    ("input", "input", True),
    ("truth", "truth", True),
    ("prediction", "prediction", True),
    ("circles", "perfect model", True),
    ("path", "predictions at all angles", True),
    ("velocities", "velocities of the input", False),
)


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


# --- markup -----------------------------------------------------------------------------------------------------------


def rotation_view(view: Mapping[str, Any]) -> Markup:
    """The picture, its controls and what they say."""
    canvas = element(
        "canvas",
        "A drawing of charged particles, their true and their predicted positions.",
        id="scene",
        tabindex="0",
        role="img",
        aria_describedby="scene-help",
        aria_label="Charged particles before and after, seen in three dimensions",
    )
    hint = "Drag to turn the camera, or use the arrow keys; + and − change the distance, Home resets it."
    scene = element("div", canvas, _legend(), element("p", hint, id="scene-help", class_="note"), class_="scene")
    panel = element("div", _controls(view), _readout(), class_="panel")
    return join([element("div", scene, panel, class_="view", id="view"), embedded_json(view, "view-data")])


def _controls(view: Mapping[str, Any]) -> Markup:
    options = [element("option", model["label"], value=index) for index, model in enumerate(view["models"])]
    last = len(view["angles"]) - 1
    slider = element("input", id="angle", type="range", min=0, max=last, step=1, value=0, aria_describedby="angle-text")
    boxes = [
        element("label", element("input", type="checkbox", data_show=name, checked=checked), f" {label}")
        for name, label, checked in _SHOWN
    ]
    return join(
        [
            element("label", "Model ", element("select", options, id="model"), class_="field"),
            element("label", "Rotation of the input ", element("output", id="angle-text"), slider, class_="field"),
            element("button", "Play", id="play", type="button", aria_pressed="false"),
            element("fieldset", element("legend", "Show"), boxes),
        ]
    )


def _readout() -> Markup:
    """How far the prediction is from the perfect one, at this angle and at the worst, and what the model is."""
    head = element("tr", element("td"), *(element("th", name, scope="col") for name in ("at this angle", "largest")))
    rows = [
        element(
            "tr",
            element("th", label, scope="row"),
            *(element("td", id=f"read-{name}-{place}", class_="number") for place in ("here", "largest")),
        )
        for name, label in (("distance", "distance"), ("relative", "Δ_EQ"))
    ]
    caption = element("caption", "From the perfect rotation")
    table = element("table", caption, element("thead", head), element("tbody", rows))
    entries = (
        ("mse", "MSE x of this sample, not rotated"),
        ("error", "Δ_EQ of positions, all of test"),
        ("steps", "training steps"),
    )
    facts = [[element("dt", label), element("dd", id=f"read-{name}")] for name, label in entries]
    return element("div", table, element("dl", facts), class_="readout")


def _legend() -> Markup:
    entries = (
        ("positive", "charge +1"),
        ("negative", "charge −1"),
        ("input", "input"),
        ("truth", "truth"),
        ("prediction", "prediction"),
        ("circle", "perfect model"),
    )
    items = [element("span", element("i", class_=f"key {name}", aria_hidden="true"), label) for name, label in entries]
    return element("p", items, class_="legend")
