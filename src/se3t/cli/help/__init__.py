"""Texts of ``--help``. They are printed without importing torch or hydra."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from se3t.config import choices as choices
from se3t.config import conf_file


@dataclass(frozen=True)
class Command:
    """A command: the function behind it, and a line about it; its usage and examples are in ``<name>.txt``."""

    target: str  # 'module:function'
    summary: str


COMMANDS: dict[str, Command] = {
    "train": Command("se3t.cli.train:run", "train a model and print its error beside the published one"),
    "eval": Command("se3t.cli.evaluate:run", "measure a checkpoint on test"),
    "data": Command("se3t.cli.data:run", "prepare the data of an experiment"),
    "predict": Command("se3t.cli.predict:run", "a property of molecules in SDF, XYZ or SMILES files"),
    "export": Command("se3t.cli.export:run", "a trained model with its model card, for others"),
    "runs": Command("se3t.cli.runs:run", "list the runs, or compare some of them"),
    "table": Command("se3t.cli.table:run", "print the tables of the paper from the run records"),
    "figure": Command("se3t.cli.figure:run", "draw the figures of the paper, and learning curves"),
    "sweep": Command("se3t.cli.sweep:run", "a grid or a search over settings, its best runs and their picture"),
    "report": Command("se3t.cli.report:run", "one HTML page of tables, figures and runs"),
    "convert": Command("se3t.cli.convert:run", "released weights as a model of this library"),
    "check-golden": Command("se3t.cli.check_golden:run", "compare with values of the released codes"),
    "bench": Command("se3t.cli.bench:run", "time and memory of kernels, models and data on this machine"),
    "doctor": Command("se3t.cli.doctor:run", "versions, devices, data, what is missing"),
    "completion": Command("se3t.cli.completion:run", "tab completion for bash and zsh"),
}


def main_help() -> str:
    """Text of ``se3t --help``."""
    lines = [f"  {name:<14}{command.summary}" for name, command in COMMANDS.items()]
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
    return text.replace("{budgets}", budgets).replace("{data}", ", ".join(choices("data")))


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
