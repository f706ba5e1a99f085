"""Equivariant layers, one symbol of the paper per file."""

from se3t.nn.attention import EdgeAttention, SE3AttentionBlock
from se3t.nn.basis import EquivariantBasis
from se3t.nn.convolution import ConvSettings, EquivariantConv
from se3t.nn.linear import EquivariantLinear
from se3t.nn.norm import NormNonlinearity
from se3t.nn.pool import pool
from se3t.nn.radial import RadialNetwork
from se3t.nn.readout import Readout
from se3t.nn.self_interaction import AttentiveSelfInteraction

__all__ = [
    "AttentiveSelfInteraction",
    "ConvSettings",
    "EdgeAttention",
    "EquivariantBasis",
    "EquivariantConv",
    "EquivariantLinear",
    "NormNonlinearity",
    "RadialNetwork",
    "Readout",
    "SE3AttentionBlock",
    "pool",
]
