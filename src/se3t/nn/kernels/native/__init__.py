"""The compiled kernel of CPUs: everything between node features and messages in one pass over blocks of edges.

Per block of 32 rows of radial units it makes the units, turns the source features into the frames of their edges,
makes the radial weights of a few rows of the matrix that couples equal orders (:mod:`se3t.nn.kernels.edge_frame`),
multiplies, and forgets them. Backward does the same again and collects the gradients. Nothing is kept but the inputs.

Exact, and cheaper than counting suggests: rows are sorted by their invariants, so the units that ReLU has set to zero
are mostly the same ones throughout a block. They are left out of all four products; no gradient passes them.
"""

from __future__ import annotations

from se3t.compiling import without_autocast
from se3t.fiber import Features
from se3t.nn.basis import EquivariantBasis
from se3t.nn.kernels import Sources, edge_frame
from se3t.nn.kernels.native.call import MAX_DEGREE
from se3t.nn.kernels.native.compiler import require, unavailable
from se3t.nn.kernels.native.convolution import convolve
from se3t.nn.radial import RadialNetwork
from se3t.so3.wrapped import is_transforming

__all__ = ["MAX_DEGREE", "messages", "require", "unavailable"]


def messages(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
    """The same sum as the reference kernel, arguments and result alike; ``memory`` has no effect.

    Results lie in memory with the channels of a component next to each other. Under autocast it computes in float32.

    Raises:
        NativeUnavailableError: when there is no compiled code for these tensors.
        ValueError, IndexError: when a tensor is not of the type or the size that the others ask for.
    """
    if is_transforming():  # torch.func follows torch's own operations only
        return edge_frame.messages(sources, radial, basis, "speed")
    geometry = basis.geometry
    length = geometry.length
    require(length.device, length.dtype)
    radial.check(geometry)
    rows, edge_features = geometry.radial_rows, sources.edge_features
    index = sources.index if sources.features else None  # without any, each edge has an empty row of its own
    degrees = sorted({*radial.fiber_in, *radial.fiber_out} - {0})
    dtype = length.dtype
    with without_autocast("cpu"):
        tensors = [
            *[sources.features[degree] for degree in radial.fiber_in if degree in sources.features],
            *[edge_features[degree] for degree in radial.fiber_in if degree in edge_features],
            *[basis.frame(degree) for degree in degrees],
            basis.radial_invariants,
        ]
        tensors = [tensor if tensor.dtype == dtype else tensor.to(dtype) for tensor in tensors]
        parameters = radial.flat_parameters()
        if any(parameter.dtype != dtype for parameter in parameters):
            raise ValueError(f"positions are {dtype}, the parameters are not: convert the graph or the model")
        signature = f"{radial.signature}; {_text(edge_features)}"
        outputs = convolve([*tensors, *parameters], rows.first, rows.second, index, signature)
        return dict(zip(radial.fiber_out, outputs, strict=True))


def _text(features: Features) -> str:
    return "+".join([f"{value.shape[1]}x{degree}" for degree, value in features.items()]) or "0"
