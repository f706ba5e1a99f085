"""Flags of Hydra may stand anywhere in the line."""

from __future__ import annotations

import itertools

import pytest
from hydra._internal.utils import get_args_parser

from se3t.cli.arguments import FLAGS, split_flags
from se3t.errors import UserError


def flags_first(words: list[str]) -> list[str]:
    """As hydra_app puts them together for Hydra."""
    flags, overrides = split_flags(words)
    return [*flags, *overrides]


_OVERRIDES = ["experiment=nbody", "model.num_degrees=3", "trainer.max_steps=-1"]


@pytest.mark.parametrize(
    ("flag", "attribute", "value"),
    [
        (["-m"], "multirun", True),
        (["--multirun"], "multirun", True),
        (["--multi"], "multirun", True),
        (["--cfg", "job"], "cfg", "job"),
        (["--cfg=all"], "cfg", "all"),
        (["-c", "job"], "cfg", "job"),
        (["--info"], "info", "all"),
        (["-i", "defaults"], "info", "defaults"),
        (["-sc"], "shell_completion", True),
        (["-p", "model"], "package", "model"),
        (["-cd", "folder"], "config_dir", "folder"),
    ],
)
def test_a_flag_means_the_same_wherever_it_stands(flag: list[str], attribute: str, value: object) -> None:
    for place in range(len(_OVERRIDES) + 1):
        words = [*_OVERRIDES[:place], *flag, *_OVERRIDES[place:]]
        parsed = get_args_parser().parse_args(flags_first(words))
        assert getattr(parsed, attribute) == value
        assert parsed.overrides == _OVERRIDES


def test_any_order_of_two_flags_and_two_overrides_reads_the_same() -> None:
    parts = [["-m"], ["--info", "config"], ["seed=1,2"], ["model=tfn"]]
    for order in itertools.permutations(parts):
        parsed = get_args_parser().parse_args(flags_first([word for part in order for word in part]))
        assert parsed.multirun
        assert parsed.info == "config"
        assert sorted(parsed.overrides) == ["model=tfn", "seed=1,2"]


def test_info_does_not_swallow_an_override() -> None:
    assert flags_first(["--info", "seed=1"]) == ["--info=all", "seed=1"]


def test_words_after_two_dashes_are_overrides() -> None:
    assert flags_first(["-m", "--", "-x"]) == ["--multirun", "-x"]


def test_every_flag_of_hydra_is_known() -> None:
    theirs = {option for action in get_args_parser()._actions for option in action.option_strings}
    assert {option for option in theirs if option.startswith("--")} == {*FLAGS, "--help", "--version"}
    for option in theirs - {"-h", "--help", "--version"}:
        assert flags_first([option, "job" if option in ("-c", "--cfg") else "all"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--multirn"], r"--multirn: no such flag; did you mean '--multirun'\?"),
        (["--cfg"], "--cfg: a value is missing: job, hydra, all"),
        (["seed=1", "--cfg", "seed=2"], "--cfg seed=2: unknown; .*known: all, hydra, job"),
        (["--info=tree"], "--info tree: unknown"),
        (["-m=yes"], "--multirun=yes: the flag --multirun takes no value"),
        (["--config"], "--config: no such flag"),
        (["--resume"], "--resume: not a flag but a setting; write resume=true"),
        (["--preset", "smoke"], "--preset: .*; write preset=smoke"),
        (["--preset", "seed=1"], "--preset: .*; write preset=…"),
        (["--max-steps=5"], "--max-steps: .*; write trainer.max_steps=5"),
        (["--checkpoint", "runs"], "--checkpoint: .*; write checkpoint=runs"),
    ],
)
def test_a_bad_flag_is_named(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        flags_first(words)
