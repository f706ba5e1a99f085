"""Equivariant attention over neighbourhoods, and the block that the SE(3)-Transformer stacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_geometric.utils import scatter

from se3t.fiber import Features, Fiber, split_features
from se3t.geometry import EdgeGeometry
from se3t.nn.basis import EquivariantBasis
from se3t.nn.convolution import DEFAULTS, SUM_GAIN, ConvSettings, EquivariantConv, MergedConv
from se3t.nn.kernels.auto import choose
from se3t.nn.kernels.native.attention import Shape, attend, attention_weights, composed
from se3t.nn.linear import EquivariantLinear
from se3t.nn.precision import full_range
from se3t.nn.self_interaction import AttentiveSelfInteraction
from se3t.so3.wrapped import is_transforming

WEIGHTS = ("softmax", "sqrt_softmax")
LOGIT_SCALES = ("all_heads", "head", "learned")
SCALES = ("none", "sqrt_degree", "degree")
_LEAST = -1e30  # logit


@dataclass(frozen=True)
class AttentionSettings:
    """How attention weighs and sums.

    Attributes:
        weights: α_ij = softmax_j, or √α_ij (``sqrt_softmax``).
        logit_scale: logits are divided by √(number of key features) of ``all_heads`` together or of one ``head``; of
            one head and multiplied by a learned factor for each head (``learned``), which starts at one.
        scale: factor of the output of a node with n incoming edges: ``none`` (1), ``sqrt_degree`` (√n), ``degree`` (n).

    **Deviation**: the paper has α_ij without a scale; both released implementations divide the logits by √(key features
    of all heads together), √(number of heads) too much for logits of unit variance. A mean of n independent values
    shrinks by √n: Σ_j √α_ij v_ij keeps their size, as Σ_j α_ij = 1; with ``degree`` equal weights of ``softmax`` give
    the sum that a TFN takes, and keys and values start with the gain of its messages.
    """

    weights: str = "softmax"
    logit_scale: str = "all_heads"
    scale: str = "none"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("attention_weights", self.weights, WEIGHTS),
            ("logit_scale", self.logit_scale, LOGIT_SCALES),
            ("attention_scale", self.scale, SCALES),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}")


AS_PUBLISHED = AttentionSettings()


class EdgeAttention(nn.Module):
    """Σ_{j∈N(i)} α_ij v_ij with α_ij = softmax_j(q_iᵀ k_ij) per head (Equations 10 and 11 of the paper).

    The dot product runs over all types of a head together, so that one invariant weight per head serves every type. A
    node without neighbours gets zero. Where edges fade (:class:`~se3t.geometry.EdgeGeometry`), α_ij is proportional to
    the fade of its edge, and ``scale`` counts neighbours by the sum of them: nothing jumps when an edge appears, as
    long as no node's logits are all below the logarithm of the smallest number (−87 in float32, −708 in float64).

    Args:
        num_heads: number of heads; channels of every type are divided among them.
        fiber_key: types and channels of queries and keys.
        fiber_value: types and channels of values.
        kernel: ``native``, compiled code, with ``auto`` where there is some; any other name: torch's operations.
        settings: other weights and scales, see :class:`AttentionSettings`.

    Attributes:
        scale: factor of the logits.

    Raises:
        ValueError: when a number of channels is not a multiple of ``num_heads``.

    **Deviation**: with the default settings logits are divided by √(number of key features of all heads together), as
    in both released implementations; the paper prints no scale.
    """

    def __init__(
        self,
        num_heads: int,
        fiber_key: Fiber,
        fiber_value: Fiber,
        kernel: str = "auto",
        settings: AttentionSettings = AS_PUBLISHED,
    ) -> None:
        super().__init__()
        for name, fiber in (("key", fiber_key), ("value", fiber_value)):
            for degree, channels in fiber.items():
                if channels % num_heads:
                    raise ValueError(
                        f"{name} fiber {fiber!r}: {channels} channels of degree {degree} "
                        f"cannot be divided among {num_heads} heads"
                    )
        self.num_heads, self.fiber_key, self.fiber_value = num_heads, fiber_key, fiber_value
        self.fiber_joint = fiber_value + fiber_key
        self.fiber_in = self.fiber_out = fiber_value
        self.kernel, self.settings = kernel, settings
        self.log_factor = nn.Parameter(torch.zeros(num_heads)) if settings.logit_scale == "learned" else None
        features = fiber_key.dim if settings.logit_scale == "all_heads" else fiber_key.dim // num_heads
        self.scale_logits(1 / math.sqrt(features) if features else 1.0)

    def scale_logits(self, scale: float) -> None:
        """Multiply the logits by ``scale`` from now on."""
        self.scale = scale
        if self.settings.weights == "sqrt_softmax":  # √α is the softmax of half the logits, with another norm
            scale = scale / 2
        fiber_faded = self.fiber_key + Fiber({0: self.num_heads})
        self._joint = Shape(self.num_heads, self.fiber_key, self.fiber_value, scale, joint=True)
        self._apart = Shape(self.num_heads, self.fiber_key, self.fiber_value, scale, joint=False)
        self._faded = Shape(self.num_heads, fiber_faded, self.fiber_value, 1.0, joint=False)
        for shape in (self._joint, self._apart, self._faded):
            _ = shape.signature  # made before anything is traced

    @full_range
    def forward(self, query: Features, key: Features, value: Features, geometry: EdgeGeometry) -> Features:
        """Attend.

        Args:
            query: ``[node, C_key, 2l+1]`` by degree.
            key: ``[edge, C_key, 2l+1]`` by degree.
            value: ``[edge, C_value, 2l+1]`` by degree.
            geometry: targets of the edges.

        Returns:
            ``[node, C_value, 2l+1]`` by degree.

        Raises:
            ValueError: when a field is not of the type that the layer was built for.
        """
        self.fiber_key.check(query, "query")
        self.fiber_key.check(key, "key")
        self.fiber_value.check(value, "value")
        return self._attend(query, (value, key), geometry)

    @full_range
    def joint(self, query: Features, messages: Features, geometry: EdgeGeometry) -> Features:
        """The same, where values and keys are the first and the other channels of ``messages``."""
        self.fiber_key.check(query, "query")
        self.fiber_joint.check(messages, "messages")
        return self._attend(query, (messages,), geometry)

    def _attend(self, query: Features, messages: Sequence[Features], geometry: EdgeGeometry) -> Features:
        shape, query = self._joint if len(messages) == 1 else self._apart, self._with_factors(query)
        if geometry.fade is not None:
            value, key = self._value_and_key(messages)
            shape, query, key = self._with_fade(query, key, geometry.fade)
            messages = value, key
        apart = self._apart if shape.joint else shape
        if self._is_native(query, messages, geometry):
            out = attend(shape, query, messages, geometry)
        else:
            value, key = self._value_and_key(messages)
            out = composed(apart, query, key, value, geometry.target, geometry.num_nodes)
        if self.settings.scale != "none":
            degree = _in_degree(geometry)[:, None]  # [node, head]
            out = self._times(degree if self.settings.scale == "degree" else degree.sqrt(), out)
        if self.settings.weights == "sqrt_softmax":
            _, key = self._value_and_key(messages)
            weights = attention_weights(apart, query, key, geometry.target, geometry.num_nodes)
            out = self._times(self._root_factors(weights, geometry), out)
        return out

    def _with_fade(self, query: Features, key: Features, fade: Tensor) -> tuple[Shape, Features, Features]:
        """One more scalar of queries and keys in each head, whose product is the logarithm of the fade."""
        logarithm = fade.clamp(min=torch.finfo(fade.dtype).tiny).log()
        if self.settings.weights == "sqrt_softmax":
            logarithm = logarithm / 2
        # Of an edge that has faded: less than any other, but finite, where all edges of a node have.
        logarithm = torch.where(fade > 0, logarithm, _LEAST)[:, None].expand(-1, self.num_heads)
        query = {degree: self._apart.scale * value for degree, value in query.items()}
        ones = logarithm.new_ones(()).expand(len(next(iter(query.values()))), self.num_heads)
        faded = self._faded.fiber_key
        return self._faded, self._with_scalar(query, ones, faded), self._with_scalar(key, logarithm, faded)

    def _with_scalar(self, features: Features, scalar: Tensor, fiber: Fiber) -> Features:
        """Features with ``[row, head]`` as the last channel of type 0 of each head."""
        parts = [scalar[..., None, None]]
        if 0 in features:
            parts.insert(0, features[0].unflatten(1, (self.num_heads, -1)))
        joined = {**features, 0: torch.cat(parts, dim=2).flatten(1, 2)}
        return {degree: joined[degree] for degree in fiber}

    def _value_and_key(self, messages: Sequence[Features]) -> Sequence[Features]:
        return messages if len(messages) == 2 else split_features(messages[0], self.fiber_value, self.fiber_key)

    def _with_factors(self, query: Features) -> Features:
        return query if self.log_factor is None else self._times(self.log_factor.exp()[None], query)

    def _times(self, factor: Tensor, features: Features) -> Features:
        """Features times ``[node or 1, head or 1]``."""
        rows, heads = factor.shape
        return {
            degree: (factor.view(rows, heads, 1, 1) * value.unflatten(1, (heads, -1))).flatten(1, 2)
            for degree, value in features.items()
        }

    def _root_factors(self, weights: Tensor, geometry: EdgeGeometry) -> Tensor:
        """1 / √(Σ_j weights²) ``[node, head]``; 1 without neighbours."""
        squares = scatter(weights.square(), geometry.target, 0, geometry.num_nodes, "sum")
        return (squares + (geometry.in_degree == 0)[:, None]).rsqrt()

    def _is_native(self, query: Features, messages: Sequence[Features], geometry: EdgeGeometry) -> bool:
        length = geometry.length
        if is_transforming():  # torch.func follows torch's own operations only
            return False
        kernel = choose(length.device, length.dtype) if self.kernel == "auto" else self.kernel
        return kernel == "native" and all(
            tensor.dtype == length.dtype for features in (query, *messages) for tensor in features.values()
        )

    def weights(self, query: Features, key: Features, geometry: EdgeGeometry) -> Float[Tensor, "edge head"]:
        """α_ij, summing to one over the edges of each target, or √α_ij, whose squares do."""
        shape, query = self._apart, self._with_factors(query)
        if geometry.fade is not None:
            shape, query, key = self._with_fade(query, key, geometry.fade)
        weights = attention_weights(shape, query, key, geometry.target, geometry.num_nodes)
        if self.settings.weights == "softmax":
            return weights
        return weights * self._root_factors(weights, geometry).index_select(0, geometry.target)

    def __repr__(self) -> str:
        return f"EdgeAttention(heads={self.num_heads}, key={self.fiber_key!r}, value={self.fiber_value!r})"


class SE3AttentionBlock(nn.Module):
    """One layer of the SE(3)-Transformer: queries, keys and values, attention, skip connection (Figure 2).

    q_i = W_Q f_i, node-wise; k_ij, v_ij = W_{K,V}(x_j − x_i) f_j, convolutions without reduction.

    Args:
        fiber_in: types and channels of the node features.
        fiber_out: types and channels of the output.
        settings: of the convolutions: edge features, radial network and kernel.
        num_heads: attention heads.
        channels_div: keys and values have C_out / channels_div channels, rounded up to a multiple of the heads.
        fiber_value: types and channels of the values, in place of those that follow from ``channels_div``.
        self_interaction: ``linear`` (w^{ll} for all nodes), ``attentive`` or ``attentive_softmax`` (see
            :class:`AttentiveSelfInteraction`).
        skip: ``cat``: self-interaction of concat(attention, input), which contains the sum; ``sum``: projected
            attention plus the self-interaction of the input.
        fuse_key_value: one convolution for keys and values, sharing the hidden radial layers; otherwise one each.
        key_nodes: keys are made of the ``source`` j of an edge, or of ``both`` ends, (f_j + w^{kk} f_i) / √2 in
            place of f_j; with ``fuse_key_value`` values are, too.
        attention: how the values are weighed and summed.

    Raises:
        ValueError: for fibers that do not fit, or an unknown name.

    **Deviation**: with ``fuse_key_value`` (as NVIDIA's code) keys and values differ in the last radial layer only. Keys
    use the degrees that input and output share; where they share none, all degrees of the input.
    """

    convolution = EquivariantConv

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: ConvSettings = DEFAULTS,
        *,
        num_heads: int = 1,
        channels_div: int = 1,
        fiber_value: Fiber | None = None,
        self_interaction: str = "linear",
        skip: str = "cat",
        fuse_key_value: bool = True,
        key_nodes: str = "source",
        attention: AttentionSettings = AS_PUBLISHED,
    ) -> None:
        super().__init__()
        for name, given, known in (("skip", skip, ("cat", "sum")), ("key_nodes", key_nodes, ("source", "both"))):
            if given not in known:
                raise ValueError(f"{name}={given!r}: expected {' or '.join(known)}")
        self.fiber_in, self.fiber_out = fiber_in, fiber_out
        value = fiber_value or Fiber(
            {degree: _per_head(channels // channels_div, num_heads) for degree, channels in fiber_out.items()}
        )
        key = value.restrict(fiber_in) or Fiber(
            {degree: _per_head(min(value.values()), num_heads) for degree in fiber_in}
        )
        if key_nodes == "both" and self.convolution is not EquivariantConv:
            raise ValueError("key_nodes='both': layers of released codes take the source alone")
        self.query = EquivariantLinear(fiber_in, key)
        key_convolution = MergedConv if key_nodes == "both" else self.convolution
        parts = [(key_convolution, value + key)]
        if not fuse_key_value:
            parts = [(self.convolution, value), (key_convolution, key)]
        gain = SUM_GAIN if attention.scale == "degree" else None
        self.value_key = nn.ModuleList(
            kind(fiber_in, fiber, settings, reduce="none", gain=gain) for kind, fiber in parts
        )
        self.attention = EdgeAttention(num_heads, key, value, settings.kernel, attention)
        if skip == "cat":
            self.project = None
            self.self_interaction = _self_interaction(self_interaction, value + fiber_in, fiber_out)
        else:
            self.project = EquivariantLinear(value, fiber_out)
            self.self_interaction = _self_interaction(self_interaction, fiber_in, fiber_out.restrict(fiber_in))

    @property
    def max_degree(self) -> int:
        """Largest degree of inputs, keys and values."""
        return max(cast(EquivariantConv, conv).max_degree for conv in self.value_key)

    @full_range
    def forward(self, features: Features, basis: EquivariantBasis) -> Features:
        """``[node, C_in, 2k+1]`` by degree → ``[node, C_out, 2l+1]`` by degree."""
        messages = [conv(features, basis) for conv in self.value_key]
        query = self.query(features)
        if len(messages) == 1:
            attended = self.attention.joint(query, messages[0], basis.geometry)
        else:
            value, key = messages
            attended = self.attention(query, key, value, basis.geometry)
        if self.project is None:
            out: Features = self.self_interaction(attended, features)
            return out
        term = self.self_interaction(features)
        projected = self.project(attended)
        return {degree: value + term[degree] if degree in term else value for degree, value in projected.items()}

    def extra_repr(self) -> str:
        """What ``print`` shows in the brackets."""
        return f"{self.fiber_in!r} -> {self.fiber_out!r}"


def _in_degree(geometry: EdgeGeometry) -> Tensor:
    """Number of incoming edges of each node, each counted as much as it has not faded."""
    if geometry.fade is None:
        return geometry.in_degree.to(geometry.length.dtype)
    degree = scatter(geometry.fade, geometry.target, 0, geometry.num_nodes, "sum")
    return degree.clamp(min=torch.finfo(degree.dtype).tiny)  # so that its root has a gradient


def _per_head(channels: int, num_heads: int) -> int:
    return max(1, math.ceil(channels / num_heads)) * num_heads


def _self_interaction(kind: str, fiber_in: Fiber, fiber_out: Fiber) -> nn.Module:
    if kind == "linear":
        return EquivariantLinear(fiber_in, fiber_out)
    if kind in ("attentive", "attentive_softmax"):
        return AttentiveSelfInteraction(fiber_in, fiber_out, softmax=kind == "attentive_softmax")
    raise ValueError(f"self_interaction={kind!r}: expected linear, attentive or attentive_softmax")
