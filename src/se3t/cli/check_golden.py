"""``se3t check-golden``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se3t.cli.options import Parser
from se3t.errors import UserError

if TYPE_CHECKING:
    from se3t.compat.golden import Comparison

KERNELS = ("native", "edge_frame", "vectorised", "reference")
PRECISIONS = ("64", "32")
EXCEEDED, UNREADABLE = 1, 2


def parser() -> Parser:
    """The flags of ``se3t check-golden``."""
    parser = Parser("check-golden", "check-golden FILE … [--kernel NAME] [--precision 64 | 32]")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--kernel", choices=[*KERNELS, "all"], default="all")
    parser.add_argument("--precision", choices=[*PRECISIONS, "all"], default="all")
    parser.add_argument("--device", default="cpu")
    return parser


def run(words: Sequence[str]) -> int:
    """Compare reference files with what this library computes.

    Returns:
        0 when all errors are within their tolerances, 1 when one is above, 2 when a file cannot be used.
    """
    given = parser().parse_args(list(words))
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
            print(f"se3t: {reason}", file=sys.stderr)
            status = UNREADABLE
            continue
        _print(path, columns, results)
        if not all(entry.passed for column in results for entry in column):
            status = max(status, EXCEEDED)
    return status


def _device(name: str) -> str:
    import torch

    if name.split(":")[0] not in ("cpu", "cuda") or (name.startswith("cuda") and not torch.cuda.is_available()):
        raise UserError(f"--device {name}: torch has no such device here; use cpu (`se3t doctor` says what there is)")
    return name


def _compare(path: Path, columns: Sequence[tuple[str, str]], device: str) -> list[list[Comparison]]:
    from rich.console import Console
    from rich.progress import track

    from se3t.compat.golden import compare
    from se3t.compat.weights import read_file

    content = read_file(path)
    terminal = Console(stderr=True)
    work = track(columns, path.name, console=terminal, transient=True, disable=not terminal.is_terminal)
    return [
        compare(content, str(path), kernel=kernel, precision=precision, device=device) for precision, kernel in work
    ]


def _print(path: Path, columns: Sequence[tuple[str, str]], results: Sequence[Sequence[Any]]) -> None:
    from rich.table import Table

    from se3t.cli.console import console

    failures = sum(not entry.passed for column in results for entry in column)
    verdict = "all within tolerance" if failures == 0 else f"{failures} above tolerance, marked !"
    console().print(f"{path}: {verdict}; largest relative errors", soft_wrap=True, highlight=False, markup=False)
    for wanted in dict.fromkeys(precision for precision, _ in columns):
        numbers = [number for number, (precision, _) in enumerate(columns) if precision == wanted]
        table = Table("quantity", title=f"float{wanted}", title_justify="left")
        for number in numbers:
            table.add_column(columns[number][1], justify="right")
        table.add_column("tolerance", justify="right")
        table.add_column("worst part")
        for row in zip(*(results[number] for number in numbers), strict=True):
            cells = [f"{'' if entry.passed else '! '}{entry.error:.1e}" for entry in row]
            table.add_row(row[0].name, *cells, f"{row[0].tolerance:.0e}", row[0].worst)
        console().print(table)
