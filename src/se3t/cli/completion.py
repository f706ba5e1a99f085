"""Tab completion: the script that a shell loads, and the answer to its question."""

from __future__ import annotations

from collections.abc import Sequence

from se3t.errors import UserError, did_you_mean

# The first word after se3t is a command; for train and eval Hydra completes the rest. It knows no commands, so that the
# line that it reads has none.
_SCRIPT = """\
_se3t_complete() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
    elif [ "$command" = train ] || [ "$command" = eval ]; then
        local choices line="${{COMP_LINE:0:COMP_POINT}}"
        choices=$(COMP_LINE="se3t${{line#*$command}}" se3t "$command" -sc query=bash 2>/dev/null)
        COMPREPLY=($(compgen -o nospace -o default -W "$choices" -- "$word"))
    elif [ "$command" = data ] && [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W "prepare" -- "$word"))
    elif [ "$command" = runs ] && [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -f -W "compare" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}
COMP_WORDBREAKS=${{COMP_WORDBREAKS//=}}
complete -o nospace -o default -F _se3t_complete se3t
"""
SHELLS = ("bash", "zsh")


def script(shell: str) -> str:
    """The text that ``eval "$(se3t --completion bash)"`` loads.

    Raises:
        UserError: for a shell without completion.
    """
    from se3t.cli.help import COMMANDS

    if shell not in SHELLS:
        raise UserError(f"--completion {shell}: no completion for this shell; {did_you_mean(shell, SHELLS)}")
    text = _SCRIPT.format(commands=" ".join(COMMANDS))
    return text if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{text}"


def run(words: Sequence[str]) -> int:
    """``se3t --completion [bash | zsh]``."""
    print(script(words[0] if words else "bash"), end="")
    return 0
