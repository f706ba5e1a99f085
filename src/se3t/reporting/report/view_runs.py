"""Which runs the three-dimensional view shows, and whether what was measured of them before still holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from se3t import __version__
from se3t.errors import UserError
from se3t.files import write_atomically
from se3t.reporting.published import load_published
from se3t.reporting.records import read_json
from se3t.reporting.report.runs import FINISHED, RESULT, Run

NAME = "figure3.json"
_EXPERIMENT = "nbody"
_WEIGHTS = Path("checkpoints") / "best.ckpt"
_KEY = "measured_from"


def view_runs(runs: Sequence[Run]) -> list[Path]:
    """Of every system one finished N-body run with weights, in the order of the paper, all on the same data: those with
    most systems, then with the largest budget.
    """
    usable = [run for run in runs if run.state == FINISHED and run.experiment == _EXPERIMENT and _has_weights(run)]
    by_data: dict[tuple[str, ...], dict[str, Run]] = {}
    for run in sorted(usable, key=_rank):
        data = tuple(str(run.data.get(name)) for name in ("preset", "horizon", "checksum"))
        by_data.setdefault(data, {}).setdefault(run.system, run)
    if not by_data:
        return []
    best = max(by_data.values(), key=lambda found: (len(found), sum(_budget(run) for run in found.values())))
    paper = list(load_published("table1").models)
    order = {name: place for place, name in enumerate(paper)}
    return [run.folder for run in sorted(best.values(), key=lambda run: (order.get(run.model, len(paper)), run.system))]


def _has_weights(run: Run) -> bool:
    return (run.folder / _WEIGHTS).is_file()


def _budget(run: Run) -> int:
    return run.steps[0] or 0


def _rank(run: Run) -> tuple[int, int, str]:
    return (-_budget(run), run.seed or 0, str(run.folder))


def sources(folders: Sequence[Path]) -> dict[str, str]:
    """By folder what its numbers follow from: the weights, the record, and this package."""
    found = {}
    for folder in folders:
        digest = hashlib.sha256(__version__.encode())
        for path in (folder / _WEIGHTS, folder / RESULT):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        found[str(folder)] = digest.hexdigest()[:16]
    return found


def is_current(path: Path, wanted: Mapping[str, str]) -> bool:
    """Whether a file of Figure 3 was measured from just these."""
    try:
        return path.is_file() and read_json(path, "what se3t figure 3 wrote").get(_KEY) == dict(wanted)
    except UserError:
        return False


def remember(path: Path, wanted: Mapping[str, str]) -> None:
    """Note in a file of Figure 3 what it was measured from."""
    content = {**read_json(path, "what se3t figure 3 wrote"), _KEY: dict(wanted)}
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
