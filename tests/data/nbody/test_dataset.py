from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from se3t.config import NBodyData
from se3t.data.nbody.dataset import NBodyDataset, load_nbody
from se3t.data.nbody.prepare import prepare_nbody, read_nbody_store, store_path
from se3t.data.nbody.presets import resolve
from se3t.data.nbody.simulator import simulate
from se3t.errors import UserError


@pytest.fixture
def config(tmp_path: Path) -> NBodyData:
    return NBodyData(
        root=str(tmp_path),
        num_train=6,
        num_valid=4,
        num_test=5,
        num_particles=3,
        num_steps=90,
        sample_every=10,
        horizon_frames=3,
    )


@pytest.fixture
def dataset(config: NBodyData) -> NBodyDataset:
    prepare_nbody(config, progress=False)
    return load_nbody(config)


def test_the_tensors_are_those_of_the_simulator(config: NBodyData, dataset: NBodyDataset) -> None:
    for split, size in {"train": 6, "valid": 4, "test": 5}.items():
        samples = simulate(resolve(config), split)
        assert len(dataset.splits[split]) == size
        assert dataset.splits[split].num_particles == 3
        for name in ("positions", "velocities", "charges", "target_positions", "target_velocities"):
            tensor = getattr(dataset.splits[split], name)
            assert tensor.dtype == torch.float64
            np.testing.assert_array_equal(tensor.numpy(), samples.as_dict()[name])
        np.testing.assert_array_equal(dataset.diagnostics[split].energy.numpy(), samples.energy)


def test_horizon_and_checksum_are_known(config: NBodyData, dataset: NBodyDataset) -> None:
    assert dataset.horizon == dataset.splits["test"].horizon == pytest.approx(0.03)
    assert dataset.checksum == read_nbody_store(config).checksum
    assert dataset.path == store_path(config)
    assert dataset.settings == resolve(config)


def test_select_keeps_trajectories_whole(dataset: NBodyDataset) -> None:
    train = dataset.splits["train"]
    chosen = train.select(torch.tensor([4, 1]))
    assert len(chosen) == 2
    assert chosen.horizon == train.horizon
    torch.testing.assert_close(chosen.target_velocities[0], train.target_velocities[4], rtol=0, atol=0)
    torch.testing.assert_close(chosen.charges[1], train.charges[1], rtol=0, atol=0)


def test_data_that_were_not_prepared_are_an_error_that_says_how(config: NBodyData) -> None:
    with pytest.raises(UserError, match=r"not found.*se3t data prepare nbody"):
        load_nbody(config)
