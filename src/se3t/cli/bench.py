"""``se3t bench <what>``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from se3t.allocator import keep_freed_memory
from se3t.cli.options import Parser, positive
from se3t.errors import UserError, did_you_mean
from se3t.screen import show

if TYPE_CHECKING:
    from se3t.bench.options import Options
    from se3t.bench.report import Report

RESULTS = Path("benchmarks/results")
_CHOICES = {"layer": ("channels", "degrees", "edges"), "scaling": ("points", "neighbors", "degree")}


def run(words: Sequence[str]) -> int:
    """Measure, print the table, write what is asked for.

    Returns:
        0, or 1 when not everything was measured: a kernel computes something else than the reference, or a signal came.
    """
    given = parse(words)
    keeps = keep_freed_memory()
    json_file, plot_file = _file(given, "json", ".json"), _file(given, "plot", ".png")
    if plot_file is not None:
        from se3t.bench.plots import check_suffix

        check_suffix(plot_file)  # before the work, not after it
    from se3t.bench.options import Options
    from se3t.files import check_writable
    from se3t.screen import console

    options = Options(
        device=given.device,
        threads=given.threads,
        repetitions=given.repetitions,
        seconds=given.seconds,
        memory=getattr(given, "memory", True),
        quick=given.quick,
        seed=given.seed,
    )
    for file in (json_file, plot_file):
        if file is not None:
            check_writable(file)
    report = _RUN[given.what](options, given)
    report.machine["keeps_freed_memory"] = keeps
    console().print(report.to_rich())
    report.save(json_file, plot_file)
    for file in (json_file, plot_file):
        if file is not None:
            show(f"written: {file}")
    return 1 if report.failures else 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the words after ``se3t bench``.

    Raises:
        UserError: for a benchmark or flag that does not exist, or a value of another kind.
    """
    what = words[0] if words else ""
    if what not in _RUN:
        missing = "what to measure is missing" if not words else f"{what!r} is unknown"
        raise UserError(f"bench: {missing}; {did_you_mean(what, _RUN)}")
    own = parser(what)
    given, unknown = own.parse_known_args(list(words[1:]))
    if unknown:
        flags = [flag for action in own._actions for flag in action.option_strings]
        raise UserError(f"bench {what}: {unknown[0]} is unknown; {did_you_mean(unknown[0], flags)}")
    given.what = what
    return given


def parser(what: str) -> Parser:
    """The flags of one benchmark."""
    own = Parser(f"bench {what}", f"bench {what} [flags], see se3t bench --help")
    own.add_argument("--quick", action="store_true")
    own.add_argument("--device", default="cpu")
    for flag in ("--threads", "--repetitions"):
        own.add_argument(flag, type=positive, metavar="N")
    own.add_argument("--seconds", type=float, metavar="S")
    own.add_argument("--seed", type=int, default=0, metavar="N")
    for flag in ("--json", "--plot"):
        own.add_argument(flag, nargs="?", const="", metavar="FILE")
    if what not in ("data", "tiles"):
        own.add_argument("--contenders", nargs="+", default=[], metavar="NAME")
    if what in ("step", "memory", "tiles"):
        own.add_argument("--workload", nargs="+", default=["qm9" if what == "tiles" else "nbody"], metavar="NAME")
    if what in ("step", "tiles"):
        default = ["bf16"] if what == "tiles" else ["32"]
        own.add_argument("--precision", nargs="+", choices=("32", "tf32", "bf16"), default=default)
    if what in ("step", "memory", "tiles", "clouds"):
        own.add_argument("--num-graphs", type=positive, metavar="N")
    if what in ("step", "scaling", "clouds"):
        own.add_argument("--no-memory", dest="memory", action="store_false")
    if what in _CHOICES:
        own.add_argument("--sweep", nargs="+", default=[*_CHOICES[what]], metavar="NAME")
    _add_special(own, what)
    return own


def _add_special(own: Parser, what: str) -> None:
    if what == "step":
        own.add_argument("--adapter", nargs="+", action="extend", default=[], metavar="FILE")
    elif what == "scaling":
        own.add_argument("--max-edges", type=positive, metavar="N")
    elif what == "data":
        own.add_argument("--stores", nargs="+", default=[], metavar="NAME")
        own.add_argument("--root", default="data", metavar="FOLDER")
    elif what == "clouds":
        own.add_argument("--neighbors", nargs="+", type=positive, default=[10, 40], metavar="K")
    elif what == "sh":
        own.add_argument("--max-degree", type=int, metavar="J")
        own.add_argument("--num-vectors", type=positive, metavar="N")


def _file(given: argparse.Namespace, name: str, suffix: str) -> Path | None:
    text = getattr(given, name)
    if text is None:
        return None
    return Path(text) if text else RESULTS / f"{given.what}-{given.device.partition(':')[0]}{suffix}"


def _sweeps(given: argparse.Namespace) -> list[str]:
    for word in given.sweep:
        if word not in _CHOICES[given.what]:
            raise UserError(
                f"bench {given.what}: sweep {word!r} is not known; {did_you_mean(word, _CHOICES[given.what])}"
            )
    return list(dict.fromkeys(given.sweep))


def _step(options: Options, given: argparse.Namespace) -> Report:
    from se3t.bench import step
    from se3t.bench.adapters import Adapter

    adapters = [Adapter.parse(text) for text in given.adapter]
    return step.run(options, given.workload, given.contenders, adapters, given.num_graphs, given.precision)


def _layer(options: Options, given: argparse.Namespace) -> Report:
    from se3t.bench import layer

    return layer.run(options, given.contenders, _sweeps(given))


def _scaling(options: Options, given: argparse.Namespace) -> Report:
    from se3t.bench import scaling

    return scaling.run(options, given.contenders, _sweeps(given), given.max_edges)


def _memory(options: Options, given: argparse.Namespace) -> Report:
    from se3t.bench import memory

    return memory.run(options, given.workload, given.contenders, given.num_graphs)


def _data(options: Options, given: argparse.Namespace) -> Report:
    from se3t.bench import data

    return data.run(options, given.stores, given.root)


def _clouds(options: Options, given: argparse.Namespace) -> Report:
    from se3t.bench import clouds

    return clouds.run(options, given.contenders, given.neighbors, given.num_graphs)


def _sh(options: Options, given: argparse.Namespace) -> Report:
    from se3t.bench import sh

    return sh.run(options, given.contenders, given.max_degree, given.num_vectors)


def _tiles(options: Options, given: argparse.Namespace) -> Report:
    from se3t.bench import tiles

    return tiles.run(options, given.workload, given.precision, given.num_graphs)


_RUN: dict[str, Callable[[Options, argparse.Namespace], Report]] = {
    "step": _step,
    "layer": _layer,
    "scaling": _scaling,
    "memory": _memory,
    "data": _data,
    "clouds": _clouds,
    "sh": _sh,
    "tiles": _tiles,
}
WHAT = tuple(_RUN)
