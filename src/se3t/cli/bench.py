"""``se3t bench <what>``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se3t.allocator import keep_freed_memory
from se3t.cli.options import Parser, positive
from se3t.errors import UserError, did_you_mean
from se3t.files import check_writable
from se3t.screen import show

if TYPE_CHECKING:
    from se3t.bench.report import Report

RESULTS = Path("benchmarks/results")
WHAT = {name: f"se3t.bench.{name}" for name in ("step", "scaling", "memory", "data", "sh")}
"""By benchmark: the module whose ``run`` measures."""

Flags = Mapping[str, tuple[str, dict[str, Any]]]
FLAGS: Flags = {
    "--contenders": ("step scaling memory sh", {"dest": "names", "nargs": "+", "metavar": "NAME"}),
    "--workload": ("step memory", {"dest": "workloads", "nargs": "+", "metavar": "NAME"}),
    "--precision": ("step", {"dest": "precisions", "nargs": "+", "choices": ("32", "tf32", "bf16")}),
    "--num-graphs": ("step memory", {"type": positive, "metavar": "N"}),
    "--sweep": ("scaling", {"dest": "sweeps", "nargs": "+", "metavar": "NAME"}),
    "--max-edges": ("scaling", {"type": positive, "metavar": "N"}),
    "--stores": ("data", {"nargs": "+", "metavar": "NAME"}),
    "--root": ("data", {"metavar": "FOLDER"}),
    "--max-degree": ("sh", {"type": int, "metavar": "J"}),
    "--num-vectors": ("sh", {"type": positive, "metavar": "N"}),
}
"""By flag: the benchmarks that have it, and how it is read; its ``dest`` is the argument of their ``run``."""
_COMMON: Mapping[str, dict[str, Any]] = {
    "--quick": {"action": "store_true"},
    "--device": {},
    "--threads": {"type": positive, "metavar": "N"},
    "--repetitions": {"type": positive, "metavar": "N"},
    "--seconds": {"type": float, "metavar": "S"},
    "--seed": {"type": int, "metavar": "N"},
    "--no-memory": {"dest": "memory", "action": "store_false"},
}
"""By flag: how it is read; its ``dest`` is a field of :class:`se3t.bench.options.Options`."""
_MOVED = ("layer", "clouds", "tiles", "--adapter", "--plot", "peer", "e3nn", "e3nn-separate", "sphericart")


def run(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the results if asked.

    Returns:
        0, or 1 when not everything was measured: a kernel computes something else than the reference, or a signal came.
    """
    for argument in arguments:
        if argument.partition("=")[0] in _MOVED:
            raise UserError(
                f"bench: {argument} is not installed with se3t; from a checkout of the repository: "
                f"python -m benchmarks {shlex.join(arguments)}"
            )
    given = parse(arguments)
    json_file = file_of(given, "json", ".json")
    report = measure(given, WHAT[given.what])
    if json_file is not None:
        report.save(json_file)
        show(f"written: {json_file}")
    return 1 if report.failures else 0


def measure(given: argparse.Namespace, module: str) -> Report:
    """Run a benchmark and print its table.

    Args:
        given: see :func:`parse`.
        module: whose ``run`` measures.
    """
    from se3t.bench.options import Options
    from se3t.screen import console

    keeps = keep_freed_memory()
    fields = Options.__dataclass_fields__
    arguments = {name: value for name, value in vars(given).items() if name not in ("what", "json", "plot")}
    options = Options(**{name: arguments.pop(name) for name in fields if name in arguments})
    report: Report = import_module(module).run(options, **arguments)
    report.machine["keeps_freed_memory"] = keeps
    console().print(report.to_rich())
    return report


def parse(
    arguments: Sequence[str], what: Mapping[str, str] = WHAT, flags: Flags = FLAGS, command: str = "bench"
) -> argparse.Namespace:
    """Parse the arguments of a benchmark; only those that were given are in the result.

    Args:
        arguments: name of the benchmark and its flags.
        what: benchmarks that exist.
        flags: beside the common ones.
        command: before the arguments.

    Raises:
        UserError: for a benchmark or flag that does not exist, or a value of another kind.
    """
    name = arguments[0] if arguments else ""
    if name not in what:
        missing = "what to measure is missing" if not arguments else f"{name!r} is unknown"
        raise UserError(f"{command}: {missing}; {did_you_mean(name, what)}")
    if name == "memory" and "--no-memory" in arguments:
        raise UserError(f"{command} memory: measures nothing but memory; leave --no-memory out")
    reader = parser(name, flags, command)
    given, unknown = reader.parse_known_args(list(arguments[1:]), argparse.Namespace(what=name))
    if unknown:
        known = [flag for action in reader._actions for flag in action.option_strings]
        raise UserError(f"{command} {name}: {unknown[0]} is unknown; {did_you_mean(unknown[0], known)}")
    return given


def parser(what: str, flags: Flags = FLAGS, command: str = "bench") -> Parser:
    """The flags of one benchmark."""
    parser = Parser(f"{command} {what}", f"{command} {what} [flags], see se3t bench --help")
    for flag, how in _COMMON.items():
        parser.add_argument(flag, default=argparse.SUPPRESS, **how)
    for flag, (benchmarks, how) in flags.items():
        if what in benchmarks.split():
            parser.add_argument(flag, default=argparse.SUPPRESS, **how)
    parser.add_argument("--json", nargs="?", const="", metavar="FILE")
    return parser


def file_of(given: argparse.Namespace, flag: str, suffix: str) -> Path | None:
    """The file that a flag names, where results are kept unless it says more; it can be written.

    Raises:
        UserError: when it cannot.
    """
    text = getattr(given, flag, None)
    if text is None:
        return None
    device = getattr(given, "device", "cpu").partition(":")[0]
    file = Path(text) if text else RESULTS / f"{given.what}-{device}{suffix}"
    check_writable(file)
    return file
