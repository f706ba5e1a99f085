"""The three-dimensional view of a prediction that rotates with its input: its runs, and the data that the page embeds.

``rotation.html`` has the controls, which ``report.js`` handles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from se3t import __version__
from se3t.errors import UserError
from se3t.experiments.nbody import NBodyRecord
from se3t.reporting.figures.figure3 import Prediction, load_trajectories
from se3t.reporting.figures.trajectory_runs import EXPERIMENT, finished_run, one_of_each
from se3t.reporting.published import load_published, printed_names
from se3t.reporting.report.runs import Run
from se3t.runs import Fields, read_json
from se3t.runs.files import write_json
from se3t.runs.names import FINISHED, RESULT

NAME = "report_figure3.json"
"""Of the report's own file: ``figure3.json`` beside it is the user's."""

_WEIGHTS = Path("checkpoints") / "best.ckpt"
_KEY = "measured_from"
_FIRST = "se3_transformer"
"""The model that the view opens on."""
_PLACES = 9  # of coordinates: below the rounding of single precision, so that the page can tell an error from none


def view_runs(runs: Sequence[Run]) -> tuple[list[Path], list[str]]:
    """One finished N-body run with weights of every system, in the order of the paper, all on the same data, as
    :func:`se3t.reporting.figures.trajectory_runs.one_of_each` chooses them.

    Returns:
        Their folders, and the reasons why records were left out.
    """
    records, left_out = dict[Path, NBodyRecord](), list[str]()
    for run in runs:
        if run.state == FINISHED and run.experiment == EXPERIMENT and (run.folder / _WEIGHTS).is_file():
            try:
                records[run.folder] = finished_run(run.folder)
            except UserError as error:
                left_out.append(str(error))
    order = list(load_published("table1").models)
    models = {folder: records[folder].model for folder in one_of_each(records)}
    places = {folder: order.index(model) if model in order else len(order) for folder, model in models.items()}
    chosen = sorted(places, key=lambda folder: (places[folder], records[folder].ablation != "none", str(folder)))
    return chosen, left_out


def sources(folders: Sequence[Path]) -> dict[str, str]:
    """A digest of what determines the numbers of each run: weights, record, and version of this package."""
    digests = {}
    for folder in folders:
        digest = hashlib.sha256(__version__.encode())
        for path in (folder / _WEIGHTS, folder / RESULT):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        digests[str(folder)] = digest.hexdigest()[:16]
    return digests


def is_current(path: Path, wanted: Mapping[str, str]) -> bool:
    """Whether a file of Figure 3 was measured from exactly these."""
    try:
        return path.is_file() and read_json(path, "what se3t figure 3 wrote").get(_KEY) == dict(wanted)
    except UserError:
        return False


def shown(path: Path, chosen: Sequence[Path]) -> list[Path]:
    """The chosen runs that a file of Figure 3 shows; those that failed are not in it, and are tried again."""
    models = read_json(path, "what se3t figure 3 wrote").get("models")
    names = {model.get("run") for model in models} if isinstance(models, list) else set()
    return [folder for folder in chosen if str(folder) in names]


def may_be_replaced(path: Path) -> bool:
    """Whether there is no file, or one that the report has written."""
    try:
        return not path.exists() or _KEY in read_json(path, "what se3t report wrote")
    except UserError:
        return False


def remember(measured: Path, wanted: Mapping[str, str], path: Path) -> None:
    """Keep a file of Figure 3, with a note of what it was measured from.

    Args:
        measured: the file.
        wanted: what :func:`sources` says of its runs.
        path: where to keep it.
    """
    content = {**read_json(measured, "what se3t figure 3 wrote"), _KEY: dict(wanted)}
    write_json(path, content)


# --- what the page embeds ---------------------------------------------------------------------------------------------


def load_view(path: Path) -> dict[str, Any]:
    """Read and check a file of Figure 3.

    Returns:
        What the page embeds: nothing but what is shown.

    Raises:
        UserError: naming file and field, when the file cannot be read or holds something else.
    """
    shown, first = load_trajectories(path), printed_names()[_FIRST]
    fields = Fields.read(path, "what se3t figure 3 wrote")
    particles = range(len(shown.charges))
    velocities = [[fields.number(f"velocities.{particle}.{axis}") for axis in range(3)] for particle in particles]
    return {
        "data": f"{shown.data}, horizon {shown.horizon:g}, checksum {fields.text('data.checksum')[:8]}",
        "sample": shown.sample,
        "axis": _rounded(shown.axis),
        "angles": list(shown.angles),
        "charges": list(shown.charges),
        "positions": _rounded(shown.positions),
        "velocities": _rounded(velocities),
        "target": _rounded(shown.target),
        "models": [_model(model) for model in sorted(shown.models, key=lambda model: model.label != first)],
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
