"""``se3t export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from se3t.cli.options import Parser
from se3t.config.overrides import command
from se3t.errors import UserError
from se3t.screen import show


def parser() -> Parser:
    """The flags of ``se3t export``."""
    parser = Parser("export")
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--force", action="store_true")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Write a trained model and its card into a folder."""
    given = parser().parse_intermixed_args(list(arguments))
    if (given.run is None) == (given.checkpoint is None):
        both = given.run is not None
        raise UserError(f"export: {'two models; give one' if both else 'the model is missing; add its run folder'}")
    from se3t.deploy.export import FILES, export

    model = export(given.run or given.checkpoint, given.to, given.force)
    show(f"{given.to}: {', '.join(FILES)}")
    show(f"experiment {model.config.experiment}, {model.config.model.name}, weights of step {model.step:,}")
    if model.result is None:
        show("this run has not finished: the card has its validation error alone")
    if "elements_seen" in model.facts:  # what se3t predict needs
        show(f"use: {command(['predict', 'molecules.sdf', str(given.to)])}")
    return 0
