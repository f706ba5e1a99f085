"""``se3t data prepare qm9`` and ``molecules``: what is printed, what is refused; Ctrl-C leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data.qm9.raw_files import SHAPES, csv_text, mol_block, qm9_zip, sdf_text, values, write_zip
from se3t.data.qm9.splits import official_splits

from .conftest import Run

SPLIT_OF = official_splits()
TRAIN, VALID, TEST = (np.flatnonzero(code == SPLIT_OF).tolist() for code in range(3))
NUMBERS = sorted([*TRAIN[:8], *VALID[:3], 58])


def lines_with(text: str, words: str) -> list[str]:
    return [line for line in text.splitlines() if words in line]


def test_qm9_is_prepared_and_described(run: Run, tmp_path: Path) -> None:
    qm9_zip(tmp_path / "qm9.zip", NUMBERS)
    answer = run("data", "prepare", "qm9", "data.raw=qm9.zip", "data.workers=1")
    assert answer.status == 0
    assert "QM9: 8 of 100,000 train, 3 of 17,748 valid, 0 of 13,083 test" in answer.out
    assert "1 uncharacterized molecules removed, by the list that comes with se3t" in answer.out
    assert "bonds: 11 sanitised" in answer.out
    assert "refused: 0" in answer.out
    assert f"store: {Path('data/qm9/qm9.h5')}, 0.0 MiB" in answer.out
    mu = np.array([values(number)[3] for number in TRAIN[:8]])
    valid = np.array([values(number)[3] for number in VALID[:3]])
    (row,) = lines_with(answer.out, " mu ")
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    error = np.abs(valid - mu.mean()).mean()
    assert cells == ["mu", "D", f"{mu.mean():.5g}", f"{mu.std():.5g}", f"{error:.5g}", "–"]
    assert len(lines_with(answer.out, " meV ")) == 8
    assert answer.files == ["data", "qm9.zip"]


def test_a_second_call_prints_the_same_and_shows_no_progress(run: Run, tmp_path: Path) -> None:
    qm9_zip(tmp_path / "qm9.zip", NUMBERS)
    first = run("data", "prepare", "qm9", "data.raw=qm9.zip", "data.workers=1")
    second = run("data", "prepare", "qm9")
    assert second.out == first.out
    assert (second.status, second.err) == (0, "")


def test_refused_molecules_are_named_on_the_screen(run: Run, tmp_path: Path) -> None:
    bad = sdf_text(NUMBERS).replace(mol_block(f"gdb_{TRAIN[3]}", SHAPES[TRAIN[3] % 4]), f"gdb_{TRAIN[3]}\nM  END\n")
    write_zip(tmp_path / "qm9.zip", bad, csv_text(NUMBERS))
    answer = run("data", "prepare", "qm9", "data.raw=qm9.zip", "data.workers=1")
    assert "refused: 1\n  molecule" in answer.out
    assert f"molecule {TRAIN[3]} (gdb_{TRAIN[3]}): RDKit cannot read its mol block" in answer.out
    assert "QM9: 7 of 100,000 train" in answer.out


def test_names_of_others_are_printed_and_not_obeyed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "[red]").mkdir()
    blocks = [mol_block(f"\x1b[31mm{row}[/]", SHAPES[row % 4]) for row in range(8)]
    blocks[3] = "\x1b[31mm3[/]\nM  END\n"
    (tmp_path / "[red]" / "a.sdf").write_text("".join(f"{block}$$$$\n" for block in blocks))
    rows = [f"\x1b[31mm{row}[/],{row},{row}" for row in range(8)]
    (tmp_path / "[red]" / "b.csv").write_text("\n".join(["na\x1bme,k [/s],[bold]\x1b[1mx", *rows]))
    answer = run("data", "prepare", "molecules", "data.raw='[red]'", "data.workers=1")
    assert answer.status == 0
    assert [line for line in (answer.out + answer.err).splitlines() if "\x1b" in line] == []
    assert "[red]: " in answer.out
    assert len(lines_with(answer.out, " k [/s] ")) == len(lines_with(answer.out, " [bold]\\x1b[1mx ")) == 1
    assert "molecule 4 (\\x1b[31mm3[/]): " in answer.out


def test_own_molecules_are_prepared_and_described(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.sdf").write_text(
        "".join(f"{mol_block(f'm{row}', SHAPES[row % 4])}$$$$\n" for row in range(20))
    )
    (tmp_path / "mine" / "b.csv").write_text("\n".join(["name,logS,note", *(f"m{row},{row},x" for row in range(20))]))
    answer = run("data", "prepare", "molecules", "data.raw=mine", "data.workers=1", "data.test_fraction=0.2")
    assert answer.status == 0
    assert "mine: 10 train, 5 valid, 5 test" in answer.out
    assert "splits: 20 records of 4 molecules" in answer.out
    assert "b.csv: rows by column 'name'" in answer.out
    assert "b.csv: line 2, column 'note', is 'x', expected a number or an empty cell: column ignored" in answer.out
    assert len(lines_with(answer.out, " logS ")) == 1
    assert "store: data/molecules/mine-" in answer.out
    assert answer.err.count("column 'note'") == 0  # said once, below the table
    assert run("data", "prepare", "molecules", "data.raw=mine", "data.test_fraction=0.2").out == answer.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("qm9 data.raw=nowhere.zip", ["data.raw=nowhere.zip: not found; expected qm9.zip, gdb9.sdf"]),
        ("qm9 data.row=qm9.zip", ["data.row", "did you mean 'raw'?"]),
        ("qm9 data.workers=0", ["data.workers=0", "1 or more"]),
        ("qm9 seed=3", ["seed=3: does not change the data", "official"]),
        ("molecules seed=3", ["seed=3: does not change the data", "data.split_seed=3"]),
        ("molecules", ["data.raw: a value is missing", "a folder with one file of molecules"]),
        ("molecules data.raw=nowhere", ["data.raw=nowhere: not found"]),
        ("molecules data.raw=. data.valid_fraction=0.9", ["data.valid_fraction=0.9", "at most 0.5"]),
    ],
)
def test_what_is_wrong_is_one_sentence(run: Run, words: str, expected: list[str]) -> None:
    answer = run("data", "prepare", *words.split())
    assert answer.status == 2
    assert answer.err.startswith("se3t: ")
    assert answer.err.count("\n") == 1
    for word in expected:
        assert word in answer.err
    assert answer.files == []


def test_no_network_is_one_sentence_with_the_manual_way(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.data.download._WAIT", 0.0)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://me:secret@127.0.0.1:9")  # nobody listens at the discard port
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    answer = run("data", "prepare", "qm9", "trainer.progress=false")
    assert answer.status == 2
    last = answer.err.strip().splitlines()[-1]
    assert last.startswith("se3t: download failed (ndownloader.figshare.com: cannot be reached")
    for words in ("through the proxy 127.0.0.1:9", "https://", "/data/qm9/raw", "data.raw=<file>"):
        assert words in last
    assert "secret" not in answer.err
    assert not list(Path("data").rglob("*.*"))


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw data that take some seconds to build."""
    return qm9_zip(tmp_path_factory.mktemp("raw") / "qm9.zip", sorted([*TRAIN[:50_000], *VALID[:10]]))


