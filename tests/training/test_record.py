from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from se3t.config import Config, DeepSetModel, OptimConfig, TrainerConfig
from se3t.errors import UserError
from se3t.files import write_atomically
from se3t.runs import RunFolder, read_json
from se3t.runs.files import write_json
from se3t.runs.folder import finished_result
from se3t.runs.identity import first_difference, settings_hash
from se3t.runs.names import CONFIG, PROVENANCE
from se3t.training import record
from se3t.training.train import train


def test_the_folder_of_a_run_follows_from_its_settings(tmp_path: Path) -> None:
    config = Config(runs=str(tmp_path), seed=7, model=DeepSetModel())
    folder = RunFolder.of(config).path
    assert folder.parent == tmp_path / "nbody" / "deepset"
    assert folder.name == f"7-{settings_hash(asdict(config))}"
    assert folder == RunFolder.of(Config(runs=str(tmp_path), seed=7, model=DeepSetModel())).path


def test_the_hash_ignores_length_place_and_display() -> None:
    config = Config()
    same = [
        replace(config, resume=True, runs="elsewhere"),
        replace(config, trainer=TrainerConfig(max_steps=5, progress=False, threads=1, checkpoint_every=7)),
        replace(config, logger=replace(config.logger, wandb="offline", tags=["a"])),
        replace(config, data=replace(config.data, root="/else")),
    ]
    assert {settings_hash(asdict(other)) for other in same} == {settings_hash(asdict(config))}


def test_the_hash_depends_on_everything_else() -> None:
    config = Config()
    others = [
        config,
        replace(config, seed=1),
        replace(config, optim=OptimConfig(lr=2e-3)),
        replace(config, trainer=TrainerConfig(batch_size=64)),
        replace(config, model=replace(config.model, num_heads=1)),
        replace(config, data=replace(config.data, preset="text")),
    ]
    assert len({settings_hash(asdict(other)) for other in others}) == len(others)


def test_the_budget_tells_runs_apart_where_the_learning_rates_depend_on_it() -> None:
    def of(schedule: str, max_steps: int) -> str:
        return settings_hash(
            asdict(Config(optim=OptimConfig(schedule=schedule), trainer=TrainerConfig(max_steps=max_steps)))
        )

    assert of("constant", 5) == of("constant", 6)
    assert of("cosine", 5) != of("cosine", 6)


def test_the_first_setting_that_differs_is_named() -> None:
    config = Config()
    other = replace(config, seed=3, optim=OptimConfig(lr=2e-3), resume=True)
    assert first_difference(asdict(config), asdict(other)) == "optim.lr"
    assert first_difference(asdict(config), asdict(config)) is None


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        file.write(b"half of the ne")  # type: ignore[attr-defined]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"


def test_json_holds_null_for_a_number_that_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1.0, float("nan")], "y": float("inf"), "z": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1.0, None], "y": None, "z": 2}


@pytest.mark.parametrize("content", ['{"a": 1', "[1]"])
def test_damaged_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_rewinding_forgets_later_lines_the_end_and_a_half_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_metrics() == []
    for step in (1, 2, 3):
        folder.append_metrics("valid", step, {"loss": step / 2})
    folder.append_metrics("valid", 2, {"loss": 9.0, "final": True})
    with folder.metrics.open("a") as file:
        file.write('{"kind": "valid", "st')  # a process was killed here
    assert len(folder.read_metrics()) == 4
    folder.rewind_metrics(2)
    assert [line["step"] for line in folder.read_metrics()] == [1, 2]
    folder.append_metrics("valid", 3, {"loss": 1.5})
    assert [line["step"] for line in folder.read_metrics()] == [1, 2, 3]


def test_a_run_folder_is_held_by_one_process(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from se3t.runs import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).exclusive(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process"), RunFolder(tmp_path).exclusive():
            pass
        (tmp_path / CONFIG).touch()  # a run in progress: to remove its folder would be bad advice
        with pytest.raises(UserError, match="another process is training this run"):
            train(Config(), tmp_path)
        other.kill()
        other.wait()
    RunFolder(tmp_path).require_free()
    with RunFolder(tmp_path).exclusive():  # the hold ended with its process
        pass


def test_only_the_first_process_asks_whether_a_folder_may_be_continued(tmp_path: Path) -> None:
    (tmp_path / CONFIG).touch()  # by the first process, a moment ago
    assert finished_result(RunFolder(tmp_path), Config(), is_first=False) is None
    with pytest.raises(UserError, match="resume=true"):
        finished_result(RunFolder(tmp_path), Config())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^runs: .*file is no folder.*set runs"):
        RunFolder(tmp_path / "file" / "deep" / "run").require_writable()
    with pytest.raises(UserError, match=r"^runs: .*set runs"), RunFolder(tmp_path / "file" / "run").exclusive():
        pass
    RunFolder(tmp_path / "new" / "run").require_writable()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_session_of_a_run_keeps_its_provenance(tmp_path: Path) -> None:
    path = tmp_path / PROVENANCE
    write_json(path, {"command": "first"})
    for command in ("second", "third"):
        RunFolder(tmp_path).add_session({"command": command})
    sessions = read_json(path)["sessions"]
    assert [session["command"] for session in sessions] == ["first", "second", "third"]


def test_provenance_names_no_host_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "se3t"), "train", "seed=1"])
    monkeypatch.setattr(platform, "node", lambda: "a-host")
    facts = record.provenance(torch_threads=3)
    assert facts["command"] == "se3t train seed=1"
    assert facts["torch_threads"] == 3
    assert {"python", "torch", "se3t"} <= facts["versions"].keys()
    assert "a-host" not in json.dumps(facts)
    assert str(tmp_path) not in json.dumps(facts)


def test_the_record_needs_no_torch() -> None:
    code = "import sys, se3t.runs, se3t.training.record, se3t.training.schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("line", [b'{"kind": "train", "st', b"\0\0\0\0", b"[1]", b'{"kind": "train"}'])
def test_a_damaged_line_of_the_metrics_is_named(line: bytes, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append_metrics("train", 1, {"loss": 0.5})
    folder.metrics.write_bytes(folder.metrics.read_bytes() + line + b"\n")
    folder.append_metrics("train", 3, {"loss": 0.5})
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is .*; remove that line"):
        folder.rewind_metrics(3)
