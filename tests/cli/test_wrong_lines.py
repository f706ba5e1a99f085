"""Wrong lines of every command: a sentence without the words of the machinery behind it, and nothing written."""

from __future__ import annotations

import re
import shlex

import pytest

from .conftest import Run

_JARGON = re.compile(
    r"Traceback|defaults list|DictConfig|Could not|struct|mismatched|LexerNoViable|extraneous|token|NoneType"
    r"|Interpolation|MissingMandatory|Primary config|[Cc]onfig group|override|Exception|raised while|Hydra"
)

_LINES = [
    # the line, the wrong word, a way out
    ("train +seed=1", "+seed=1", "leave out the +: seed=1"),
    ("train +experiment=nbody", "+experiment=nbody", "experiment=nbody"),
    ("train +sweep=lr", "sweep/lr", "se3t train --cfg job"),
    ("train ++nonsense=1", "nonsense", "known: "),
    ("train ~nonsense", "~nonsense", "known: "),
    ("train ~trainer.max_steps", "~trainer.max_steps", "write trainer.max_steps=<value>"),
    ("train ~seed", "~seed", "write seed=<value>"),
    ("train ~optim", "~optim", "leave it out for its default"),
    ("train tuned=fast", "tuned=fast", "preset"),
    ("train budget/model=x", "budget/model=x", "preset"),
    ("train model@other=tfn", "model@other=tfn", "write model=tfn"),
    ("train experiment=nbody experiment=qm9", "experiment=qm9", "leave one out"),
    ("train nothing/here=1", "nothing/here", "known: "),
    ("train model=[tfn,linear]", "model=[tfn,linear]", "known: deepset"),
    ("train model.name=tfn", "model.name=tfn", "write model=tfn"),
    ("train =1", "=1", "write key=value"),
    ("train '~'", "~", "write key=value"),
    ("train ''", "''", "write key=value"),
    ("train seed=a(b", "seed=a(b", "seed=<value>"),
    ("train trainer.max_steps={a:", "trainer.max_steps={a:", "closed"),
    ("train 'seed=range(1,3)'", "seed=range(1,3)", "add -m"),
    ("train runs=a,b", "runs=a,b", "'runs=\"a,b\"'"),
    ("train 'runs=${nowhere}'", "nowhere", "${<name of a setting>}"),
    ("train 'seed=${oc.env:NOT_SET_AT_ALL}'", "NOT_SET_AT_ALL", "${oc.env:<variable of the environment>}"),
    ("train 'seed=${nothing:1}'", "seed: ${…} names nothing", "write ${"),
    ("train hydra.mode=fast", "hydra.mode=fast", "RUN"),
    ("train hydra/launcher=nowhere", "hydra/launcher=nowhere", "known: basic"),
    ("train --config-name nowhere", "--config-name nowhere", "--config-name train"),
    ("train --config-path nowhere", "--config-path nowhere", "a folder"),
    ("train --package model", "--package", "--cfg job --package"),
    ("train --package nowhere --cfg job", "--package nowhere", "known: "),
    ("train -m --cfg job", "--cfg", "give one of them"),
    ("train --resolve", "--resolve", "--cfg job --resolve"),
    ("train --experimental-rerun nowhere", "--experimental-rerun nowhere", "expected"),
    ("eval nowhere", "nowhere", "key=value"),
    ("eval runs checkpoint=runs", "checkpoint=runs", "give one run folder"),
    ("eval checkpoint=x task=homo", "task=homo", "experiment="),
    ("data prepare nbody +data.preset=text", "+data.preset=text", "data.preset=text"),
    ("data prepare nbody data=qm9", "data=qm9", "leave one out"),
    ("data prepare molecules 'data.raw=no where (1)'", "no where (1)", "expected"),
    ("sweep experiment=nbody sweep=lr model@other=tfn --plan", "model@other=tfn", "write model=tfn"),
    ("sweep experiment=nbody sweep=lr nothing=1 --plan", "nothing", "known: "),
    ("table 1 --plan trainer.max_steps=[1", "trainer.max_steps=[1", "closed"),
    ("table 4", "4:", "known: 1, 2, 3"),
    ("figure 3 --step 7", "'7'", "divide 360"),
    ("figure 3 --sample -1", "--sample", "expected"),
    ("figure 3 --out page.svg", "page.svg", "leave the suffix out"),
    ("figure 3 --out folder/", "folder/", "a folder and a name for the files in it"),
    ("figure 4 --angles nan", "'nan'", "degrees from 0 to 180"),
    ("figure sh --max-degree -1", "--max-degree", "expected"),
    ("report nowhere", "nowhere", "expected a folder of runs"),
    ("export --to a", "export", "add its run folder"),
    ("export runs/a --checkpoint runs/b --to c", "two models", "give one"),
    ("predict molecules.sdf", "molecules.sdf: cannot be read", "expected a file with molecules"),
    ("predict nowhere.sdf --checkpoint runs/a", "nowhere.sdf", "expected a file with molecules"),
    ("bench memory --no-memory", "--no-memory", "leave"),
    ("bench step --workload nothing", "'nothing'", "known: nbody"),
    ("bench step --plot page.docx", "--plot", "python -m benchmarks step --plot page.docx"),
    ("convert --from nowhere a.pt --to b.pt", "'nowhere'", "authors"),
    ("check-golden nowhere.pt", "nowhere.pt", "no such file"),
    ("doctor nowhere", "nowhere", "se3t doctor"),
    ("runs nothing=1", "nothing=1", "se3t train --cfg job prints them"),
    ("nowhere", "'nowhere'", "se3t --help"),
]


@pytest.mark.parametrize(("line", "word", "way_out"), _LINES, ids=[line for line, _, _ in _LINES])
def test_a_wrong_line_is_told_in_a_sentence_with_a_way_out(run: Run, line: str, word: str, way_out: str) -> None:
    answer = run(*shlex.split(line))
    assert answer.status == 2, answer.err
    assert word in answer.err
    assert way_out in answer.err
    assert not _JARGON.search(answer.err.replace(line, "")), answer.err
    assert len(answer.err.splitlines()) <= 2
    assert answer.files == []


def test_control_characters_of_a_line_are_shown_as_escapes(run: Run) -> None:
    answer = run("train", "experiment=\x1b[31mred")
    assert answer.status == 2
    assert "\x1b" not in answer.err
    assert "\\x1b[31mred" in answer.err