def descendants(pid: int) -> set[int]:
    """Processes that this one started, directly or not."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def hear_interrupts() -> None:
    """A background job without job control, as these tests may be run in, has Ctrl-C switched off for its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def started(large: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "se3t", "data", "prepare", "qm9", f"data.raw={large}", "data.workers=2"]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_interrupts,
    ) as process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
@pytest.mark.parametrize("whole_group", [True, False])
@pytest.mark.parametrize("wait", [0.0, 1.5])
def test_an_interrupt_while_building_leaves_nothing_behind(
    started: subprocess.Popen[str], run: Run, tmp_path: Path, whole_group: bool, wait: float
) -> None:
    deadline = time.monotonic() + 60
    while not (children := descendants(started.pid)):  # the workers: molecules are being built
        assert started.poll() is None, started.stderr.read() if started.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(wait)
    children |= descendants(started.pid)
    (os.killpg if whole_group else os.kill)(started.pid, signal.SIGINT)  # a terminal interrupts the whole group
    _, err = started.communicate(timeout=30)
    assert started.returncode == 130
    assert "se3t: interrupted" in err
    assert "Traceback" not in err
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []
    deadline = time.monotonic() + 10
    while any(map(alive, children)):
        assert time.monotonic() < deadline, "a child is left"
        time.sleep(0.05)
    qm9_zip(tmp_path / "qm9.zip", NUMBERS)
    assert run("data", "prepare", "qm9", "data.raw=qm9.zip", "data.workers=1").status == 0


# --- doctor -------------------------------------------------------------------------------------------------------


def test_doctor_knows_the_data_of_table_3_and_downloads_that_wait_to_be_continued(run: Run, tmp_path: Path) -> None:
    assert "se3t data prepare qm9 data.root=data" in run("doctor").out
    qm9_zip(tmp_path / "qm9.zip", NUMBERS)
    run("data", "prepare", "qm9", "data.raw=qm9.zip", "data.workers=1")
    part = Path("data/qm9/raw/dsgdb9nsd.xyz.tar.bz2.part")
    part.parent.mkdir()
    part.write_bytes(b"0" * 2**21)
    answer = run("doctor")
    assert "se3t data prepare qm9" not in answer.out
    assert "data/qm9/qm9.h5, 0.0 MiB (Table 3)" in answer.out
    assert f"{part}, 2.0 MiB of an interrupted download" in answer.out


BARE = """
import socket, sys
for name in ("rdkit", "wandb", "pandas", "tensorboard", "e3nn", "triton"):
    sys.modules[name] = None  # importing it fails

def refuse(*arguments, **named):
    raise OSError("this machine has no network")

socket.socket.connect = socket.getaddrinfo = refuse
sys.argv = ["se3t", *sys.argv[1:]]
from se3t.cli.main import main
sys.exit(main())
"""


def test_a_prepared_store_is_trained_on_where_the_other_packages_and_the_network_are_missing(
    run: Run, tmp_path: Path
) -> None:
    qm9_zip(tmp_path / "qm9.zip", sorted([*TRAIN[:64], *VALID[:16]]))
    assert run("data", "prepare", "qm9", "data.raw=qm9.zip", "data.workers=1").status == 0
    (tmp_path / "qm9.zip").unlink()
    words = "train experiment=qm9 task=homo preset=smoke data.num_train=null data.num_valid=null data.num_test=null"
    words += " trainer.max_steps=2 trainer.eval_every=2 trainer.batch_size=8 model.num_layers=1 model.channels=8"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    command = [sys.executable, "-c", BARE, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/qm9/se3_transformer/*/result.json"))) == 1
