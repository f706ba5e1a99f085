from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from se3t.config import NBodyData
from se3t.data.nbody.baselines import summary
from se3t.data.nbody.dataset import NBodyDataset, load_nbody
from se3t.data.nbody.prepare import prepare_nbody, read_nbody_store
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
    assert dataset.settings == resolve(config)


def test_a_trajectory_at_a_start_is_the_sample_with_that_fixed_start(config: NBodyData, dataset: NBodyDataset) -> None:
    assert dataset.trajectories is not None
    assert dataset.trajectories.num_starts == resolve(config).num_starts == 5
    for start in (0, 3, 4):
        expected = simulate(resolve(replace(config, start=str(start))), "train")
        begin, end = dataset.trajectories.states_at(torch.arange(6), torch.full((6,), start))
        now, change = (expected.positions, expected.velocities), (expected.target_positions, expected.target_velocities)
        np.testing.assert_allclose(begin.numpy(), np.stack(now, axis=2), rtol=1e-6)
        np.testing.assert_allclose((end - begin).numpy(), np.stack(change, axis=2), atol=1e-6)


def test_a_fixed_start_keeps_no_trajectories_and_says_how_many_samples_there_are(config: NBodyData) -> None:
    for start, count in (("random", 30), ("random_once", 6), ("first", 6)):
        chosen = replace(config, start=start)
        prepare_nbody(chosen, progress=False)
        found = load_nbody(chosen)
        assert (found.distinct_samples, summary(found)["distinct_samples"]) == (count, count)
        assert (found.trajectories is None) == (start != "random")


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
