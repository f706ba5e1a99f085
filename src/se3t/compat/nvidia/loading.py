"""Weights of NVIDIA's code → the equal model of this library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from se3t.compat.mapping import Converted, Signs, WeightMap, signs_of
from se3t.compat.models import model_from_arguments
from se3t.compat.nvidia.architecture import Architecture, from_weights
from se3t.compat.nvidia.layout import arguments_of, layout
from se3t.errors import UserError
from se3t.so3 import e3nn_sign

RELEASE = "0.3.3"
"""The release of e3nn that the released code asks for."""


def load(
    state_dict: Mapping[str, Tensor],
    config: Mapping[str, Any] | None = None,
    *,
    couplings: Mapping[Any, Tensor] | None = None,
    source: str = "weights",
    kernel: str = "auto",
) -> Converted:
    """The equal model of this library.

    Args:
        state_dict: weights under the names of NVIDIA's ``SE3Transformer`` or ``SE3TransformerPooled``.
        config: constructor arguments of their class, for what shapes do not show: ``num_heads``, ``pooling`` and
            ``return_type``. Others are checked against the weights. ``e3nn`` names the release that made the
            Clebsch–Gordan coefficients, ``unequal_norm`` the norm layer of unequal channels, ``equivariant`` or
            ``inverted``.
        couplings: the Clebsch–Gordan matrices the weights were trained with, by (J, d_in, d_out),
            ``[2 d_out + 1, 2 d_in + 1, 2J + 1]``, in place of those of the release.
        source: where the weights come from, for errors.
        kernel: implementation of the convolutions, see :mod:`se3t.nn.kernels`.

    Raises:
        UserError: listing the fields that are missing, or naming the first parameter that does not fit.
    """
    given = dict(config or {})
    architecture = from_weights(state_dict, given, source)
    if couplings is None:
        coefficients = coefficient_signs(str(given.get("e3nn", RELEASE)), source)
    else:
        coefficients = signs_of(couplings, architecture.max_degree, source)
    signs = kernel_signs(coefficients)
    try:
        weights, arguments, model = equal_model(architecture, signs, kernel)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    weights.check(state_dict, source)
    weights.load(model, state_dict)
    return Converted(model.eval(), weights, "se3_transformer", arguments, {"architecture": architecture})


def equal_model(
    architecture: Architecture, signs: Signs, kernel: str
) -> tuple[WeightMap, dict[str, Any], torch.nn.Module]:
    """Where the weights go, constructor arguments, and the model with weights of its own."""
    arguments = arguments_of(architecture, kernel)
    model = model_from_arguments("se3_transformer", arguments)
    return layout(architecture, model, signs), arguments, model


def coefficient_signs(release: str = RELEASE, source: str = "e3nn") -> Signs:
    """Sign of their Clebsch–Gordan matrix, wigner_3j(J, d_in, d_out) with its axes reversed, relative to ours.

    The reversal is an odd permutation of the three degrees, which costs (−1)^(d_out + d_in + J).

    Args:
        release: of e3nn. For degrees up to 3, six matrices have another sign since 0.5 than before.
        source: for errors.

    Raises:
        UserError: for what is not a release.
    """
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None:
        raise UserError(f"{source}: e3nn={release}: expected a release, such as 0.3.3 or 0.5.1")
    before = (int(match[1]), int(match[2])) < (0, 5)

    def sign(degree_out: int, degree_in: int, degree: int) -> int:
        changed = before and _changed_sign(degree_out, degree_in, degree)
        return e3nn_sign(degree_out, degree_in, degree) * (-1) ** (degree_out + degree_in + degree + changed)

    return sign


def _changed_sign(*degrees: int) -> bool:
    """Whether a coefficient has another sign before e3nn 0.5 than since; symmetric in the degrees.

    Until then they came from a table (degrees up to 11), with the entry m = (0, 0, 0) positive or, if it is zero, the
    first entry of the degrees in ascending order; since then from a formula. This is the difference.
    """
    a, b, c = sorted(degrees)
    excess = a + b - c
    if excess % 2 == 0 or (a == b and excess == 1):
        return False
    return excess % 4 == (1 if a % 2 else 3)


def kernel_signs(coefficients: Signs) -> Signs:
    """Sign of their kernel of a path relative to ours: harmonics of x_i − x_j cost (−1)^J."""
    return lambda degree_out, degree_in, degree: coefficients(degree_out, degree_in, degree) * (-1) ** degree
