"""Runs of one Figure 3: finding them, choosing among many, and refusing those that cannot share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from se3t.config import NBodyData
from se3t.errors import UserError
from se3t.experiments import nbody
from se3t.experiments.nbody import NBodyRecord, Simulation, parse_record
from se3t.reporting.reading import finished_below, finished_fields
from se3t.reporting.tables.ablations import ablated_name

EXPERIMENT = nbody.EXPERIMENT.name
SYSTEMS = ("set_transformer", "se3_transformer")
"""What the paper's figure shows, in its order."""

MAX_RUNS = 6
_System: TypeAlias = tuple[str, str]  # model and what was taken out of it
_PAPER: tuple[_System, ...] = tuple((model, "none") for model in SYSTEMS)
_DEFAULT_DATA = NBodyData().preset
_EXPECTED = f"expected the folder of a finished run; make one: se3t train experiment={EXPERIMENT} preset=reduced"


def find_trajectory_runs(paths: Sequence[Path]) -> list[Path]:
    """Folders of the runs that Figure 3 shows.

    Args:
        paths: folders of finished runs; of a folder above several the Set Transformer and the SE(3)-Transformer with
            the largest budget on the same data.

    Raises:
        UserError: a folder without such a run, a run of another experiment, runs on different data, or too many.
    """
    runs: dict[Path, NBodyRecord] = {}
    for path in paths:
        runs |= {path: finished_run(path)} if (path / "result.json").is_file() else _choose(path)
    if len(runs) > MAX_RUNS:
        raise UserError(f"figure 3: {len(runs)} runs do not fit into one figure; give at most {MAX_RUNS}")
    require_same_data(runs)
    return list(runs)


def finished_run(folder: Path) -> NBodyRecord:
    """The record of a finished N-body run.

    Raises:
        UserError: there is none, or it is one of another experiment.
    """
    return parse_record(finished_fields(folder, EXPERIMENT, _EXPECTED))


def require_same_data(runs: Mapping[Path, NBodyRecord]) -> None:
    """Refuse runs on different data.

    Raises:
        UserError: naming two of them.
    """
    folders = list(runs)
    for folder in folders[1:]:
        if runs[folder].data != runs[folders[0]].data:
            data = [runs[path].data.name() for path in (folder, folders[0])]
            raise UserError(
                f"{folder}: is on {data[0]}, but {folders[0]} on {data[1]}; the figure shows one trajectory, give "
                "runs on the same data"
            )


def labels(runs: Sequence[NBodyRecord]) -> list[str]:
    """What the figure calls the runs: the system, and the ablation, seed or folder where that is needed."""
    names = [ablated_name(run.model, run.ablation) for run in runs]
    for tell in (lambda run: f"seed {run.seed}", lambda run: f"{run.steps_done:,} steps", _folder):
        names = [
            f"{name}, {tell(run)}" if names.count(name) > 1 else name for name, run in zip(names, runs, strict=True)
        ]
    return names


def _folder(run: NBodyRecord) -> str:
    return Path(run.origin).parent.name


def _choose(path: Path) -> dict[Path, NBodyRecord]:
    """Of the runs below a folder one of each system of the paper's figure."""
    runs = {folder: parse_record(run) for folder, run in finished_below(path, EXPERIMENT).items()}
    shown = {folder: run for folder, run in runs.items() if _system(run) in _PAPER}
    best = one_of_each(shown)
    if len(best) < len(SYSTEMS):
        raise _missing(path, shown.values())
    return {folder: runs[folder] for system in _PAPER for folder in best if _system(runs[folder]) == system}


def one_of_each(runs: Mapping[Path, NBodyRecord]) -> list[Path]:
    """One run of each system, all on the same data, from runs on any data.

    The data are those where both systems of the paper's figure have the largest budget; where no data have both, those
    with the largest budget of any system. Of several runs of a system the one with the largest budget is chosen.
    """
    by_data: dict[Simulation, dict[_System, Path]] = {}
    for folder in sorted(runs, key=lambda folder: _rank(runs[folder], folder)):
        by_data.setdefault(runs[folder].data, {}).setdefault(_system(runs[folder]), folder)
    best = min(by_data.values(), key=lambda paths: _rank_of_data([runs[path] for path in paths.values()]), default={})
    return list(best.values())


def _system(run: NBodyRecord) -> _System:
    return run.model, run.ablation


def _budget(run: NBodyRecord) -> int:
    return run.steps_done * run.batch_size


def _rank(run: NBodyRecord, folder: Path) -> tuple[int, int, str]:
    return (-_budget(run), run.seed, str(folder))


def _rank_of_data(runs: Sequence[NBodyRecord]) -> tuple[Any, ...]:
    """The largest budget first, then the most systems, then the data of Table 1, with as few settings changed as there
    are.
    """
    paper = [_budget(run) for run in runs if _system(run) in _PAPER]
    has_both = len(paper) == len(_PAPER)
    budget = min(paper) if has_both else max(map(_budget, runs))
    data = runs[0].data
    return (not has_both, -budget, -len(runs), data.preset != _DEFAULT_DATA, len(runs[0].overridden), data)


def _missing(path: Path, runs: Iterable[NBodyRecord]) -> UserError:
    models = [run.model for run in runs]
    missing = [model for model in SYSTEMS if model not in models]
    if not missing:
        return UserError(
            f"{path}: its runs of {' and '.join(SYSTEMS)} are on different data; the figure shows one trajectory, "
            "train both on the same data or give the folder of one run"
        )
    them, several = ("them", "-m ") if len(missing) > 1 else ("it", "")
    return UserError(
        f"{path}: no finished run of {' or '.join(missing)} in it; make {them}: se3t train {several}"
        f"experiment={EXPERIMENT} preset=reduced model={','.join(missing)}, or give the folder of one run"
    )
