from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from se3t.config import Config, LoggerConfig
from se3t.errors import UserError
from se3t.runs import RunFolder
from se3t.training.loggers import RUN_ID, TENSORBOARD, run_id, wandb_mode, wandb_run
from se3t.training.train import train

from .parts import failing_build, run_of, small_config


class CommError(Exception):
    pass


class FakeRun:
    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []
        self.exit_codes: list[int] = []

    def define_metric(self, *_: Any, **__: Any) -> None:
        pass

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


class FakeWandb:
    """The part of wandb that is used; remembers how it was."""

    def __init__(self, logged_in: bool = False, reachable: bool = True) -> None:
        self.logged_in, self.reachable = logged_in, reachable
        self.inits: list[dict[str, Any]] = []
        self.runs: list[FakeRun] = []
        self.errors = SimpleNamespace(Error=CommError)
        self.Settings = dict

    def login(self, prompt: bool, verify: bool) -> bool:
        assert not prompt
        assert not verify
        return self.logged_in

    def init(self, **settings: Any) -> FakeRun:
        self.inits.append(settings)
        if settings["mode"] == "online" and not self.reachable:
            raise CommError("timeout\nand more")
        self.runs.append(FakeRun())
        return self.runs[-1]

    def teardown(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return fake


@pytest.mark.parametrize(
    ("wanted", "environment", "logged_in", "mode"),
    [
        ("disabled", "online", True, "disabled"),
        ("online", "disabled", False, "online"),
        ("offline", None, True, "offline"),
        ("auto", None, True, "online"),
        ("auto", None, False, "offline"),
        ("auto", "offline", True, "offline"),
        ("auto", "ONLINE", False, "online"),
        ("auto", "disabled", True, "disabled"),
        ("auto", "dryrun", True, "disabled"),
    ],
)
def test_mode_follows_the_word_then_the_environment_then_the_key(
    fake: FakeWandb,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    environment: str | None,
    logged_in: bool,
    mode: str,
) -> None:
    fake.logged_in = logged_in
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    assert wandb_mode(wanted) == mode


def config(wandb: str = "auto") -> Config:
    return replace(Config(), logger=LoggerConfig(wandb=wandb, group="a", tags=["b"]))


def test_disabled_imports_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would fail
    with wandb_run(config("disabled"), tmp_path) as write:
        assert write is None
    assert not list(tmp_path.iterdir())


def test_a_run_is_offline_without_a_key_and_keeps_its_identity(fake: FakeWandb, tmp_path: Path) -> None:
    for _ in range(2):
        with wandb_run(config(), tmp_path) as write:
            assert write is not None
            write("valid", 5, {"loss": 0.5})
    first, second = fake.inits
    assert (first["mode"], first["resume"], first["group"], first["tags"]) == ("offline", None, "a", ["b"])
    assert first["id"] == second["id"] == run_id(tmp_path) == (tmp_path / RUN_ID).read_text()
    assert fake.runs[0].logged == [{"step": 5, "valid/loss": 0.5}]
    assert [run.exit_codes for run in fake.runs] == [[0], [0]]


def test_an_unreachable_server_means_offline(fake: FakeWandb, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake.logged_in, fake.reachable = True, False
    with caplog.at_level(logging.WARNING), wandb_run(config(), tmp_path) as write:
        assert write is not None
    assert [call["mode"] for call in fake.inits] == ["online", "offline"]
    assert fake.inits[0]["resume"] == "allow"
    assert fake.inits[0]["settings"]["init_timeout"] == 20
    assert "not reachable (timeout)" in caplog.text


def test_a_failed_training_finishes_its_run_as_failed(fake: FakeWandb, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nan in step 2"):
        train(small_config(tmp_path), build=failing_build)
    assert [run.exit_codes for run in fake.runs] == [[1]]


def test_the_record_on_disk_does_not_depend_on_wandb(fake: FakeWandb, tmp_path: Path) -> None:
    from .parts import build

    folder = train(small_config(tmp_path), build=build).parent
    lines = RunFolder(folder).read_metrics()
    (run,) = fake.runs
    assert [line["step"] for line in lines] == [values["step"] for values in run.logged]
    assert all(values[f"{line['kind']}/loss"] == line["loss"] for line, values in zip(lines, run.logged, strict=True))


def test_one_measurement_reaches_every_writer() -> None:
    seen: list[tuple[str, int]] = []
    run = run_of(small_config(Path()), writers=[lambda kind, step, _: seen.append((kind, step))] * 2)
    run.write("valid", 3, {})
    assert seen == [("valid", 3)] * 2
    run_of(small_config(Path())).write("valid", 3, {})
    assert len(seen) == 2


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All that TensorBoard would show of a run."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / TENSORBOARD), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def recorded(folder: Path) -> list[tuple[str, int]]:
    lines = RunFolder(folder).read_metrics()
    return [(f"{line['kind']}/loss", line["step"]) for line in lines]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_every_point_once_however_often_a_run_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .parts import build
    from .test_resume import Interrupted, interrupt_after

    plain = small_config(tmp_path)
    config = replace(plain, logger=LoggerConfig(wandb="disabled", tensorboard=True))
    assert RunFolder.of(config).path == RunFolder.of(plain).path
    with monkeypatch.context() as patch:
        interrupt_after(7, patch)  # evaluated after 5, saved after 4
        with pytest.raises(Interrupted):
            train(config, build=build)
    assert [step for step, _ in points(RunFolder.of(config).path)["valid/loss"]] == [5]
    folder = train(replace(config, resume=True), build=build).parent
    found = points(folder)
    assert [("valid/loss", step) for step, _ in found["valid/loss"]] == recorded(folder)[:-1]
    assert len(found["test/loss"]) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_that_comes_later_gets_what_was_measured_before(tmp_path: Path) -> None:
    from .parts import build

    pytest.importorskip("tensorboard")
    train(small_config(tmp_path, max_steps=10), build=build)
    longer = replace(small_config(tmp_path), resume=True, logger=LoggerConfig(wandb="disabled", tensorboard=True))
    folder = train(longer, build=build).parent
    assert [step for step, _ in points(folder)["valid/loss"]] == [5, 10, 12]


def test_tensorboard_that_is_not_installed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from .parts import build

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = replace(small_config(tmp_path), logger=LoggerConfig(wandb="disabled", tensorboard=True))
    with pytest.raises(UserError, match=r"^logger\.tensorboard=true: .* pip install tensorboard$"):
        train(config, build=build)
