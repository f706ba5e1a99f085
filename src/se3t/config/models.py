"""Schemas of the models, one for each choice of ``model=``; ``implementation`` is the class, as ``'module:Class'``.
Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass

from se3t.config.fields import by_name, choice, number


@dataclass
class LinearModel:
    """Constant velocity: x_0 + T v_0, v_0. No parameters."""

    implementation = "se3t.models.linear:Linear"
    name: str = "linear"


@dataclass
class DeepSetModel:
    """Deep Sets, Zaheer et al. 2017, as the paper's N-body baseline uses it."""

    implementation = "se3t.models.deepset:DeepSet"
    name: str = "deepset"
    width: int = number(64, at_least=1)
    num_encoder_layers: int = number(3, at_least=1)
    num_decoder_layers: int = number(2, at_least=1)
    pooling: str = choice("max", "mean", "sum")  # where a task wants one output for each cloud


@dataclass
class SetTransformerModel:
    """Set Transformer, Lee et al. 2019: SAB blocks and a point-wise head."""

    implementation = "se3t.models.set_transformer:SetTransformer"
    name: str = "set_transformer"
    width: int = number(64, at_least=1)
    num_layers: int = number(4, at_least=1)
    num_heads: int = number(4, at_least=1)
    layer_norm: bool = False
    num_inducing: int = number(0, at_least=0)  # inducing points of an ISAB; 0: SAB, all points attend to all
    pooling: str = choice("max", "mean", "sum", "attention")  # attention: PMA, then one SAB
    num_seeds: int = number(1, at_least=1)  # of PMA


@dataclass
class TFNModel:
    """Tensor Field Network, Thomas et al. 2018."""

    implementation = "se3t.models.tfn:TFN"
    name: str = "tfn"
    num_layers: int = number(4, at_least=1)
    num_degrees: int = number(4, at_least=1)  # types 0 … num_degrees - 1
    channels: int = number(8, at_least=1)
    norm: str = choice("bias", "layer", "tfn", "gate", "none")  # se3t.nn.norm, gate: se3t.nn.gate
    reduce: str = choice("sum", "mean")
    radial_hidden: int = number(32, at_least=1)
    radial_basis: str = choice("distance", "gaussian", "bessel")  # input of the radial networks: se3t.nn.radial_basis
    radial_functions: int = number(16, at_least=2)  # of a basis, beside the distance, …
    radial_cutoff: float = number(5.0, above=0)  # … and where they end, in the unit of the positions
    cutoff: float | None = number(None, above=0)  # length at which messages have faded to zero; null: they do not
    share_radial: str = choice("none", "full", "degree_out", "degree_in")  # pairs that share the hidden radial layers
    parity: bool = False  # only paths with even l + k + J: reflection is a symmetry, type l has parity (-1)^l
    kernel: str = choice("auto", "native", "triton", "edge_frame", "vectorised", "reference")
    memory: str = choice("auto", "speed", "low")
    pooling: str = choice("max", "mean", "sum")  # where a task wants one output for each cloud, …
    pool_channels: int = number(128, at_least=1)  # … of type 0 by one more TFN layer; two linear layers follow


@dataclass
class SE3TransformerModel:
    """SE(3)-Transformer, Fuchs et al. 2020."""

    implementation = "se3t.models.se3_transformer:SE3Transformer"
    name: str = "se3_transformer"
    num_layers: int = number(4, at_least=1)
    num_degrees: int = number(4, at_least=1)  # types 0 … num_degrees - 1
    channels: int = number(8, at_least=1)
    channels_div: int = number(4, at_least=1)  # keys and values have channels / channels_div
    num_heads: int = number(2, at_least=1)
    self_interaction: str = choice("attentive", "linear")
    skip: str = choice("cat", "sum")
    norm: str = choice("bias", "layer", "tfn", "gate", "none")  # se3t.nn.norm, gate: se3t.nn.gate
    radial_hidden: int = number(32, at_least=1)
    radial_basis: str = choice("distance", "gaussian", "bessel")  # input of the radial networks: se3t.nn.radial_basis
    radial_functions: int = number(16, at_least=2)  # of a basis, beside the distance, …
    radial_cutoff: float = number(5.0, above=0)  # … and where they end, in the unit of the positions
    cutoff: float | None = number(None, above=0)  # length at which messages have faded to zero; null: they do not
    share_radial: str = choice("none", "full", "degree_out", "degree_in")  # pairs that share the hidden radial layers
    parity: bool = False  # only paths with even l + k + J: reflection is a symmetry, type l has parity (-1)^l
    fuse_key_value: bool = True
    key_nodes: str = choice("source", "both")  # of an edge that keys are made of; so are values when fused
    attention_weights: str = choice("softmax", "sqrt_softmax")
    logit_scale: str = choice("all_heads", "head", "learned")  # over √(key features); learned: times a factor, too
    attention_scale: str = choice("none", "sqrt_degree", "degree")  # output times √n or n, n incoming edges of a node
    kernel: str = choice("auto", "native", "triton", "edge_frame", "vectorised", "reference")
    memory: str = choice("auto", "speed", "low")
    pooling: str = choice("max", "mean", "sum")  # where a task wants one output for each cloud, …
    pool_channels: int = number(128, at_least=1)  # … of type 0 by one more layer; two linear layers follow
    last: str = choice("convolution", "attention")  # what that layer is: a TFN layer, or attention again
    ablation: str = choice("none", "attention", "radial", "equivariance")  # the part left out: se3t.models.ablation


