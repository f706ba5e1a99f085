"""Deep Sets: point-wise layers and one maximum over the cloud."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.models.pointwise import DenseLayout, flatten_features, unflatten_features
from se3t.nn.pool import Pooling
from se3t.nn.precision import require_supported


class DeepSet(nn.Module):
    """y_i = ρ(φ(f_i), max_j φ(f_j)) with φ and ρ point-wise networks of LeakyReLU layers; y = ρ(pool_j φ(f_j)) pooled.

    A baseline without geometry: it sees every component of the input (charge, centred position, velocity) as a plain
    number. So it is equivariant to permutations, and to translations by its centred input, but not to rotations.

    Args:
        fiber_in: fiber of the input; all its components are read.
        fiber_out: fiber of the prediction; the last layer's numbers are reshaped into it.
        width: hidden units of every layer.
        num_encoder_layers: layers of φ, each with LeakyReLU.
        num_decoder_layers: layers of ρ, LeakyReLU between them.
        pooled: one output for each cloud, from the pooled values alone, not one for each point.
        pooling: ``max``, ``mean`` or ``sum``, with ``pooled``.

    Raises:
        UserError: when width or a number of layers is below 1.
        ValueError: for an unknown pooling.

    Source: Zaheer et al. 2017, "Deep Sets", Section 2 (one output, from a sum) and Section 3 (permutation-equivariant
    layers, maximum pooling); sizes of the N-body baseline from Fuchs et al. 2020, appendix.
    **Deviation**: Zaheer et al. subtract the pooled value in every layer; the N-body baseline pools once and
    concatenates it to each point. We follow the latter.
    """

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        *,
        width: int = 64,
        num_encoder_layers: int = 3,
        num_decoder_layers: int = 2,
        pooled: bool = False,
        pooling: str = "max",
    ) -> None:
        super().__init__()
        if min(width, num_encoder_layers, num_decoder_layers) < 1:
            raise UserError(
                f"deepset: width, num_encoder_layers and num_decoder_layers must be at least 1, "
                f"got {width}, {num_encoder_layers} and {num_decoder_layers}"
            )
        self.fiber_in, self.fiber_out = fiber_in, fiber_out
        self.pooling = Pooling(pooling) if pooled else None
        encoder_widths = [fiber_in.dim, *[width] * num_encoder_layers]
        decoder_widths = [width if pooled else 2 * width, *[width] * (num_decoder_layers - 1), fiber_out.dim]
        self.encoder = nn.Sequential(*_layers(encoder_widths))
        self.decoder = nn.Sequential(*_layers(decoder_widths)[:-1])

    def forward(self, graph: Graph) -> Features:
        """Prediction at every point, or with ``pooled`` for every cloud, a field of ``fiber_out``."""
        require_supported(self, graph)
        encoded = self.encoder(flatten_features(graph.features, self.fiber_in))  # [node, width]
        if self.pooling is not None:
            whole = self.pooling({0: encoded[..., None]}, graph.batch, graph.num_graphs)[0].squeeze(-1)
            return unflatten_features(self.decoder(whole), self.fiber_out)
        layout = DenseLayout.of(graph.batch, graph.num_graphs, graph.cloud_size)
        pooled = cloud_maximum(encoded, layout)[graph.batch]
        decoded = self.decoder(torch.cat((encoded, pooled), dim=-1))  # [node, fiber_out.dim]
        return unflatten_features(decoded, self.fiber_out)

    def extra_repr(self) -> str:
        """Fibers."""
        return f"{self.fiber_in!r} -> {self.fiber_out!r}"


def cloud_maximum(values: Float[Tensor, "node channel"], layout: DenseLayout) -> Float[Tensor, "graph channel"]:
    """Largest value of every channel in each cloud; 0 for a cloud without points."""
    dense = layout.pack(values)  # [graph, slot, channel]
    if layout.mask is None:
        return dense.amax(dim=1)
    filled = dense.masked_fill(~layout.mask[..., None], -torch.inf)
    return filled.amax(dim=1).masked_fill(~layout.mask.any(dim=1)[:, None], 0.0)


def _layers(widths: list[int]) -> list[nn.Module]:
    pairs = [(nn.Linear(width_in, width_out), nn.LeakyReLU()) for width_in, width_out in pairwise(widths)]
    return [layer for pair in pairs for layer in pair]
