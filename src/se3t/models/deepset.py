"""Deep Sets: point-wise layers and one maximum over the cloud."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from se3t.config import DeepSetModel
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.models.base import SettingsModel
from se3t.models.pointwise import flatten_features, unflatten_features
from se3t.nn.pool import Pooling
from se3t.nn.precision import require_supported


class DeepSet(SettingsModel):
    """y_i = ρ(φ(f_i), max_j φ(f_j)) with φ and ρ point-wise networks of LeakyReLU layers; y = ρ(pool_j φ(f_j)) pooled.

    A baseline without geometry: it sees every component of the input (charge, centred position, velocity) as a plain
    number. So it is equivariant to permutations, and to translations by its centred input, but not to rotations.

    Args:
        fiber_in: fiber of the input; all its components are read.
        fiber_out: fiber of the prediction; the last layer's numbers are reshaped into it.
        settings: see :class:`se3t.config.DeepSetModel`. options: single settings by name.
        pooled: one output for each cloud, from the pooled values alone, not one for each point.

    Raises:
        UserError: see :class:`SettingsModel`.

    Source: Zaheer et al. 2017, "Deep Sets", Section 2 (one output, from a sum) and Section 3 (permutation-equivariant
    layers, maximum pooling); sizes of the N-body baseline from Fuchs et al. 2020, appendix.
    **Deviation**: Zaheer et al. subtract the pooled value in every layer; the N-body baseline pools once and
    concatenates it to each point. We follow the latter.
    """

    schema = DeepSetModel

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: DeepSetModel | None = None,
        *,
        pooled: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(fiber_in, fiber_out, settings, options, pooled=pooled)
        s = self.settings
        self.pooled = pooled
        self.pooling = Pooling(s.pooling if pooled else "max")
        encoder_widths = [fiber_in.dim, *[s.width] * s.num_encoder_layers]
        decoder_widths = [s.width if pooled else 2 * s.width, *[s.width] * (s.num_decoder_layers - 1), fiber_out.dim]
        self.encoder = nn.Sequential(*_layers(encoder_widths))
        self.decoder = nn.Sequential(*_layers(decoder_widths)[:-1])

    def forward(self, graph: Graph) -> Features:
        """Prediction at every point, or with ``pooled`` for every cloud, a field of ``fiber_out``."""
        require_supported(self, graph)
        encoded = self.encoder(flatten_features(graph.features, self.fiber_in))  # [node, width]
        whole = self.pooling({0: encoded[..., None]}, graph.batch, graph.num_graphs)[0].squeeze(-1)  # [graph, width]
        if not self.pooled:
            whole = torch.cat((encoded, whole[graph.batch]), dim=-1)  # [node, 2 width]
        return unflatten_features(self.decoder(whole), self.fiber_out)


def _layers(widths: list[int]) -> list[nn.Module]:
    pairs = [(nn.Linear(width_in, width_out), nn.LeakyReLU()) for width_in, width_out in pairwise(widths)]
    return [layer for pair in pairs for layer in pair]