@dataclass
class SchNetModel:
    """SchNet, Schütt et al. 2018: continuous-filter convolutions of distances."""

    implementation = "se3t.models.schnet:SchNet"
    name: str = "schnet"
    channels: int = number(128, at_least=1)
    num_filters: int = number(128, at_least=1)
    num_layers: int = number(6, at_least=1)  # interaction blocks
    num_gaussians: int = number(50, at_least=2)  # of the distances, up to ``cutoff``
    cutoff: float = number(10.0, above=0)  # angstrom
    pooling: str = choice("mean", "sum", "max")


@dataclass
class MPNNModel:
    """Neural message passing ("NMP"), Gilmer et al. 2017: edge networks, GRU, Set2Set."""

    implementation = "se3t.models.mpnn:MPNN"
    name: str = "mpnn"
    channels: int = number(64, at_least=1)
    edge_hidden: int = number(128, at_least=1)  # width of the network that makes a matrix of an edge
    num_layers: int = number(3, at_least=1)  # rounds of messages, with the same weights
    num_gaussians: int = number(16, at_least=2)  # of the distances, up to ``cutoff``
    cutoff: float = number(10.0, above=0)
    set2set_steps: int = number(3, at_least=1)


@dataclass
class PointNetModel:
    """PointNet, Qi et al. 2017: a network on every point, the maximum over all, learned alignments of the input."""

    implementation = "se3t.models.pointnet:PointNet"
    name: str = "pointnet"
    transform: bool = True  # T-Nets for the input and for the features
    regularization: float = number(0.001, at_least=0)  # of the feature transform, ‖I − A Aᵀ‖²
    dropout: float = number(0.3, at_least=0, at_most=0.95)


@dataclass
class PointNet2Model:
    """PointNet++, Qi et al. 2017: PointNets on neighbourhoods of fewer and fewer points (single-scale grouping)."""

    implementation = "se3t.models.pointnet2:PointNet2"
    name: str = "pointnet2"
    dropout: float = number(0.5, at_least=0, at_most=0.95)


@dataclass
class DGCNNModel:
    """DGCNN, Wang et al. 2019: EdgeConv on the nearest neighbours in feature space, searched again in every layer."""

    implementation = "se3t.models.dgcnn:DGCNN"
    name: str = "dgcnn"
    num_neighbors: int = number(20, at_least=1)
    dropout: float = number(0.5, at_least=0, at_most=0.95)


@dataclass
class PointCNNModel:
    """PointCNN, Li et al. 2018: X-Conv, which weights and permutes the neighbours of a point before a convolution."""

    implementation = "se3t.models.pointcnn:PointCNN"
    name: str = "pointcnn"
    dropout: float = number(0.5, at_least=0, at_most=0.95)


@dataclass
class SpiderCNNModel:
    """SpiderCNN, Xu et al. 2018: filters that are step functions times Taylor polynomials of the neighbour's place."""

    implementation = "se3t.models.spidercnn:SpiderCNN"
    name: str = "spidercnn"
    num_neighbors: int = number(20, at_least=1)
    num_taylor: int = number(5, at_least=1)  # terms of each filter
    dropout: float = number(0.7, at_least=0, at_most=0.95)


@dataclass
class ModifiedFisherModel:
    """3DmFV-Net, Ben-Shabat et al. 2018: Fisher vectors on a grid of Gaussians, then 3-D convolutions."""

    implementation = "se3t.models.modified_fisher:ModifiedFisherNet"
    name: str = "modified_fisher"
    grid: int = number(8, at_least=2)  # Gaussians along each axis
    dropout: float = number(0.3, at_least=0, at_most=0.95)


@dataclass
class PointGLRModel:
    """PointGLR, Rao et al. 2020: an unsupervised code of shapes, here learned together with the classes."""

    implementation = "se3t.models.pointglr:PointGLR"
    name: str = "pointglr"
    dropout: float = number(0.5, at_least=0, at_most=0.95)


MODELS = by_name(*(schema for schema in list(vars().values()) if is_dataclass(schema)))
"""The schemas of all models by name."""
