"""Few large products instead of loops over J: basis times feature by input degree, one product per output degree."""

from __future__ import annotations

import torch
from torch import Tensor

from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis, num_paths
from se3t.nn.kernels import Sources
from se3t.nn.kernels.product import transposed_product
from se3t.nn.radial import RadialNetwork


def messages(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
    """The same sum as the reference kernel, arguments and result alike; ``memory`` has no effect."""
    features, hidden = sources.gathered(), radial(basis.geometry)
    degrees_out = radial.fiber_out.degrees
    parts: dict[int, list[Tensor]] = {degree_out: [] for degree_out in degrees_out}
    for degree_in, feature in features.items():
        applied = basis.dense(degree_in, degrees_out) @ feature.mT  # [edge, (l k p), u]
        sizes = [(2 * degree_out + 1) * num_paths(degree_out, degree_in) for degree_out in degrees_out]
        for degree_out, part in zip(degrees_out, applied.split(sizes, dim=1), strict=True):
            parts[degree_out].append(part.unflatten(1, (2 * degree_out + 1, -1)).flatten(2))  # [edge, k, (p u)]
    return {
        degree_out: transposed_product(
            torch.cat(parts[degree_out], dim=2), radial.stacked_weight(hidden, degree_out)
        ).mT
        for degree_out in degrees_out
    }
