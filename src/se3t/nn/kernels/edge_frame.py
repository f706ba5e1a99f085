"""The kernel in the frame of the edge, where it is sparse: only equal |m| of input and output couple.

With the edge on the polar axis Y_Jm vanishes unless m = 0, so that W^{lk} commutes with the rotations about that axis.
Each pair (l, k) keeps 2 min(l, k) + 1 numbers: a_0, and for every m > 0 a block [[a_m, b_m], [-b_m, a_m]] on the
components (+m, -m). They are a constant linear map of the J-paths, folded into the last radial layer. Exact for this
model (idea: eSCN, Passaro and Zitnick 2023).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from se3t.compiling import table
from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis, num_paths, path_degrees
from se3t.nn.kernels import Sources
from se3t.nn.kernels.chunked import fused_messages
from se3t.nn.kernels.orders import Layout, assemble, components, rotate, rotate_back, stack
from se3t.nn.kernels.product import transposed_product
from se3t.nn.radial import RadialNetwork, affine
from se3t.so3 import clebsch_gordan
from se3t.so3.wrapped import is_transforming

WHOLE_BYTES = {"cpu": 64 * 2**20, "cuda": 2**30}
"""Radial weights of one convolution up to which ``memory="auto"`` keeps them, by device (GPU: not measured)."""


def messages(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
    """The same sum as the reference kernel, arguments and result alike.

    ``memory="speed"`` makes the radial weights of all edges at once and keeps them for the gradients, ``low`` makes
    them chunk by chunk and once more for the gradients (:mod:`se3t.nn.kernels.chunked`), ``auto`` decides by size.
    """
    given = ingredients(sources, radial, basis)
    composed = partial(composed_messages, given.layout)
    arguments = (given.features, given.frames, given.hidden, given.layers)
    if memory == "auto":
        memory = "speed" if torch.compiler.is_compiling() or _is_small(given.hidden[0], radial) else "low"
    if memory == "speed" or torch.is_autocast_enabled(given.hidden[0].device.type):  # each product has its precision
        out = composed(*arguments)
    else:
        out = fused_messages(composed, given.layout, *arguments)
    return mend(out, given.features, given.hidden, radial, basis)


@dataclass(frozen=True)
class Ingredients:
    """What messages in the frame of the edge are made of.

    Attributes:
        layout: degrees, channels and trunks.
        features: source features, ``[edge, C_in, 2k+1]`` by degree.
        frames: ``[edge, 2l+1, 2l+1]`` by degree above zero.
        hidden: ``[unique, r]`` of each trunk.
        layers: weight ``[r, C_out, path, C_in]`` and bias ``[C_out, path, C_in]`` of each pair.
    """

    layout: Layout
    features: Features
    frames: dict[int, Tensor]
    hidden: tuple[Tensor, ...]
    layers: dict[tuple[int, int], tuple[Tensor, Tensor]]


def ingredients(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis) -> Ingredients:
    """Gather the source features and evaluate the hidden part of the radial network."""
    layers = {(l, k): radial.last_layer(l, k) for l in radial.fiber_out for k in radial.fiber_in}
    mixing = {pair: path_to_order(*pair, weight.dtype, weight.device) for pair, (weight, _) in layers.items()}
    layout = Layout(radial.fiber_in, radial.fiber_out, radial.trunk_of, mixing, basis.geometry.repeat)
    degrees = sorted({*radial.fiber_in, *radial.fiber_out} - {0})
    frames = {degree: basis.frame(degree) for degree in degrees}
    return Ingredients(layout, sources.gathered(), frames, radial(basis.geometry), layers)


def _is_small(hidden: Tensor, radial: RadialNetwork) -> bool:
    size = hidden.shape[0] * radial.weights_per_edge * hidden.element_size()
    return size <= WHOLE_BYTES.get(hidden.device.type, WHOLE_BYTES["cpu"])


def composed_messages(
    layout: Layout,
    features: Features,
    frames: Mapping[int, Tensor],
    hidden: Sequence[Tensor],
    layers: Mapping[tuple[int, int], tuple[Tensor, Tensor]],
) -> Features:
    """All edges at once, in terms of operations that torch can differentiate any number of times."""
    rotated = rotate({degree: features[degree] for degree in layout.fiber_in}, frames)
    folded = {pair: [layout.mixing[pair] @ parameter for parameter in layer] for pair, layer in layers.items()}
    if len(hidden) == 1:  # one trunk: join the small last layers, not their large results
        joined = [assemble({pair: layer[number] for pair, layer in folded.items()}, layout) for number in range(2)]
        weights = [affine(hidden[0], weight, bias) for weight, bias in zip(*joined, strict=True)]
    else:
        values = {pair: affine(hidden[layout.trunk_of[pair]], *layer) for pair, layer in folded.items()}
        weights = assemble(values, layout)
    products = [transposed_product(stack(rotated, order), weight) for order, weight in enumerate(weights)]
    return rotate_back(components(products, layout.fiber_out), frames)


@table(lambda degree_out, degree_in: (num_paths(degree_out, degree_in), num_paths(degree_out, degree_in)))
def path_to_order(degree_out: int, degree_in: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Constant map from paths p (ascending J) to (a_0, a_1 …, b_1 …), ``[order, path]``; made in float64, cast last."""
    smaller = min(degree_out, degree_in)
    values = torch.zeros(num_paths(degree_out, degree_in), 2 * smaller + 1, dtype=torch.float64)
    for path, degree in enumerate(path_degrees(degree_out, degree_in)):
        polar = clebsch_gordan(degree_out, degree_in, degree)[:, :, degree] * math.sqrt(
            (2 * degree + 1) / (4 * math.pi)
        )
        for order in range(smaller + 1):
            values[path, order] = polar[degree_out + order, degree_in + order]
            if order > 0:
                values[path, smaller + order] = polar[degree_out + order, degree_in - order]
    return values.mT.to(dtype=dtype, device=device)


