"""Gated nonlinearity: scalars decide how much of each feature of higher type passes."""

from __future__ import annotations

from torch import nn
from torch.nn import functional

from se3t.fiber import Features, Fiber
from se3t.nn.norm import NormNonlinearity
from se3t.nn.precision import full_range


class GateNonlinearity(nn.Module):
    """SiLU(f^0) for l = 0 and 2σ(w^l f^0 + b^l) f^l for l > 0, one gate for each channel.

    Args:
        fiber: types and channels, the same in and out.

    Raises:
        ValueError: when the fiber has no type 0.

    Source: Weiler et al., 3D Steerable CNNs, 2018. **Deviation**: the paper uses a norm nonlinearity. Gates come from
    the scalars of the same feature by a linear map, where e3nn takes extra scalars of the layer before; the factor 2
    lets features pass unchanged where w f + b = 0.
    """

    def __init__(self, fiber: Fiber) -> None:
        super().__init__()
        if 0 not in fiber:
            raise ValueError(f"norm='gate': scalars are the gates, and {fiber!r} has none; use another norm")
        self.fiber_in = self.fiber_out = fiber
        self._channels = [channels for degree, channels in fiber.items() if degree > 0]
        self.gates = nn.Linear(fiber[0], sum(self._channels)) if self._channels else None

    @full_range
    def forward(self, features: Features) -> Features:
        """``[..., C, 2l+1]`` by degree, in and out.

        Raises:
            ValueError: when the features are not of type ``fiber``.
        """
        self.fiber_in.check(features)
        out = {0: functional.silu(features[0])}
        if self.gates is not None:
            gates = 2 * self.gates(features[0].squeeze(-1)).sigmoid()
            degrees = [degree for degree in self.fiber_in if degree > 0]
            for degree, gate in zip(degrees, gates.split(self._channels, dim=-1), strict=True):
                out[degree] = gate[..., None] * features[degree]
        return out

    def __repr__(self) -> str:
        return f"GateNonlinearity({self.fiber_in!r})"


def nonlinearity(fiber: Fiber, kind: str) -> nn.Module:
    """What ``model.norm`` names: ``gate``, or a kind of :class:`NormNonlinearity`."""
    return GateNonlinearity(fiber) if kind == "gate" else NormNonlinearity(fiber, kind)
