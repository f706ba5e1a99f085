"""The script for tab completion, in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from se3t.cli.completion import script
from se3t.cli.help import COMMANDS

_ASK = """
{script}
ask() {{
    COMP_LINE="$1"; COMP_POINT=${{#1}}; COMP_WORDS=($1)
    case "$1" in *" ") COMP_WORDS+=("");; esac
    COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
    _se3t_complete
    echo "${{COMPREPLY[*]}}"
}}
{questions}
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_groups_and_settings(tmp_path: Path) -> None:
    program = tmp_path / "se3t"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m se3t "$@"\n')
    program.chmod(0o755)
    answers = {
        "se3t tr": "train",
        "se3t ": " ".join(COMMANDS),
        "se3t data p": "prepare",
        "se3t train model=s": "model=schnet model=se3_transformer model=set_transformer model=spidercnn",
        "se3t train runs=train mod": "model. model=",
        "se3t eval check": "checkpoint=",
    }
    questions = "\n".join(f'ask "{line}"' for line in answers)
    text = _ASK.format(script=script("bash"), questions=questions)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == list(answers.values())


def test_zsh_loads_the_emulation_of_bash() -> None:
    assert script("zsh").startswith("autoload -U +X bashcompinit && bashcompinit\n")
    assert script("zsh").endswith(script("bash"))
