"""``se3t figure <which>``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from se3t.cli.options import Parser, from_zero, output, positive, require_pictures
from se3t.errors import UserError, did_you_mean
from se3t.experiments import experiments
from se3t.reporting.figures.rotation_runs import DATA, find_runs
from se3t.screen import show

_ANGLES = ("0", "30", "60", "90", "120", "150", "180")
_RUNS = Path("runs")
_OTHER_FORMATS = (".svg", ".jpg", ".jpeg", ".eps", ".ps", ".tif", ".tiff", ".webp", ".html", ".docx", ".txt", ".csv")


def run(arguments: Sequence[str]) -> int:
    """Draw one figure."""
    which = arguments[0] if arguments else ""
    if which not in FIGURES:
        missing = f"{which!r} is unknown" if arguments else "which one is missing"
        raise UserError(f"figure: {missing}; {did_you_mean(which, FIGURES)}; see se3t figure --help")
    given = parser(which).parse_intermixed_args(list(arguments[1:]))
    if getattr(given, "data", None) is not None:
        _require_nothing_to_measure(which, given)
    for path in FIGURES[which][0](given):
        show(f"written: {path}")
    return 0


def parser(which: str) -> Parser:
    """The flags of one figure."""
    parser = Parser(f"figure {which}")
    parser.add_argument("--out", type=_without_suffix, default=Path(FIGURES[which][1]))
    for flag, figures, how in _FLAGS:
        if which in figures.split():
            parser.add_argument(flag, **how)
    return parser


def _require_nothing_to_measure(which: str, given: argparse.Namespace) -> None:
    for name, value in vars(given).items():
        if name not in ("data", "out", "gif") and value is not None and value is not False and value != []:
            argument = name if name == "runs" else f"--{name.replace('_', '-')}"
            raise UserError(f"figure {which}: --data draws what was measured before; leave {argument} out")


def _angles(text: str) -> list[str]:
    """Angles as the task spells them, in ascending order."""
    try:
        angles = sorted({float(word) for word in text.split(",")})
    except ValueError:
        angles = [-1.0]
    if not all(0 <= angle <= 180 for angle in angles):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected degrees from 0 to 180, such as 0,90,180")
    return [f"{angle:g}" for angle in angles]


def _step(text: str) -> float:
    """An angle that divides the full turn."""
    try:
        step = float(text)
    except ValueError:
        step = 0.0
    if not 0 < step <= 180 or abs(360 / step - round(360 / step)) > 1e-9:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected degrees that divide 360, such as 10")
    return step


def _without_suffix(text: str) -> Path:
    path = output(text)
    if text.endswith(("/", "\\")) or path.is_dir():
        raise argparse.ArgumentTypeError(f"got {text!r}, a folder; expected a folder and a name for the files in it")
    if path.suffix.lower() in _OTHER_FORMATS:
        raise argparse.ArgumentTypeError(f"got {text!r}; figures are written as .png and .pdf, so leave the suffix out")
    return path.with_suffix("") if path.suffix in (".png", ".pdf", ".gif", ".json") else path


# --- work -------------------------------------------------------------------------------------------------------------


def _figure3(given: argparse.Namespace) -> list[Path]:
    from se3t.reporting.figures.figure3 import animate_figure3, draw_figure3, load_trajectories
    from se3t.reporting.figures.style import save

    require_pictures(given.out, ".json", *[".gif"] * given.gif)
    data = given.data or _predict(given)
    trajectories = load_trajectories(data)
    written = [*([] if given.data else [data]), *save(draw_figure3(trajectories), given.out)]
    return [*written, animate_figure3(trajectories, _target(given.out, ".gif"))] if given.gif else written


def _predict(given: argparse.Namespace) -> Path:
    """What the runs predict, in the JSON file beside the pictures."""
    from se3t.reporting.figures.trajectory_runs import find_trajectory_runs

    runs = find_trajectory_runs(given.runs or [_RUNS])
    from se3t.measure.trajectories import STEP, trajectories

    for folder in runs:
        show(f"shown: {folder}")
    step = STEP if given.step is None else given.step
    return trajectories(runs, _target(given.out, ".json"), given.sample, step=step, progress=True)


def _figure4(given: argparse.Namespace) -> list[Path]:
    from se3t.reporting.figures.figure4 import draw_figure4, load_rotations
    from se3t.reporting.figures.style import save

    require_pictures(given.out, ".json")
    if given.data is not None:
        return save(draw_figure4(load_rotations(given.data)), given.out)
    runs = find_runs(given.runs or [_RUNS], given.on)
    from se3t.measure.rotations import rotation_sweep

    rotations = [*(given.angles or _ANGLES), *["so3"] * given.so3]
    data = rotation_sweep(runs, rotations, _target(given.out, ".json"), True)
    return [data, *save(draw_figure4(load_rotations(data)), given.out)]


def _confusion(given: argparse.Namespace) -> list[Path]:
    from se3t.reporting.figures.confusion import draw_confusion, load_confusion
    from se3t.reporting.figures.style import save

    require_pictures(given.out)
    return save(draw_confusion(load_confusion(given.run)), given.out)


def _harmonics(given: argparse.Namespace) -> list[Path]:
    from se3t.reporting.figures.harmonics import draw_harmonics, load_harmonics
    from se3t.reporting.figures.style import save

    require_pictures(given.out, ".json")
    data = given.data or [_measure_harmonics(given)]
    return [*([] if given.data else data), *save(draw_harmonics(load_harmonics(data)), given.out)]


def _measure_harmonics(given: argparse.Namespace) -> Path:
    """The benchmark on the CPU, and on a GPU where there is one, in the JSON file beside the pictures."""
    import torch

    from se3t.allocator import keep_freed_memory
    from se3t.bench import sh
    from se3t.bench.options import Options
    from se3t.reporting.figures.harmonics import write_harmonics
    from se3t.screen import console

    keeps, reports = keep_freed_memory(), []
    for device in ("cpu", *["cuda"] * torch.cuda.is_available()):
        options = Options(device=device, threads=given.threads, quick=given.quick)
        report = sh.run(options, (), given.max_degree, given.num_vectors)
        report.machine["keeps_freed_memory"] = keeps
        console().print(report.to_rich())
        reports.append(report.to_json())
    return write_harmonics(reports, _target(given.out, ".json"))


def _curves(given: argparse.Namespace) -> list[Path]:
    from se3t.reporting.figures.curve_runs import find_curve_runs
    from se3t.reporting.figures.curves import draw_curves, learning_curves
    from se3t.reporting.figures.style import save

    require_pictures(given.out)
    runs = find_curve_runs(given.runs or [_RUNS], given.metric, given.experiment, given.preset)
    return save(draw_curves(learning_curves(runs, given.metric)), given.out)


def _target(out: Path, suffix: str) -> Path:
    return out.with_name(out.name + suffix)


_FLAGS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("runs", "3 4 curves", {"type": Path, "nargs": "*"}),
    ("run", "confusion", {"type": Path}),
    ("--sample", "3", {"type": from_zero, "metavar": "N"}),
    ("--step", "3", {"type": _step, "metavar": "DEGREES"}),
    ("--gif", "3", {"action": "store_true"}),
    ("--on", "4", {"choices": DATA}),
    ("--angles", "4", {"type": _angles, "metavar": "A,B,…"}),
    ("--so3", "4", {"action": "store_true"}),
    ("--metric", "curves", {"default": "loss", "metavar": "NAME"}),
    ("--experiment", "curves", {"choices": experiments()}),
    ("--preset", "curves", {"metavar": "NAME"}),
    ("--max-degree", "sh", {"type": from_zero, "metavar": "J"}),
    ("--num-vectors", "sh", {"type": positive, "metavar": "N"}),
    ("--threads", "sh", {"type": positive, "metavar": "N"}),
    ("--quick", "sh", {"action": "store_true"}),
    ("--data", "3 4", {"type": Path}),
    ("--data", "sh", {"type": Path, "nargs": "+"}),
)
"""Arguments: their name, the figures that have them, how they are read."""
FIGURES: dict[str, tuple[Callable[[argparse.Namespace], list[Path]], str]] = {
    "3": (_figure3, "figure3"),
    "4": (_figure4, "figure4"),
    "confusion": (_confusion, "confusion"),
    "curves": (_curves, "curves"),
    "sh": (_harmonics, "harmonics"),
}
"""By figure: the function that draws it, and the name of its files."""
