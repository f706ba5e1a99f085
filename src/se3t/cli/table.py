"""``se3t table``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from se3t.errors import UserError

_EXAMPLES = (
    "se3t train experiment=nbody preset=quick, se3t train experiment=scanobjectnn data=shapes15 preset=quick, or "
    "se3t train experiment=qm9 task=homo preset=fast"
)


def run(words: Sequence[str]) -> int:
    """Print every table that the run records fill, once for every data set among them."""
    words, target = _without_target(words)
    unknown = [word for word in words if word.startswith("-") and word != "--markdown"]
    if unknown:
        raise UserError(f"{unknown[0]}: no such flag; known: --markdown, --target, --help")
    from se3t.cli.console import console
    from se3t.reporting.table import tables, to_markdown, to_rich

    found = tables(_results([Path(word) for word in words if word != "--markdown"]), target)
    if not found:
        what = "no finished run" + (f" with target {target}" if target else "")
        raise UserError(f"table: {what} there; train one: {_EXAMPLES}")
    for table in found:
        if "--markdown" in words:
            print(to_markdown(table))
        else:
            console().print(to_rich(table))
    return 0


def _without_target(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The other words, and the value of ``--target <name>`` or ``--target=<name>``."""
    rest: list[str] = []
    target = None
    following = iter(words)
    for word in following:
        flag, has_value, value = word.partition("=")
        if flag != "--target":
            rest.append(word)
            continue
        target = value if has_value else next(following, "")
        if not target or target.startswith("-"):
            raise UserError("--target: a value is missing; expected the name of a property, such as --target homo")
    return rest, target


def _results(paths: Sequence[Path]) -> list[Path]:
    from se3t.reporting.records import find_results

    found: list[Path] = []
    for path in paths or [Path("runs")]:
        if paths and not path.exists():
            raise UserError(f"{path}: does not exist; expected a folder of runs or a result.json")
        found += [path] if path.is_file() else find_results(path)
    return list(dict.fromkeys(found))