_reads_values: ContextVar[bool] = ContextVar("reads_values", default=True)


@contextmanager
def without_reading_values() -> Iterator[None]:
    """Messages decide nothing by the values of tensors: the host never waits for the device.

    For the capture of a CUDA graph, where whether points coincide may change between replays. All edges then take the
    little that only coincident points need.
    """
    token = _reads_values.set(False)
    try:
        yield
    finally:
        _reads_values.reset(token)


def mend(
    out: Features, features: Features, hidden: Sequence[Tensor], radial: RadialNetwork, basis: EquivariantBasis
) -> Features:
    """Messages ``out`` with those of coincident points, which have no frame, put right."""
    is_tracing = torch.compiler.is_compiling() or is_transforming()
    repair = _mend_everywhere if is_tracing or not _reads_values.get() else _mend_coincident
    return repair(out, features, hidden, radial, basis)


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
        isotropic = _isotropic(at_zero, radial, degree)
        message = isotropic @ features[degree][coincident]
        mended[degree] = mended[degree].index_add(0, coincident, message.to(mended[degree].dtype))
    return mended


def _mend_everywhere(
    out: Features, features: Features, hidden: Sequence[Tensor], radial: RadialNetwork, basis: EquivariantBasis
) -> Features:
    """The same for all edges, chosen by a mask: more work, but no edge needs to be found."""
    coincident = (basis.geometry.length == 0)[:, None, None]
    mended: Features = {}
    for degree, value in out.items():
        message = torch.zeros_like(value)
        if degree in features:
            isotropic = _isotropic(hidden, radial, degree).repeat_interleave(basis.geometry.repeat, 0)
            message = (isotropic @ features[degree]).to(value.dtype)
        mended[degree] = torch.where(coincident, message, value)
    return mended


def _isotropic(hidden: Sequence[Tensor], radial: RadialNetwork, degree: int) -> Tensor:
    """The kernel of l = k, J = 0, a number for each pair of channels: ``[unique, C_out, C_in]``."""
    weight, bias = radial.last_layer(degree, degree)
    value = affine(hidden[radial.trunk_of[degree, degree]], weight[:, :, 0], bias[:, 0])
    return value / math.sqrt(4 * math.pi * (2 * degree + 1))
