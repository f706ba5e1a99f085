"""A run folder that the version before this package wrote, ``earlier_version``: it opens, and says what it said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from se3t.config import to_config
from se3t.errors import UserError
from se3t.experiments import experiment
from se3t.reporting.report.runs import find_runs
from se3t.runs import Fields, RunFolder
from se3t.runs.checks import require_file_unchanged, require_unchanged
from se3t.runs.files import digest_of_metrics
from se3t.runs.folder import finished_result
from se3t.runs.names import FINISHED, METRICS

FOLDER = RunFolder(Path(__file__).parent / "earlier_version" / "0-06fc480e")


def test_its_settings_still_have_the_hash_of_its_name() -> None:
    config = to_config(FOLDER.read_config())
    assert RunFolder.of(config).path.name == FOLDER.path.name


def test_its_record_has_the_same_values() -> None:
    record = experiment("nbody").parse_record(Fields.read(FOLDER.result))
    assert (record.model, record.preset, record.seed, record.ablation) == ("se3_transformer", "smoke", 0, "none")
    assert (record.max_steps, record.steps_done, record.batch_size, record.parameters) == (4, 4, 8, 180_568)
    assert record.metrics["mse_x"] == 0.08231749545715673
    assert record.metrics["equivariance_error_v"] == 5.85376259950851e-07
    assert record.data.sizes == (32, 16, 16)
    assert record.overridden == {"num_train": 32, "num_valid": 16, "num_test": 16}
    assert record.setting("trainer.max_time") is None
    assert "trainer.threads" not in record.settings


def test_its_digests_match_and_it_counts_as_verified() -> None:
    fields = Fields.read(FOLDER.result)
    require_unchanged(fields)
    assert fields.is_verified
    require_file_unchanged(FOLDER.path, METRICS, digest_of_metrics(FOLDER.read_metrics()))


def test_the_list_of_runs_shows_it(tmp_path: Path) -> None:
    (run,) = find_runs([FOLDER.path.parent])
    assert (run.state, run.experiment, run.steps, run.split) == (FINISHED, "nbody", (4, 4), "test")
    assert [session["command"] for session in run.sessions] == [run.command]
    unfinished = shutil.copytree(FOLDER.path, tmp_path / FOLDER.path.name)
    RunFolder(unfinished).result.unlink()
    (run,) = find_runs([tmp_path])
    assert (run.state, run.split, run.metrics["mse_x"]) == ("interrupted", "valid", 0.13095227291220254)


def test_the_same_training_is_finished_and_a_longer_one_asks_for_resume() -> None:
    config = to_config(FOLDER.read_config())
    assert finished_result(FOLDER, config) == FOLDER.read_result()
    config.trainer.max_steps = 8
    with pytest.raises(UserError, match="has finished 4 of 8 steps; add resume=true"):
        finished_result(FOLDER, config)


def test_what_it_overrode_follows_from_its_preset() -> None:
    """Its result does not say what was typed."""
    fields = Fields.read(FOLDER.result)
    record = experiment("nbody").parse_record(fields)
    assert record.overrides is None
    assert not record.is_overridden("optim.lr")
    changed = {**fields.content, "config": {**fields.content["config"], "optim": {"lr": 0.5}}}
    assert experiment("nbody").parse_record(Fields(changed, "changed")).is_overridden("optim.lr")
