from __future__ import annotations

import math

import pytest
import torch

from se3t.data.nbody.baselines import baseline_errors, baselines, constant_velocity, least_squares, summary
from se3t.data.nbody.dataset import NBodyDataset, NBodyDiagnostics, NBodySplit
from se3t.data.nbody.presets import NBodySettings


def make_split(
    target_positions: torch.Tensor | None = None, *, num_trajectories: int = 40, seed: int = 0
) -> NBodySplit:
    generator = torch.Generator().manual_seed(seed)
    x, v, dx, dv = torch.randn(4, num_trajectories, 5, 3, generator=generator, dtype=torch.float64)
    charges = torch.ones(num_trajectories, 5, 1, dtype=torch.float64)
    return NBodySplit(x, v, charges, dx if target_positions is None else target_positions, dv, horizon=0.5)


def test_constant_velocity_is_exact_for_free_particles() -> None:
    split = make_split()
    free = NBodySplit(
        split.positions, split.velocities, split.charges, 0.5 * split.velocities, 0 * split.velocities, 0.5
    )
    assert baselines(split, free)["constant_velocity"] == (0.0, 0.0)
    assert baselines(split, free)["constant_position"][0] == pytest.approx(
        0.25 * float(split.velocities.square().mean())
    )


def test_errors_are_means_over_trajectories_particles_and_axes() -> None:
    split = make_split()
    x, v = baselines(split, split)["constant_position"]
    assert x == pytest.approx(float((split.target_positions**2).sum()) / (40 * 5 * 3), rel=1e-12)
    assert v == pytest.approx(float((split.target_velocities**2).sum()) / (40 * 5 * 3), rel=1e-12)
    difference = 0.5 * split.velocities - split.target_positions
    assert baselines(split, split)["constant_velocity"][0] == pytest.approx(
        float(difference.square().mean()), rel=1e-12
    )


def test_least_squares_finds_a_linear_law_and_applies_it_elsewhere() -> None:
    def law(split: NBodySplit) -> NBodySplit:
        centred = split.positions - split.positions.mean(1, keepdim=True)
        x, v = 0.3 * centred - 0.7 * split.velocities, -1.1 * centred + 0.2 * split.velocities
        return NBodySplit(split.positions, split.velocities, split.charges, x, v, split.horizon)

    train, test = law(make_split()), law(make_split(seed=1))
    x, v = least_squares(train, test)
    torch.testing.assert_close(x, test.target_positions)
    torch.testing.assert_close(v, test.target_velocities)


def test_least_squares_is_best_on_the_training_split() -> None:
    train = make_split()
    rows = baselines(train, train)
    for name in ("constant_velocity", "constant_position"):
        assert rows["least_squares"][0] < rows[name][0]
        assert rows["least_squares"][1] < rows[name][1]


def test_baselines_are_invariant_to_rotations_and_translations() -> None:
    from se3t.so3 import random_rotation

    rotation = random_rotation(dtype=torch.float64)

    def moved(split: NBodySplit) -> NBodySplit:
        vectors = (split.velocities, split.target_positions, split.target_velocities)
        v, dx, dv = (vector @ rotation.T for vector in vectors)
        return NBodySplit(split.positions @ rotation.T + 3.0, v, split.charges, dx, dv, split.horizon)

    train, test = make_split(), make_split(seed=1)
    expected, found = baselines(train, test), baselines(moved(train), moved(test))
    for name, row in expected.items():
        assert found[name] == pytest.approx(row, rel=1e-10)


def test_standard_errors_are_the_spread_between_test_sets() -> None:
    whole = make_split(num_trajectories=40_000)
    parts = [whole.select(slice(begin, begin + 100)) for begin in range(0, 40_000, 100)]
    x = torch.stack([(constant_velocity(part)[0] - part.target_positions).square().mean() for part in parts])
    assert baseline_errors(parts[0], parts[0])["constant_velocity"][0] == pytest.approx(float(x.std()), rel=0.25)


def test_summary_holds_plain_numbers_relative_to_constant_velocity() -> None:
    splits = {name: make_split(seed=seed) for seed, name in enumerate(("train", "valid", "test"))}
    energy = torch.tensor([[1.0, 1.5]], dtype=torch.float64).repeat(40, 1)
    clipped = torch.tensor([0, 0, 0, 4]).repeat(10)
    diagnostics = {name: NBodyDiagnostics(torch.zeros(40, dtype=torch.int64), energy, clipped) for name in splits}
    found = summary(NBodyDataset(splits, 0.5, "abc", NBodySettings(preset="text"), diagnostics))
    assert (found["preset"], found["horizon"], found["checksum"]) == ("text", 0.5, "abc")
    assert found["sizes"] == {"train": 40, "valid": 40, "test": 40}
    assert found["energy_drift"]["median"] == 0.5
    assert found["force_clip"] == {"max_force": 100.0, "fraction": 0.25, "components": 1.0}
    rows = found["baselines"]
    assert rows["constant_velocity"]["relative_mse_x"] == rows["constant_velocity"]["relative_mse_v"] == 1.0
    ratio = rows["least_squares"]["mse_x"] / rows["constant_velocity"]["mse_x"]
    assert rows["least_squares"]["relative_mse_x"] == pytest.approx(ratio)
    assert all(type(value) is float and math.isfinite(value) for row in rows.values() for value in row.values())


def test_constant_velocity_uses_the_horizon() -> None:
    split = make_split()
    torch.testing.assert_close(constant_velocity(split)[0], 0.5 * split.velocities)
