"""Equivariant layers, one symbol of the paper per file."""

from se3t.nn.attention import AttentionSettings as AttentionSettings
from se3t.nn.attention import EdgeAttention as EdgeAttention
from se3t.nn.attention import SE3AttentionBlock as SE3AttentionBlock
from se3t.nn.basis import EquivariantBasis as EquivariantBasis
from se3t.nn.convolution import ConvSettings as ConvSettings
from se3t.nn.convolution import EquivariantConv as EquivariantConv
from se3t.nn.gate import GateNonlinearity as GateNonlinearity
from se3t.nn.linear import EquivariantLinear as EquivariantLinear
from se3t.nn.norm import NormNonlinearity as NormNonlinearity
from se3t.nn.pool import pool as pool
from se3t.nn.radial import RadialNetwork as RadialNetwork
from se3t.nn.radial_basis import RadialBasis as RadialBasis
from se3t.nn.readout import Readout as Readout
from se3t.nn.self_interaction import AttentiveSelfInteraction as AttentiveSelfInteraction
