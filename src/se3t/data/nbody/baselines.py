"""Predictions without learning, which N-body errors are compared with, and a summary of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.data.nbody.dataset import NBodyDataset, NBodyDiagnostics, NBodySplit

Prediction = tuple[Float[Tensor, "trajectory particle 3"], Float[Tensor, "trajectory particle 3"]]


def constant_velocity(split: NBodySplit) -> Prediction:
    """Every particle keeps its velocity: x_T − x_0 = T v_0, v_T − v_0 = 0. The row "Linear" of Table 1."""
    return split.horizon * split.velocities, torch.zeros_like(split.velocities)


def constant_position(split: NBodySplit) -> Prediction:
    """Nothing changes: x_T − x_0 = 0, v_T − v_0 = 0, as a model with zero output predicts.

    On velocities it equals ``constant_velocity``.
    """
    return torch.zeros_like(split.positions), torch.zeros_like(split.velocities)


def least_squares(train: NBodySplit, split: NBodySplit) -> Prediction:
    """The best equivariant linear prediction from a particle's own state.

    x_T − x_0 = a (x_0 − c) + b v_0 and v_T − v_0 = a' (x_0 − c) + b' v_0, where c is the centre of the particles; the
    four numbers are fitted on ``train`` and shared by all particles and axes.
    """
    solution = torch.linalg.lstsq(_own_state(train), _targets(train)).solution
    prediction = (_own_state(split) @ solution).reshape(*split.positions.shape, 2)
    return prediction[..., 0], prediction[..., 1]


def baselines(split_train: NBodySplit, split: NBodySplit) -> dict[str, tuple[float, float]]:
    """Mean squared errors of the baselines on ``split``.

    Args:
        split_train: the split that ``least_squares`` is fitted on.
        split: where the errors are measured.

    Returns:
        (MSE x, MSE v) by name, each the mean over trajectories, particles and axes.
    """
    rows = _error_rows(split_train, split)
    return {name: (float(x.mean()), float(v.mean())) for name, (x, v) in rows.items()}


def baseline_errors(split_train: NBodySplit, split: NBodySplit) -> dict[str, tuple[float, float]]:
    """Standard errors of ``baselines``: (of MSE x, of MSE v) by name, from the spread of the error over trajectories.

    This is the spread to expect between test sets of this size. Close encounters give the error a heavy tail, so
    this estimate is rough.
    """
    rows = _error_rows(split_train, split)
    return {name: (_standard_error(x), _standard_error(v)) for name, (x, v) in rows.items()}


def summary(dataset: NBodyDataset) -> dict[str, Any]:
    """Facts of a data set, as plain numbers.

    Returns:
        ``preset``, ``horizon`` (time), ``checksum``, ``sizes`` of the splits, ``num_particles``, ``distinct_samples``
        of training; ``baselines`` on the test split by name: ``mse_x``, ``mse_v``, their standard errors ``spread_x``,
        ``spread_v``, and both relative to constant velocity, ``relative_mse_x``, ``relative_mse_v``; of all splits
        together ``energy_drift``: median and 99 % quantile of abs(E_T − E_0), and the mean kinetic energy at the input
        for scale; and ``force_clip``: the ``fraction`` of trajectories with a force clipped before the target, and the
        mean number of ``components``.
    """
    train, test = dataset.splits["train"], dataset.splits["test"]
    return {
        "preset": dataset.settings.preset,
        "horizon": dataset.horizon,
        "checksum": dataset.checksum,
        "sizes": {name: len(split) for name, split in dataset.splits.items()},
        "num_particles": test.num_particles,
        "distinct_samples": dataset.distinct_samples,
        "baselines": _baseline_rows(train, test),
        "energy_drift": _energy_drift(dataset),
        "force_clip": _force_clip(dataset.diagnostics, dataset.settings.max_force),
    }


def summary_lines(facts: Mapping[str, Any]) -> list[str]:
    """:func:`summary` as a few lines of text."""
    sizes = ", ".join(f"{count} {name}" for name, count in facts["sizes"].items())
    return [
        f"N-body data, preset {facts['preset']}, horizon {facts['horizon']:g}: {sizes}; "
        f"checksum {facts['checksum'][:12]}",
        *(
            f"{name.replace('_', ' ')} on test: MSE x {row['mse_x']:.4g}, MSE v {row['mse_v']:.4g}"
            for name, row in facts["baselines"].items()
        ),
        *remarks(facts),
    ]


def remarks(facts: Mapping[str, Any]) -> list[str]:
    """Number of training samples, energy drift and force clip, a line each."""
    drift, clip = facts["energy_drift"], facts["force_clip"]
    return [
        f"distinct training samples (trajectory, start): {facts['distinct_samples']:,}",
        f"energy drift to the target: median {drift['median']:.2g}, 99 % below {drift['quantile_99']:.2g} "
        f"(mean kinetic energy {drift['mean_kinetic_energy']:.2g})",
        f"force clip at {clip['max_force']:g}: acted in {100 * clip['fraction']:.2f} % of the trajectories",
    ]


def _own_state(split: NBodySplit) -> Tensor:
    centred = split.positions - split.positions.mean(dim=1, keepdim=True)
    return torch.stack([centred, split.velocities], dim=-1).reshape(-1, 2)  # one row per trajectory, particle and axis


def _targets(split: NBodySplit) -> Tensor:
    return torch.stack([split.target_positions, split.target_velocities], dim=-1).reshape(-1, 2)


def _error_rows(train: NBodySplit, split: NBodySplit) -> dict[str, tuple[Tensor, Tensor]]:
    predictions = {
        "constant_velocity": constant_velocity(split),
        "constant_position": constant_position(split),
        "least_squares": least_squares(train, split),
    }
    target_x, target_v = split.target_positions, split.target_velocities
    return {name: (_mean_square(x - target_x), _mean_square(v - target_v)) for name, (x, v) in predictions.items()}


def _mean_square(difference: Tensor) -> Tensor:
    return difference.square().mean(dim=(1, 2))  # [trajectory]


def _standard_error(values: Tensor) -> float:
    return float(values.std(correction=0)) / len(values) ** 0.5


def _baseline_rows(train: NBodySplit, test: NBodySplit) -> dict[str, dict[str, float]]:
    means, spreads = baselines(train, test), baseline_errors(train, test)
    unit_x, unit_v = means["constant_velocity"]
    return {
        name: {
            "mse_x": x,
            "mse_v": v,
            "spread_x": spreads[name][0],
            "spread_v": spreads[name][1],
            "relative_mse_x": x / unit_x,
            "relative_mse_v": v / unit_v,
        }
        for name, (x, v) in means.items()
    }


def _energy_drift(dataset: NBodyDataset) -> dict[str, float]:
    energy = torch.cat([item.energy for item in dataset.diagnostics.values()])
    velocities = torch.cat([split.velocities for split in dataset.splits.values()])
    drift = (energy[:, 1] - energy[:, 0]).abs()
    quantiles = torch.quantile(drift, drift.new_tensor([0.5, 0.99]))
    kinetic = 0.5 * velocities.square().sum(dim=(1, 2)).mean()
    return {"median": float(quantiles[0]), "quantile_99": float(quantiles[1]), "mean_kinetic_energy": float(kinetic)}


def _force_clip(diagnostics: dict[str, NBodyDiagnostics], max_force: float) -> dict[str, float]:
    clipped = torch.cat([item.clipped for item in diagnostics.values()]).double()
    return {
        "max_force": max_force,
        "fraction": float((clipped > 0).double().mean()),
        "components": float(clipped.mean()),
    }
