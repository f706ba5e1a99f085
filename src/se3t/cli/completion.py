"""Tab completion: the script that a shell loads, and the answer to its question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from se3t import pretrained
from se3t.errors import UserError, did_you_mean

SHELLS = ("bash", "zsh")


def script(shell: str) -> str:
    """The text that ``eval "$(se3t --completion bash)"`` loads.

    Raises:
        UserError: for a shell without completion.
    """
    from se3t.cli.help import COMMANDS

    if shell not in SHELLS:
        raise UserError(f"--completion {shell}: no completion for this shell; {did_you_mean(shell, SHELLS)}")
    text = Path(__file__).with_suffix(".sh").read_text(encoding="utf-8").replace("{commands}", " ".join(COMMANDS))
    text = text.replace("{models}", " ".join(pretrained.names()))
    return text if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{text}"


def run(arguments: Sequence[str]) -> int:
    """``se3t --completion [bash | zsh]``."""
    print(script(arguments[0] if arguments else "bash"), end="")
    return 0
