"""``se3t check-golden``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from se3t.cli.options import Parser
from se3t.errors import UserError
from se3t.screen import show

if TYPE_CHECKING:
    from se3t.compat.golden import Comparison

KERNELS = ("native", "edge_frame", "vectorised", "reference")
PRECISIONS = ("64", "32")
EXCEEDED, UNREADABLE = 1, 2

_Results: TypeAlias = "dict[tuple[str, str], list[Comparison]]"  # by precision and kernel


def parser() -> Parser:
    """The flags of ``se3t check-golden``."""
    parser = Parser("check-golden")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--kernel", choices=[*KERNELS, "all"], default="all")
    parser.add_argument("--precision", choices=[*PRECISIONS, "all"], default="all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--verbose", action="store_true")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Compare reference files with what this library computes: a line for each file, with ``--verbose`` all numbers.

    Returns:
        0 when all errors are within their tolerances, 1 when one is above, 2 when a file cannot be used.
    """
    given = parser().parse_args(list(arguments))
    kernels = KERNELS if given.kernel == "all" else (given.kernel,)
    precisions = PRECISIONS if given.precision == "all" else (given.precision,)
    columns = [(precision, kernel) for precision in precisions for kernel in kernels]
    device = _device(given.device)
    status = 0
    for path in given.files:
        try:
            results = _compare(path, columns, device)
        except (UserError, OSError) as error:  # such as a folder that may not be entered: the other files still count
            reason = error if isinstance(error, UserError) else f"{path}: {error.strerror or error}"
            show(f"se3t: {reason}", file=sys.stderr)
            status = UNREADABLE
            continue
        _print_line(path, results)
        if given.verbose:
            _print_tables(results)
        if not all(entry.passed for entries in results.values() for entry in entries):
            status = max(status, EXCEEDED)
    return status


def _device(name: str) -> str:
    import torch

    if name.split(":")[0] not in ("cpu", "cuda") or (name.startswith("cuda") and not torch.cuda.is_available()):
        raise UserError(f"--device {name}: torch has no such device here; use cpu (`se3t doctor` says what there is)")
    return name


def _compare(path: Path, columns: Sequence[tuple[str, str]], device: str) -> _Results:
    from rich.progress import Progress

    from se3t.compat.golden import compare, rounding
    from se3t.compat.weights import read_file
    from se3t.screen import bar_columns, console

    content = read_file(path)
    rounded = rounding(content, str(path)) if any(precision == "32" for precision, _ in columns) else None
    screen = console(stderr=True)
    bar = Progress(*bar_columns(screen), console=screen, transient=True, disable=not screen.is_terminal)
    with bar:
        return {
            (precision, kernel): compare(
                content, str(path), kernel=kernel, precision=precision, device=device, rounded=rounded
            )
            for precision, kernel in bar.track(columns, description=path.name)
        }


def _print_line(path: Path, results: _Results) -> None:
    """The verdict, and by precision the error that is nearest to its tolerance, or farthest above it."""
    from se3t.screen import console, say

    failures = sum(not entry.passed for entries in results.values() for entry in entries)
    verdict = f"{failures} above tolerance" if failures else "all within tolerance"
    largest = []
    for wanted in dict.fromkeys(precision for precision, _ in results):
        entries = [(entry, key[1]) for key, column in results.items() for entry in column if key[0] == wanted]
        worst, kernel = max(entries, key=lambda pair: pair[0].share)
        largest.append(f"float{wanted} {worst.name} {worst.error:.1e} of {worst.tolerance:.0e} ({kernel})")
    say(console(), f"{path}: {verdict}; largest relative errors: {', '.join(largest)}")


def _print_tables(results: _Results) -> None:
    """Largest relative errors of every quantity, by precision and kernel; errors above their tolerance are marked."""
    from rich.table import Column, Table

    from se3t.screen import Folded, console

    for wanted in dict.fromkeys(precision for precision, _ in results):
        columns = {kernel: entries for (precision, kernel), entries in results.items() if precision == wanted}
        numbers = [Column(name, justify="right") for name in (*columns, "tolerance")]
        title = f"float{wanted}: largest relative errors"
        table = Table("quantity", *numbers, "worst part", title=title, title_justify="left")
        for row in zip(*columns.values(), strict=True):
            cells = [f"{'' if entry.passed else '! '}{entry.error:.1e}" for entry in row]
            table.add_row(row[0].name, *cells, f"{row[0].tolerance:.0e}", row[0].worst)
        console().print(Folded(table))
