"""``se3t export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from se3t.cli.options import Parser


def parser() -> Parser:
    """The flags of ``se3t export``."""
    parser = Parser("export", "export --checkpoint <run folder> --to <folder>")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--force", action="store_true")
    return parser


def run(words: Sequence[str]) -> int:
    """Write a trained model and its card into a folder."""
    given = parser().parse_args(list(words))
    from se3t.training.export import FILES, export

    model = export(given.checkpoint, given.to, given.force)
    print(f"{given.to}: {', '.join(FILES)}")
    print(f"experiment {model.config.experiment}, {model.config.model.name}, weights of step {model.step:,}")
    if model.result is None:
        print("this run has not finished: the card has its validation error alone")
    if model.is_property:
        print(f"use: se3t predict --checkpoint {given.to} molecules.sdf")
    return 0
