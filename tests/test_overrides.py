"""Settings as words of a command line: Hydra reads back what was written, the shell what was printed."""

from __future__ import annotations

import random
import shlex
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from se3t.config import MoleculesData, NBodyData, to_config
from se3t.config.compose import as_typed, compose, text_of
from se3t.config.overrides import command, override, overrides
from se3t.experiments import nbody
from se3t.experiments.molecules import DATA
from se3t.suite.specification import specify

TEXTS = [
    *["10 my mols (1)", "", "null", "True", "1e3", "0007", "1_2", "2.", ".5", "~/x", "+x", "++x", "-x", "a=b", "a,b"],
    *["{a: b}", "[a]", "it's", 'say "x"', "${x}", "\\${x}", "${oc.env:HOME}", "${", "a\\", "\\", "\\\\", "\\'", "'"],
    *[" lead", "trail ", "tab\t", "line\nline", "naïve-漢字", "C:\\data\\a b", "$HOME", "`ls`", "a;b|c&d", "#1", "nan"],
    *["k [/s]", "[red]x", "\x1b[31mred", "a-b/c.d_e", "choice(a,b)", "range(1,3)", "glob(*)", "%s", "a:b", "!x", "*"],
]


def read_back(word: str) -> Any:
    """The value of ``data.root=…`` as Hydra and OmegaConf read it."""
    settings = OmegaConf.create({"data": {"root": ""}})
    OmegaConf.update(settings, "data.root", OverridesParser.create().parse_override(word).value())
    return OmegaConf.to_container(settings, resolve=True)["data"]["root"]  # type: ignore[call-overload, index]


def test_any_text_is_read_back_as_it_was() -> None:
    draw = random.Random(0)
    letters = [*"ab'\"\\${}[](),:=~+- \t\n|&;<>!?*#%@^`é漢/.0123_eE", "${", "\\${", "null", "\\'"]
    drawn = ["".join(draw.choices(letters, k=draw.randint(1, 7))) for _ in range(500)]
    for text in [*TEXTS, *drawn]:
        word = override("data.root", text)
        assert (read_back(word), type(read_back(word))) == (text, str), word
        assert shlex.split(command(["train", word])) == ["se3t", "train", word]


@pytest.mark.parametrize("value", [None, True, False, 0, -3, 1.5e-7, ["a,b", "it's", 1, None], []])
def test_any_other_value_is_read_back_as_it_was(value: object) -> None:
    assert read_back(override("data.root", value)) == value


def test_a_composed_configuration_has_the_text_as_it_was() -> None:
    for text in ("10 my mols (1)", "a=b, {c}", "${oc.env:HOME}", "\\${x}\\", "it's"):
        assert to_config(compose("train", [override("runs", text)])).runs == text


def test_interpolations_are_for_command_lines_and_text_in_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "here")
    assert to_config(compose("train", ["runs=${oc.env:PLACE}"])).runs == "here"
    assert to_config({"runs": "${oc.env:PLACE}"}).runs == "${oc.env:PLACE}"


def test_printed_and_run_lines_name_folders_that_need_quotes() -> None:
    data = MoleculesData(raw="10 my mols (1)", root="it's, mine")
    words = shlex.split(DATA.prepare_command(data, force=True))
    assert words[:4] == ["se3t", "data", "prepare", "molecules"]
    assert shlex.split(DATA.prepare_command(data)) == words[:-1]
    config = to_config(compose("train", ["data=molecules", "experiment=qm9", *words[4:-1]]))
    assert (config.data.raw, config.data.root) == (data.raw, data.root)
    assert nbody.DATA.prepare_command(NBodyData(root="a b")) == "se3t data prepare nbody 'data.root=a b'"


def test_trials_of_a_sweep_find_a_folder_whose_name_needs_quotes() -> None:
    raw = "/data/10 my mols (1)"
    given = ["experiment=qm9", "data=molecules", "task.column=k [/s]", f"data.raw={raw}", "optim.lr=1e-3,2e-3"]
    spec = specify([*given, "preset=smoke"])
    words = [*spec.overrides, *overrides({"optim.lr": 1e-3}), "seed=0"]
    config = to_config(compose("train", words))
    assert (config.data.raw, config.task.column, config.optim.lr) == (raw, "k [/s]", 1e-3)


def test_lists_of_settings_keep_their_order() -> None:
    assert overrides({"b": 1, "a": True}, "data.") == ["data.b=1", "data.a=true"]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        *[
            (f"data.raw={text}", text)
            for text in ("10 my mols (1)", "0007", "1_2", "1e3", "true", "~/x", "a=b", "it's")
        ],
        *[(f"task.column={text}", text) for text in ("k [/s]", "[red]x", "[red]", "{x}", "a: b, (c)", "-")],
        ("+data.raw=a (1)", "a (1)"),
        ("data.raw='a (1)'", "a (1)"),
        ('data.raw="1,2"', "1,2"),
    ],
)
def test_text_means_what_was_typed(word: str, text: str) -> None:
    assert text_of(word) == text
    assert as_typed(read := as_typed(word)) == read


@pytest.mark.parametrize(
    "word", ["data.raw=null", "runs=a,b", "runs=${seed}", "data.raw=", "seed=1e3", "seed=[1", "~runs"]
)
def test_what_hydra_offers_stays(word: str) -> None:
    assert as_typed(word) == word
