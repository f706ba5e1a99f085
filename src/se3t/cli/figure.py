"""``se3t figure <which>``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from se3t.cli.options import Parser
from se3t.errors import UserError, did_you_mean

_ANGLES = ("0", "30", "60", "90", "120", "150", "180")
_RUNS = Path("runs")
_USAGE4 = (
    "figure 4 [<run folder> …] [--on scanobjectnn | shapes15] [--angles 0,30,…] [--so3] [--out NAME] [--data FILE.json]"
)


def run(words: Sequence[str]) -> int:
    """Draw one figure."""
    which = words[0] if words else ""
    if which not in _DRAW:
        missing = f"{which!r} is unknown" if words else "which one is missing"
        raise UserError(f"figure: {missing}; {did_you_mean(which, _DRAW)}; see se3t figure --help")
    for path in _DRAW[which](words[1:]):
        print(f"written: {path}")
    return 0


def figure4_parser() -> Parser:
    """Flags of ``se3t figure 4``."""
    from se3t.reporting.sweep_runs import DATA

    own = Parser("figure 4", _USAGE4)
    own.add_argument("runs", type=Path, nargs="*")
    own.add_argument("--on", choices=DATA)
    own.add_argument("--angles", type=_angles, metavar="A,B,…")
    own.add_argument("--so3", action="store_true")
    own.add_argument("--out", type=_without_suffix, default=Path("figure4"))
    own.add_argument("--data", type=Path)
    return own


def confusion_parser() -> Parser:
    """Flags of ``se3t figure confusion``."""
    own = Parser("figure confusion", "figure confusion <run folder> [--out NAME]")
    own.add_argument("run", type=Path)
    own.add_argument("--out", type=_without_suffix, default=Path("confusion"))
    return own


def _figure4(words: Sequence[str]) -> list[Path]:
    given = figure4_parser().parse_intermixed_args(list(words))
    if given.data is not None and (given.runs or given.on or given.angles or given.so3):
        raise UserError("figure 4: --data draws what was measured before; leave runs, --on, --angles and --so3 out")
    from se3t.reporting.figures import draw_figure4, load_sweep, save

    _require_writable(given.out)
    if given.data is not None:
        return save(draw_figure4(load_sweep(given.data)), given.out)
    from se3t.reporting.sweep_runs import find_runs

    runs = find_runs(given.runs or [_RUNS], given.on)
    data = _sweep(runs, [*(given.angles or _ANGLES), *["so3"] * given.so3], given.out)
    return [data, *save(draw_figure4(load_sweep(data)), given.out)]


def _sweep(runs: Sequence[Path], rotations: Sequence[str], out: Path) -> Path:
    """Measure runs under rotations, into the JSON file beside the pictures."""
    from se3t.training.rotations import rotation_sweep

    return rotation_sweep(runs, rotations, out.with_name(f"{out.name}.json"), True)


def _confusion(words: Sequence[str]) -> list[Path]:
    given = confusion_parser().parse_args(list(words))
    from se3t.reporting.confusion import draw_confusion, load_confusion
    from se3t.reporting.figures import save

    _require_writable(given.out)
    return save(draw_confusion(load_confusion(given.run)), given.out)


def _angles(text: str) -> list[str]:
    """Angles as the task spells them, in ascending order."""
    try:
        angles = sorted({float(word) for word in text.split(",")})
    except ValueError:
        angles = [-1.0]
    if not all(0 <= angle <= 180 for angle in angles):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected degrees from 0 to 180, such as 0,90,180")
    return [f"{angle:g}" for angle in angles]


def _without_suffix(text: str) -> Path:
    path = Path(text)
    return path.with_suffix("") if path.suffix in (".png", ".pdf", ".json") else path


def _require_writable(out: Path) -> None:
    """Look at the targets before the work, not after it."""
    from se3t.bench.report import check_writable
    from se3t.reporting.figures import SUFFIXES

    if not out.name:
        raise UserError("--out: is empty; expected the name of the files without their endings")
    for suffix in (*SUFFIXES, ".json"):
        check_writable(out.with_name(out.name + suffix))


_DRAW: dict[str, Callable[[Sequence[str]], list[Path]]] = {"4": _figure4, "confusion": _confusion}
