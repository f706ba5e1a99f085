"""Texts of ``--help``. They are printed without importing torch or hydra."""

from __future__ import annotations

from pathlib import Path

from se3t import pretrained
from se3t.config import choices as choices
from se3t.config import conf_file

COMMANDS: dict[str, str] = {
    "train": "train a model and print its error beside the published one",
    "eval": "measure a checkpoint on test",
    "data": "prepare the data of an experiment",
    "predict": "a property of molecules in SDF, XYZ or SMILES files",
    "export": "a trained model with its model card, for others",
    "runs": "list the runs, or compare some of them",
    "table": "print the tables of the paper from the run records",
    "figure": "draw the figures of the paper, and learning curves",
    "sweep": "a grid or a search over settings, its best runs and their picture",
    "report": "one HTML page of tables, figures and runs",
    "convert": "released weights as a model of this library",
    "check-golden": "compare with values of the released codes",
    "bench": "time and memory of kernels, models and data on this machine",
    "doctor": "versions, devices, data, what is missing",
    "completion": "tab completion for bash and zsh",
}
"""A line about each command; its usage and examples are in ``<name>.txt``."""


def main_help() -> str:
    """Text of ``se3t --help``."""
    lines = [f"  {name:<14}{summary}" for name, summary in COMMANDS.items()]
    return help_text("main").replace("{commands}", "\n".join(lines))


def help_text(name: str) -> str:
    """The file of a command, with its ``{choices}`` not filled in."""
    return Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def usage_of(command: str) -> str:
    """How a command such as ``table`` or ``figure 3`` is written, in one line."""
    page, _, _ = help_text(command.split()[0]).partition("\n\n")
    forms = " ".join(page.split()).removeprefix("usage: se3t ").split(" se3t ")
    return ", or se3t ".join(form for form in forms if f"{form} ".startswith(f"{command} "))


def command_help(name: str) -> str:
    """Text of ``se3t <name> --help``."""
    text = help_text(name)
    if "{choices}" in text:
        groups = ("experiment", "task", "model", "preset", "data")
        text = text.replace("{choices}", "\n".join(f"  {group}={' | '.join(choices(group))}" for group in groups))
    budgets = "; ".join(f"{name}: {', '.join(choices(f'budget/{name}'))}" for name in choices("experiment"))
    if "{sweeps}" in text:
        text = text.replace("{sweeps}", ready_sweeps())
    text = text.replace("{pretrained}", ", ".join(pretrained.names()) or "it holds none")
    return (
        text.replace("{default}", pretrained.DEFAULT)
        .replace("{budgets}", budgets)
        .replace("{data}", ", ".join(choices("data")))
    )


def ready_sweeps() -> str:
    """The sweeps of ``conf/sweep``, a line each."""
    import yaml

    lines = []
    for name in choices("sweep"):
        path = conf_file(f"sweep/{name}.yaml")
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path is not None else {}
        experiments = sorted(content.get("experiments", []))
        where = f" ({', '.join(experiments)})" if 0 < len(experiments) < 3 else ""
        lines.append(f"  {name:<17} {content.get('search', 'grid'):<5} {content.get('description', '')}{where}")
    return "\n".join(lines)
