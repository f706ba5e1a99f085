from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from se3t.config import NBodyData
from se3t.data import store as stores
from se3t.data.nbody import prepare
from se3t.data.nbody.prepare import prepare_nbody, read_nbody_store, store_path
from se3t.data.nbody.presets import PRESETS
from se3t.errors import UserError
from se3t.experiments.nbody import DATA


@pytest.fixture
def config(tmp_path: Path) -> NBodyData:
    return NBodyData(
        root=str(tmp_path / "data"),
        num_train=6,
        num_valid=4,
        num_test=5,
        num_steps=90,
        sample_every=10,
        horizon_frames=3,
    )


@pytest.mark.parametrize(
    ("preset", "checksum"),
    [
        ("calibrated", "f8681383bc10fd271dc6afee751b66dd2362df3352709efa4261f470535481a7"),
        ("calibrated_random", "fd15827395c08db9762e3b28c27bef4e54f3eabc356c2b6880ada6591dfdfe4b"),
    ],
)
def test_the_data_are_the_same_bits_on_every_machine(config: NBodyData, preset: str, checksum: str) -> None:
    config.preset = preset
    prepare_nbody(config, progress=False)
    # Changes only when the definition of the data changes; then CHANGELOG.md says so.
    assert read_nbody_store(config).checksum == checksum


def test_the_store_says_how_it_was_made(config: NBodyData) -> None:
    store = read_nbody_store_of(config)
    sizes = {"num_train": 6, "num_valid": 4, "num_test": 5, "num_steps": 90, "sample_every": 10, "horizon_frames": 3}
    assert store.settings == replace(PRESETS["calibrated_random"], **sizes).as_dict()
    assert store.arrays["train/frames"].shape == (6, 8, 5, 2, 3)
    assert {"program", "numpy", "created", "seconds"} <= set(store.provenance)
    assert set(store.units) == set(store.arrays)
    assert store.arrays["valid/energy"].shape == (4, 2)
    assert store.arrays["test/clipped"].shape == (5,)


def test_the_splits_have_different_trajectories(config: NBodyData) -> None:
    arrays = read_nbody_store_of(config).arrays
    rows = np.concatenate([arrays[f"{split}/positions"].reshape(-1, 15) for split in ("train", "valid", "test")])
    assert len(np.unique(rows, axis=0)) == 15


def test_a_prepared_store_is_not_made_again(config: NBodyData, monkeypatch: pytest.MonkeyPatch) -> None:
    made, path = prepare_nbody(config, progress=False), store_path(config)
    before = path.read_bytes()
    monkeypatch.setattr(prepare, "simulate", None)
    assert prepare_nbody(config, progress=False).checksum == made.checksum
    assert path.read_bytes() == before


def test_a_damaged_store_is_an_error_until_forced(config: NBodyData) -> None:
    path, checksum = store_path(config), prepare_nbody(config, progress=False).checksum
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"damaged.*`se3t data prepare nbody .*data\.num_train=6.*force=true`"):
        prepare_nbody(config, progress=False)
    prepare_nbody(config, progress=False, force=True)
    assert read_nbody_store(config).checksum == checksum


def test_a_missing_store_names_the_command_that_makes_it(config: NBodyData) -> None:
    with pytest.raises(
        UserError, match=r"not found; .*`se3t data prepare nbody [^`]*data\.num_steps=90 [^`]*`"
    ) as caught:
        read_nbody_store(config)
    assert "force" not in str(caught.value)


def test_a_store_under_a_wrong_name_is_noticed(config: NBodyData) -> None:
    prepare_nbody(config, progress=False)
    path = store_path(config)
    config.speed = 0.75
    path.rename(store_path(config))
    with pytest.raises(UserError, match=r"was made with speed = 0\.5, expected 0\.75"):
        read_nbody_store(config)


def test_a_store_without_one_array_is_noticed(config: NBodyData, monkeypatch: pytest.MonkeyPatch) -> None:
    original = stores.write_store

    def forget(path: Path, store: prepare.Store) -> str:
        del store.arrays["test/clipped"]  # type: ignore[attr-defined]
        return original(path, store)

    monkeypatch.setattr(stores, "write_store", forget)
    prepare_nbody(config, progress=False)
    with pytest.raises(UserError, match="has no array 'test/clipped'"):
        read_nbody_store(config)


def test_an_interrupted_preparation_leaves_nothing(config: NBodyData, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "simulate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare_nbody(config, progress=False)
    assert list(store_path(config).parent.iterdir()) == []


def test_a_root_that_is_a_file_is_named(tmp_path: Path, config: NBodyData) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(UserError, match=r"^data\.root: cannot make the folder"):
        prepare_nbody(config, progress=False)


def test_the_command_repeats_what_differs_from_the_default_and_quotes_it() -> None:
    assert DATA.prepare_command(NBodyData()) == "se3t data prepare nbody"
    config = OmegaConf.structured(NBodyData(preset="text", root="my data"))
    assert (
        DATA.prepare_command(config, force=True)
        == "se3t data prepare nbody 'data.root=my data' data.preset=text force=true"
    )


def test_the_progress_bar_goes_to_standard_error(config: NBodyData, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_nbody(config, progress=True)
    captured = capsys.readouterr()
    assert "15 trajectories" in captured.err
    assert "100 %" in captured.err
    assert captured.out == ""


def test_preparing_needs_neither_torch_nor_h5py_until_it_writes() -> None:
    code = "import sys, se3t.data.nbody.prepare; assert not {'torch', 'h5py', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def read_nbody_store_of(config: NBodyData) -> prepare.Store:
    prepare_nbody(config, progress=False)
    return read_nbody_store(config)
