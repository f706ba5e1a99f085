"""Set Transformer: attention between all points of a cloud, without geometry."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from se3t.config import SetTransformerModel
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.models.base import SettingsModel
from se3t.models.pointwise import as_dense, flatten_features, from_dense, unflatten_features
from se3t.nn.pool import Pooling
from se3t.nn.precision import require_supported


class MultiheadAttentionBlock(nn.Module):
    """MAB(X, Y) = LN(H + rFF(H)) with H = LN(X + Multihead(X, Y, Y)); Lee et al. 2019, Equations 6 and 7.

    Multihead(Q, K, V) = concat_h(softmax(Q_h K_hᵀ / √d) V_h) W^O with d = ``width`` (all heads together, as Lee et al.
    define it) and ``width / num_heads`` channels per head; rFF(H) = ReLU(H W + b), the one-layer choice of their code.

    Args:
        width: channels d of X and Y.
        num_heads: h; must divide ``width``.
        layer_norm: apply the two LN; without it they are the identity.

    Source: Lee et al. 2019, "Set Transformer", Section 3.1.
    **Deviation**: the authors' code leaves out W^O and adds the projected queries instead of X; we follow their text.
    """

    def __init__(self, width: int, num_heads: int, *, layer_norm: bool = False) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, width**-0.5
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.attention_norm = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.output_norm = nn.LayerNorm(width) if layer_norm else nn.Identity()

    def forward(
        self,
        queries: Float[Tensor, "graph slot width"],
        points: Float[Tensor, "graph point width"],
        mask: Bool[Tensor, "graph point"] | None = None,
    ) -> Float[Tensor, "graph slot width"]:
        """Let each of ``queries`` (X) attend to ``points`` (Y); ``mask`` is true where a slot of Y holds a point."""
        hidden = self.attention_norm(queries + self.output(self._attend(queries, points, mask)))
        normed: Tensor = self.output_norm(hidden + self.feed_forward(hidden))
        return normed

    def _attend(self, queries: Tensor, points: Tensor, mask: Tensor | None) -> Tensor:
        query = self._split_heads(self.query(queries))  # [graph, head, slot, channel]
        key, value = self._split_heads(self.key_value(points)).chunk(2, dim=-1)  # [graph, head, point, channel]
        logits = self.scale * query @ key.transpose(-1, -2)  # [graph, head, slot, point]
        if mask is not None:
            # A cloud without points attends to its padding: a row masked everywhere would be NaN, and so its gradient.
            keep = mask | ~mask.any(dim=-1, keepdim=True)
            logits = logits.masked_fill(~keep[:, None, None, :], -torch.inf)
        return (logits.softmax(dim=-1) @ value).transpose(1, 2).flatten(-2)  # [graph, slot, width]

    def _split_heads(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class SetAttentionBlock(nn.Module):
    """SAB(X) = MAB(X, X): self-attention within each cloud; Lee et al. 2019, Equation 8. Arguments as for the MAB."""

    def __init__(self, width: int, num_heads: int, *, layer_norm: bool = False) -> None:
        super().__init__()
        self.block = MultiheadAttentionBlock(width, num_heads, layer_norm=layer_norm)

    def forward(
        self, points: Float[Tensor, "graph slot width"], mask: Bool[Tensor, "graph slot"] | None = None
    ) -> Float[Tensor, "graph slot width"]:
        """Attend from all points to all points of the same cloud."""
        attended: Tensor = self.block(points, points, mask)
        return attended


class InducedSetAttentionBlock(nn.Module):
    """ISAB_m(X) = MAB(X, H) with H = MAB(I, X): attention by way of m learned points; Lee et al. 2019, Section 3.2.

    Every point still hears of all others, at a cost of points times m, not of points squared.

    Args:
        width: channels d of X and of I.
        num_heads: of both MAB; must divide ``width``.
        num_inducing: m, rows of I.
        layer_norm: see the MAB.
    """

    def __init__(self, width: int, num_heads: int, num_inducing: int, *, layer_norm: bool = False) -> None:
        super().__init__()
        self.inducing = _learned_rows(num_inducing, width)
        self.gather = MultiheadAttentionBlock(width, num_heads, layer_norm=layer_norm)
        self.spread = MultiheadAttentionBlock(width, num_heads, layer_norm=layer_norm)

    def forward(
        self, points: Float[Tensor, "graph slot width"], mask: Bool[Tensor, "graph slot"] | None = None
    ) -> Float[Tensor, "graph slot width"]:
        """Attend from the inducing points to a cloud, and from the cloud to what they found."""
        gathered = self.gather(self.inducing.expand(len(points), -1, -1), points, mask)  # [graph, m, width]
        attended: Tensor = self.spread(points, gathered)
        return attended


class AttentionPooling(nn.Module):
    """SAB(PMA_k(Z)) with PMA_k(Z) = MAB(S, rFF(Z)): k learned seeds attend to a cloud, then to each other.

    Args:
        width: channels d of Z and of S.
        num_heads: of both blocks; must divide ``width``.
        num_seeds: k, rows of S.
        layer_norm: see the MAB.

    Source: Lee et al. 2019, Sections 3.2 and 3.3; rFF is one layer, as in the MAB.
    **Deviation**: the authors' code leaves out the rFF before the seeds' attention; we follow their text.
    """

    def __init__(self, width: int, num_heads: int, num_seeds: int = 1, *, layer_norm: bool = False) -> None:
        super().__init__()
        self.seeds = _learned_rows(num_seeds, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.pool = MultiheadAttentionBlock(width, num_heads, layer_norm=layer_norm)
        self.block = SetAttentionBlock(width, num_heads, layer_norm=layer_norm)

    def forward(
        self, points: Float[Tensor, "graph slot width"], mask: Bool[Tensor, "graph slot"] | None = None
    ) -> Float[Tensor, "graph seed width"]:
        """What the seeds make of each cloud."""
        pooled = self.pool(self.seeds.expand(len(points), -1, -1), self.feed_forward(points), mask)
        attended: Tensor = self.block(pooled)
        return attended


def _learned_rows(number: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(number, width)))


class SetTransformer(SettingsModel):
    """Embedding, ``num_layers`` SAB or ISAB, and a head of two layers on every point, or on what is pooled of a cloud.

    A baseline without geometry: it sees every component of the input (charge, centred position, velocity) as a plain
    number. So it is equivariant to permutations, and to translations by its centred input, but not to rotations.
    The neighbourhood of a point is its whole cloud; edges are not used. Clouds of equal size are a reshape, others are
    padded and masked.

    Args:
        fiber_in: fiber of the input; all its components are read.
        fiber_out: fiber of the prediction; the head's numbers are reshaped into it.
        settings: see :class:`se3t.config.SetTransformerModel`. options: single settings by name.
        pooled: one output for each cloud, pooled before the head as ``settings.pooling`` says (``attention``:
            :class:`AttentionPooling`, all its seeds side by side), not one for each point.

    Raises:
        UserError: see :class:`SettingsModel`.

    Source: Lee et al. 2019, Section 3, for the blocks and the pooling; Fuchs et al. 2020, appendix, for the N-body
    sizes (4 SAB, width 64, 4 heads, point-wise MLP).
    **Deviation**: Lee et al. map to the width inside the first block, whose residual is then undefined; we embed
    linearly first. Their decoder always pools by attention; the N-body task wants one output for each point, and for
    one of each cloud we pool as the other models do unless told otherwise.
    """

    schema = SetTransformerModel

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: SetTransformerModel | None = None,
        *,
        pooled: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(fiber_in, fiber_out, settings, options, pooled=pooled)
        s = self.settings
        self.blocks = nn.ModuleList(
            InducedSetAttentionBlock(s.width, s.num_heads, s.num_inducing, layer_norm=s.layer_norm)
            if s.num_inducing
            else SetAttentionBlock(s.width, s.num_heads, layer_norm=s.layer_norm)
            for _ in range(s.num_layers)
        )
        self.embedding = nn.Linear(fiber_in.dim, s.width)
        self.pooling: AttentionPooling | Pooling | None = None
        width_in = s.width
        if pooled and s.pooling == "attention":
            self.pooling = AttentionPooling(s.width, s.num_heads, s.num_seeds, layer_norm=s.layer_norm)
            width_in = s.num_seeds * s.width
        elif pooled:
            self.pooling = Pooling(s.pooling)
        self.head = nn.Sequential(nn.Linear(width_in, s.width), nn.ReLU(), nn.Linear(s.width, fiber_out.dim))

    def forward(self, graph: Graph) -> Features:
        """Prediction at every point, or with ``pooled`` for every cloud, a field of ``fiber_out``."""
        require_supported(self, graph)
        points, mask = as_dense(self.embedding(flatten_features(graph.features, self.fiber_in)), graph)
        for block in self.blocks:
            points = block(points, mask)  # [graph, slot, width]
        if self.pooling is None:
            return unflatten_features(from_dense(self.head(points), mask), self.fiber_out)
        if isinstance(self.pooling, AttentionPooling):
            whole = self.pooling(points, mask).flatten(1)
        else:
            values = {0: from_dense(points, mask)[..., None]}
            whole = self.pooling(values, graph.batch, graph.num_graphs)[0].squeeze(-1)
        return unflatten_features(self.head(whole), self.fiber_out)
