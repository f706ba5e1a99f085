"""``se3t table``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from se3t.errors import UserError


def run(words: Sequence[str]) -> int:
    """Print Table 1 from run records, once for every data set among them."""
    unknown = [word for word in words if word.startswith("-") and word != "--markdown"]
    if unknown:
        raise UserError(f"{unknown[0]}: no such flag; known: --markdown, --help")
    from se3t.cli.console import console
    from se3t.reporting.table import tables1, to_markdown, to_rich

    tables = tables1(_results([Path(word) for word in words if word != "--markdown"]))
    if not tables:
        raise UserError("table: no finished run there; train one: se3t train experiment=nbody preset=quick")
    for table in tables:
        if "--markdown" in words:
            print(to_markdown(table))
        else:
            console().print(to_rich(table))
    return 0


def _results(paths: Sequence[Path]) -> list[Path]:
    from se3t.reporting.records import find_results

    found: list[Path] = []
    for path in paths or [Path("runs")]:
        if paths and not path.exists():
            raise UserError(f"{path}: does not exist; expected a folder of runs or a result.json")
        found += [path] if path.is_file() else find_results(path)
    return list(dict.fromkeys(found))
