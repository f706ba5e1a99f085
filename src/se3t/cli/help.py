"""Texts of ``--help``. They are printed without importing torch or hydra."""

from __future__ import annotations

from dataclasses import dataclass

from se3t.config import conf_dir


@dataclass(frozen=True)
class Command:
    """A command: the function behind it, a line about it, its usage and examples."""

    target: str  # 'module:function'
    summary: str
    text: str


_TRAIN = """\
usage: se3t train [key=value …] [-m] [--cfg job] [--info] [--hydra-help]

Train a model, measure it on test once, write the run record under runs/ and print the table of the experiment.
The same line again reports the finished run; an interrupted one goes on with resume=true.

examples:
  se3t train experiment=nbody                                  the SE(3)-Transformer with the paper's budget
  se3t train experiment=nbody preset=quick                     minutes on two cores
  se3t train experiment=nbody model=tfn model.num_degrees=3 -m seed=1,2,3
  se3t train experiment=nbody data.preset=text optim.lr=1e-3 trainer.max_steps=5000
  se3t train experiment=nbody trainer.devices=2                two processes (DDP)
  se3t train experiment=nbody resume=true                      continue an interrupted run
  se3t train --cfg job                                         print the configuration and stop

choices:
{choices}

often changed (se3t train --cfg job shows all):
  seed  resume  runs  data.root  data.preset  model.channels  model.num_degrees  optim.lr  optim.schedule
  trainer.max_steps  trainer.batch_size  trainer.devices  trainer.precision  trainer.ema_decay  logger.wandb

flags:
  -m, --multirun      one job for each combination of comma-separated values, one after another
  --cfg job           print the configuration and stop
  --info              what Hydra composed, and from where
  --hydra-help        all flags of Hydra"""

_EVAL = """\
usage: se3t eval checkpoint=<run folder or file> [key=value …]

Measure a trained model on test, or on another split: errors, errors relative to Linear, equivariance error. A run
folder means the checkpoint that validation chose.

examples:
  se3t eval checkpoint=runs/nbody/se3_transformer/0-1a2b3c4d
  se3t eval checkpoint=path/to/file.ckpt split=valid trainer.precision=64

settings (what is not given is as in training):
  split=test | valid | train  data.root=<folder of the stores>  trainer.precision=32 | 64 | bf16
  trainer.accelerator=auto | cpu | gpu  trainer.num_equivariance_samples=<rotations per batch>"""

_DATA = """\
usage: se3t data prepare <name> [key=value …] [force=true]

Make the data of an experiment and print the errors of trivial predictions on it. A store that exists is checked, not
made again; force=true makes it again.

examples:
  se3t data prepare nbody
  se3t data prepare nbody data.preset=text data.root=/scratch/data
  se3t data prepare nbody data.num_train=100000 data.data_seed=1

names:
  {data}"""

_TABLE = """\
usage: se3t table [<run folder or result.json> …] [--markdown]

Table 1 from the run records: what was measured beside what is published. Without paths: all runs under runs/.

examples:
  se3t table
  se3t table runs/nbody/tfn --markdown"""

_DOCTOR = """\
usage: se3t doctor [--root <folder of data>]

What is installed, which devices torch can use, which data are prepared, where Weights & Biases would write.

examples:
  se3t doctor
  se3t doctor --root /scratch/data"""

_COMPLETION = """\
usage: se3t --completion bash | zsh

Print the script for tab completion of commands, groups and settings.

examples:
  eval "$(se3t --completion bash)"                             in this shell; put the line into ~/.bashrc to keep it
  eval "$(se3t --completion zsh)"                              the same in ~/.zshrc"""

COMMANDS: dict[str, Command] = {
    "train": Command("se3t.cli.train:run", "train a model and print its error beside the published one", _TRAIN),
    "eval": Command("se3t.cli.evaluate:run", "measure a checkpoint on test", _EVAL),
    "data": Command("se3t.cli.data:run", "prepare the data of an experiment", _DATA),
    "table": Command("se3t.cli.table:run", "print Table 1 from the run records", _TABLE),
    "doctor": Command("se3t.cli.doctor:run", "versions, devices, data, what is missing", _DOCTOR),
    "completion": Command("se3t.cli.completion:run", "tab completion for bash and zsh", _COMPLETION),
}


def main_help() -> str:
    """Text of ``se3t --help``."""
    lines = [f"  {name:<12}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: se3t <command> [key=value …]",
            "",
            "SE(3)-Transformers: train, measure and compare the models of the paper.",
            "",
            "commands:",
            *lines,
            "",
            "examples:",
            "  se3t train experiment=nbody preset=quick",
            "  se3t train experiment=nbody model=tfn -m seed=1,2,3",
            "  se3t eval checkpoint=runs/nbody/se3_transformer/0-1a2b3c4d",
            "  se3t data prepare nbody data.preset=text",
            "  se3t doctor",
            "",
            "se3t <command> --help says more; se3t --version; SE3T_DEBUG=1 shows tracebacks.",
        ]
    )


def command_help(name: str) -> str:
    """Text of ``se3t <name> --help``."""
    text = COMMANDS[name].text
    if "{choices}" in text:
        groups = ("experiment", "model", "preset", "data")
        text = text.replace("{choices}", "\n".join(f"  {group}={' | '.join(choices(group))}" for group in groups))
    return text.replace("{data}", ", ".join(choices("data")))


def choices(group: str) -> list[str]:
    """The choices of a configuration group: its YAML files."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")) if group else []
