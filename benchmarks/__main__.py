"""``python -m benchmarks <what> [flags]``: ``se3t bench`` and what needs a checkout, see benchmarks/README.md."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import peer, twin
from se3t.cli import bench
from se3t.cli.failures import guarded
from se3t.cli.options import positive
from se3t.errors import UserError
from se3t.screen import show
from se3t.signals import SECONDS, interrupted_by_signals

COMMAND = "python -m benchmarks"
WHAT = bench.WHAT | {name: f"benchmarks.{name}" for name in ("step", "layer", "clouds", "sh", "tiles", "train")}
_MORE = {
    "--contenders": "layer clouds",
    "--num-graphs": "clouds tiles",
    "--workload": "tiles",
    "--precision": "tiles",
    "--sweep": "layer",
    "--root": "train",
}
FLAGS: dict[str, tuple[str, dict[str, Any]]] = {
    **{flag: (f"{what} {_MORE.get(flag, '')}", how) for flag, (what, how) in bench.FLAGS.items()},
    "--adapter": ("step", {"dest": "adapters", "nargs": "+", "action": "extend", "metavar": "FILE"}),
    "--cases": ("train", {"nargs": "+", "metavar": "SETTINGS"}),
    "--neighbors": ("clouds", {"nargs": "+", "type": positive, "metavar": "K"}),
    "--plot": (" ".join(WHAT), {"nargs": "?", "const": "", "metavar": "FILE"}),
}


def run(words: Sequence[str]) -> int:
    """Measure, print the table, write and draw what is asked for.

    Returns:
        0, or 1 when not everything was measured.
    """
    if any(word in ("-h", "--help") for word in words):
        show("usage: python -m benchmarks <what> [flags], see benchmarks/README.md")
        return 0
    twin.register()
    given = bench.parse(words, WHAT, FLAGS, COMMAND)
    if peer.PEER in getattr(given, "names", ()) and given.what != "step":
        raise UserError(f"contender {peer.PEER!r} takes part in step only")
    json_file, plot_file = bench.file_of(given, "json", ".json"), bench.file_of(given, "plot", ".png")
    if plot_file is not None:
        from benchmarks.plots import check_suffix

        check_suffix(plot_file)  # before the work, not after it
    report = bench.measure(given, WHAT[given.what])
    if json_file is not None:
        report.save(json_file)
    if plot_file is not None:
        from benchmarks.plots import save_plot

        save_plot(report, plot_file)
    for file in filter(None, (json_file, plot_file)):
        show(f"written: {file}")
    return 1 if report.failures else 0


def main(words: Sequence[str]) -> int:
    """Exit status, as of ``se3t``."""

    def guarded_run() -> int:
        with interrupted_by_signals(SECONDS):
            return run(words)

    return guarded(guarded_run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
