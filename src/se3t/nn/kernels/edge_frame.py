"""The kernel in the frame of the edge, where it is sparse: only equal |m| of input and output couple.

With the edge on the polar axis Y_Jm vanishes unless m = 0, so that W^{lk} commutes with the rotations about that axis.
Each pair (l, k) keeps 2 min(l, k) + 1 numbers: a_0, and for every m > 0 a block [[a_m, b_m], [-b_m, a_m]] on the
components (+m, -m). They are a constant linear map of the J-paths, folded into the last radial layer. Exact for this
model (idea: eSCN, Passaro and Zitnick 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis, num_paths, path_degrees
from se3t.nn.kernels.product import transposed_product
from se3t.nn.radial import RadialNetwork, affine
from se3t.so3 import clebsch_gordan


def messages(features: Features, hidden: Sequence[Tensor], radial: RadialNetwork, basis: EquivariantBasis) -> Features:
    """The same sum as the reference kernel, arguments and result alike."""
    rotated = {k: value.mT if k == 0 else basis.frame(k) @ value.mT for k, value in features.items()}  # [edge, 2k+1, u]
    columns: dict[int, dict[int, Tensor]] = {degree: {} for degree in radial.fiber_out}
    for order, weight in enumerate(_weights(hidden, radial)):
        rows = [degree for degree in radial.fiber_out if degree >= order]
        product = transposed_product(_stack(rotated, order), weight)  # [edge, 1 or 2, (l w)]
        for degree, part in zip(rows, product.split([radial.fiber_out[degree] for degree in rows], dim=2), strict=True):
            columns[degree][order] = part
    out = {degree: _components(degree, parts) for degree, parts in columns.items()}  # [edge, 2l+1, w]
    out = {degree: (value if degree == 0 else basis.frame(degree).mT @ value).mT for degree, value in out.items()}
    return _mend_coincident(out, features, hidden, radial, basis)


def _stack(rotated: Features, order: int) -> Tensor:
    """Components ±order of all degrees: ``[edge, 1, (k u)]``, or rows (+order, -order) ``[edge, 2, (a|b k u)]``."""
    parts = [(value, degree) for degree, value in rotated.items() if degree >= order]
    plus = torch.cat([value[:, degree + order] for value, degree in parts], dim=1)
    if order == 0:
        return plus[:, None]
    minus = torch.cat([value[:, degree - order] for value, degree in parts], dim=1)
    return torch.cat([plus, minus, minus, -plus], dim=1).unflatten(1, (2, -1))


def _components(degree: int, parts: Mapping[int, Tensor]) -> Tensor:
    """Rows (+m, -m) of each order back to components m = -l … l; orders that the input cannot reach are zero."""
    zero = torch.zeros_like(parts[0])
    minus = [parts[m][:, 1:] if m in parts else zero for m in range(degree, 0, -1)]
    plus = [parts[m][:, :1] if m in parts else zero for m in range(1, degree + 1)]
    return torch.cat([*minus, parts[0], *plus], dim=1)


def _weights(hidden: Sequence[Tensor], radial: RadialNetwork) -> list[Tensor]:
    """Per order m the matrix ``[unique, (l w), (a|b k u)]``."""
    pairs = [(l, k) for l in radial.fiber_out for k in radial.fiber_in]
    weights, biases = {}, {}
    for pair in pairs:
        mixing = _path_to_order(*pair, hidden[0].dtype, hidden[0].device)
        weights[pair], biases[pair] = (mixing @ parameter for parameter in radial.last_layer(*pair))
    if len(hidden) == 1:  # one trunk: join the small last layers, not their large results
        blocks = zip(_assemble(weights, radial), _assemble(biases, radial), strict=True)
        return [affine(hidden[0], weight, bias) for weight, bias in blocks]
    values = {pair: affine(hidden[radial.trunk_of[pair]], weights[pair], biases[pair]) for pair in pairs}
    return _assemble(values, radial)


def _assemble(pair_weights: Mapping[tuple[int, int], Tensor], radial: RadialNetwork) -> list[Tensor]:
    """``[…, w, q, u]`` per pair → per order m one matrix ``[…, (l w), (a|b k u)]``; q runs over a_0, a_1 …, b_1 …"""
    blocks = []
    for order in range(min(radial.fiber_in.max_degree, radial.fiber_out.max_degree) + 1):
        degrees_in = [k for k in radial.fiber_in if k >= order]
        rows = []
        for l in radial.fiber_out:
            if l < order:
                continue
            symmetric = [pair_weights[l, k][..., order, :] for k in degrees_in]
            skew = [pair_weights[l, k][..., min(l, k) + order, :] for k in degrees_in if order > 0]
            rows.append(torch.cat([*symmetric, *skew], dim=-1))
        blocks.append(torch.cat(rows, dim=-2))
    return blocks


@lru_cache(maxsize=256)
def _path_to_order(degree_out: int, degree_in: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Constant map from paths p (ascending J) to (a_0, a_1 …, b_1 …), ``[order, path]``; made in float64, cast last."""
    with torch.inference_mode(False):  # kept for later calls, which may train
        smaller = min(degree_out, degree_in)
        table = torch.zeros(num_paths(degree_out, degree_in), 2 * smaller + 1, dtype=torch.float64)
        for path, degree in enumerate(path_degrees(degree_out, degree_in)):
            polar = clebsch_gordan(degree_out, degree_in, degree)[:, :, degree] * math.sqrt(
                (2 * degree + 1) / (4 * math.pi)
            )
            for order in range(smaller + 1):
                table[path, order] = polar[degree_out + order, degree_in + order]
                if order > 0:
                    table[path, smaller + order] = polar[degree_out + order, degree_in - order]
        return table.mT.to(dtype=dtype, device=device)


def _mend_coincident(
    out: Features, features: Features, hidden: Sequence[Tensor], radial: RadialNetwork, basis: EquivariantBasis
) -> Features:
    """At coincident points there is no frame: only l = k, J = 0 survives, an isotropic map."""
    coincident = basis.coincident
    if coincident.numel() == 0:
        return out
    mended = {degree: value.index_fill(0, coincident, 0.0) for degree, value in out.items()}
    at_zero = [trunk[coincident // basis.geometry.repeat] for trunk in hidden]
    for degree in radial.fiber_out.restrict(radial.fiber_in):
        isotropic = radial.pair_weight(at_zero, degree, degree)[:, :, 0] / math.sqrt(4 * math.pi * (2 * degree + 1))
        own = isotropic @ features[degree][coincident]
        mended[degree] = mended[degree].index_add(0, coincident, own.to(mended[degree].dtype))
    return mended
