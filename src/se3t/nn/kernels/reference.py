"""The oracle: Equation 8 of the paper, term by term. Slow and obvious; every other kernel is tested against it."""

from __future__ import annotations

import torch
from torch import Tensor

from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis, path_degrees
from se3t.nn.kernels import Sources
from se3t.nn.radial import RadialNetwork
from se3t.so3 import clebsch_gordan


def messages(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
    """m_ij^l = Σ_k Σ_J φ_J^{lk}(‖x‖) [Σ_m Y_Jm(x) Q_Jm^{lk}] f_j^k.

    Args:
        sources: source feature of every edge, ``[edge, C_in, 2k+1]`` by degree when gathered.
        radial: φ; a row of its result serves ``basis.geometry.repeat`` edges.
        basis: harmonics of the edge directions.
        memory: ``auto``, ``speed`` or ``low``: whether radial weights are kept or made again, for kernels that can do
            both.

    Returns:
        Message of every edge, ``[edge, C_out, 2l+1]`` by degree.
    """
    features, hidden = sources.gathered(), radial(basis.geometry)
    out: Features = {}
    for degree_out in radial.fiber_out:
        message: Tensor | None = None
        for degree_in, feature in features.items():
            phi = radial.pair_weight(hidden, degree_out, degree_in).repeat_interleave(basis.geometry.repeat, 0)
            for path, degree in enumerate(path_degrees(degree_out, degree_in)):
                q = clebsch_gordan(degree_out, degree_in, degree).to(feature)
                kernel = torch.einsum("ej,kij->eki", basis.harmonic(degree), q)
                term = torch.einsum("ewu,eki,eui->ewk", phi[:, :, path], kernel, feature)
                message = term if message is None else message + term
        assert message is not None
        out[degree_out] = message
    return out
