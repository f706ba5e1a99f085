"""Bad input: one clear sentence that names the offending word, an exit status, nothing left behind."""

from __future__ import annotations

import pytest

from se3t.config import NBodyData
from se3t.data.nbody.prepare import store_path

from .conftest import Run

_LINES = 6

_CASES = [
    # words, what stderr must name
    ("train trainer.max_step=3", ["trainer.max_step:", "did you mean 'max_steps'?"]),
    ("train max_steps=3", ["max_steps:", "did you mean 'trainer.max_steps'?"]),
    ("train modle=tfn", ["modle:", "did you mean 'model'?"]),
    ("train model=tfn model.num_heads=3", ["model.num_heads:", "known: channels"]),
    ("train +foo=1", ["foo:", "no such setting"]),
    ("train +trainer.foo=1", ["trainer.foo:", "no such setting"]),
    ("train ++model.foo=1", ["model.foo:", "no such setting"]),
    ("train trainer.max_steps=abc", ["trainer.max_steps=abc", "a whole number"]),
    ("train trainer.max_steps=1e3", ["trainer.max_steps=1000.0", "a whole number"]),
    ("train optim.lr=fast", ["optim.lr=fast", "a number"]),
    ("train resume=maybe", ["resume=maybe", "the folder of a run"]),
    ("train model.channels=null", ["model.channels=None", "a whole number"]),
    ("train logger.tags=a", ["logger.tags=a", "a list"]),
    ("train trainer=fast", ["trainer=fast", "a group of settings"]),
    ("train data.num_train=many", ["data.num_train=many", "a whole number or null"]),
    ("train experiment=nbdy", ["experiment=nbdy", "did you mean 'nbody'?", "known: "]),
    ("train experiment=nbody/", ["experiment=nbody/:", "without the slash: experiment=nbody"]),
    ("train --resume", ["--resume:", "write resume=true"]),
    ("train scanobjectnn", ["write experiment=scanobjectnn or data=scanobjectnn"]),
    ("train experiment=shapes15", ["experiment=shapes15: unknown; write data=shapes15"]),
    ("train model=tnf", ["model=tnf", "did you mean 'tfn'?", "known: deepset, dgcnn"]),
    ("train experiment=qm9 preset=quick", ["experiment 'qm9' has no such preset", "known: fast, paper, recommended"]),
    ("train experiment=QM9", ["experiment=QM9", "did you mean 'qm9'?"]),
    ("train experiment=qm9 task=homoo", ["task=homoo", "did you mean 'homo'?"]),
    ("train task=homo", ["data=nbody: task property needs data=qm9", "experiment=qm9"]),
    ("train data=molecules", ["data=molecules: task nbody needs data=nbody"]),
    ("train preset=quik", ["preset=quik", "did you mean 'quick'?", "paper, quick"]),
    ("train data=nbdy", ["data=nbdy", "did you mean 'nbody'?"]),
    ("train data.preset=calibratd", ["data.preset", "did you mean 'calibrated'?", "known: authors"]),
    ("train data.start=last", ["data.start", "'last'"]),
    ("train model=null", ["model=null", "choose one: deepset"]),
    ("train ~model", ["~model", "choose one: deepset"]),
    ("train trainer.max_steps=0", ["trainer.max_steps=0", "1 or more"]),
    ("train trainer.max_steps=-1", ["trainer.max_steps=-1", "1 or more"]),
    ("train trainer.batch_size=0", ["trainer.batch_size=0", "1 or more"]),
    ("train trainer.devices=0", ["trainer.devices=0", "1 or more"]),
    ("train trainer.precision=16", ["trainer.precision=16", "known: 32, 64, bf16"]),
    ("train optim.schedule=cosin", ["optim.schedule=cosin", "did you mean 'cosine'?"]),
    ("train optim.lr=nan", ["optim.lr=nan", "above 0"]),
    ("train seed=-3", ["seed=-3", "0 or more"]),
    ("train model.kernel=fast", ["model.kernel=fast", "known: "]),
    ("train model.name=linear", ["model."]),
    ("train experiment=nbody trainer.devices=2 -m seed=1,2", ["trainer.devices=2", "-m", "trainer.devices=1"]),
    ("train seed=1,2", ["seed=1,2", "-m"]),
    ("train seed", ["seed:", "key=value"]),
    ("train seed=[1", ["seed=[1", "key=value"]),
    ("train -m preset=smoke,nope", ["preset=nope", "paper, quick"]),
    ("train --multirn", ["--multirn", "did you mean '--multirun'?"]),
    ("train --config-dir nowhere", ["nowhere", "not found"]),
    ("eval", ["checkpoint"]),
    ("eval checkpont=x", ["checkpont", "did you mean 'checkpoint'?"]),
    ("eval checkpoint=nowhere", ["nowhere"]),
    ("eval checkpoint=nowhere split=tset", ["split=tset", "did you mean 'test'?"]),
    ("data", ["se3t data prepare <name>"]),
    ("data prepair nbody", ["prepair", "se3t data prepare <name>"]),
    ("data prepare", ["data prepare", "known: molecules, nbody"]),
    ("data prepare nbdy", ["nbdy", "did you mean 'nbody'?"]),
    ("data prepare nbody data.preset=txt", ["data.preset", "'txt'", "did you mean 'text'?"]),
    ("data prepare nbody sed=1", ["sed:", "did you mean 'seed'?"]),
    ("data prepare nbody seed=3", ["seed=3:", "data.data_seed=3"]),
    ("data prepare nbody --force", ["--force:", "write force=true"]),
    ("data prepare nbody force=yes", ["force=yes:", "force=true or force=false"]),
    ("doctor data.root=x", ["data.root=x", "se3t doctor [--root"]),
    ("doctor --root", ["--root", "se3t doctor [--root"]),
    ("convert", ["convert:", "required: weights, --from, --to", "se3t convert --from authors | nvidia"]),
    ("convert --from dgl a.pt --to b.pt", ["--from", "invalid choice: 'dgl'", "expected: se3t convert"]),
    ("convert --from nvidia a.pt --to b.pt", ["a.pt: there is no such file"]),
    ("convert --from nvidia a.pt --to b.pt --config m.yaml", ["m.yaml: there is no such file", "num_heads: 8"]),
    ("convert --from nvidia a.pt --to b.pt --fast", ["unrecognized arguments: --fast"]),
    ("check-golden", ["check-golden:", "required: FILE", "expected: se3t check-golden FILE"]),
    ("check-golden nowhere.pt", ["nowhere.pt: there is no such file"]),
    ("check-golden nowhere.pt --kernel fast", ["--kernel", "invalid choice: 'fast'"]),
    ("check-golden nowhere.pt --device tpu", ["--device tpu: torch has no such device here"]),
    ("eval checkpoint=nowhere experiment=nbdy", ["experiment=nbdy: unknown; did you mean 'nbody'?"]),
    ("table nowhere", ["nowhere", "does not exist"]),
    ("table --html", ["--html", "expected: se3t table"]),
    ("table", ["no finished run"]),
    ("--completion fish", ["fish", "known: bash, zsh"]),
]


@pytest.mark.parametrize(("words", "named"), _CASES, ids=[words for words, _ in _CASES])
def test_bad_input_is_named_in_a_sentence_and_leaves_nothing(run: Run, words: str, named: list[str]) -> None:
    answer = run(*words.split())
    assert answer.status == 2
    assert all(word in answer.err for word in named), answer.err
    assert len(answer.err.splitlines()) <= _LINES
    assert "Traceback" not in answer.err
    assert answer.files == []


def test_a_damaged_store_is_named_and_kept(run: Run) -> None:
    path = store_path(NBodyData(num_train=2, num_valid=2, num_test=2))
    run("--version")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a store")
    sizes = ["data.num_train=2", "data.num_valid=2", "data.num_test=2"]
    for command in (["train", *sizes], ["data", "prepare", "nbody", *sizes]):
        answer = run(*command)
        assert answer.status == 2
        assert str(path) in answer.err
        assert "force=true" in answer.err
        assert len(answer.err.splitlines()) <= _LINES
        assert answer.files == ["data"]
    assert path.read_bytes() == b"not a store"
