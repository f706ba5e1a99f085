"""``SE3Transformer`` and ``SE3TransformerPooled`` with the constructor, weights and call of NVIDIA's classes.

A caller changes imports, not code: the parameters carry their names and shapes, so that ``state_dict``, optimisers and
initialisation code keep working. They only hold the numbers; what is computed is the equal model of this library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from se3t import fiber as fibers
from se3t.compat.mapping import Converted, Shape, WeightMap, precision_of
from se3t.compat.nvidia.architecture import FIELDS, Architecture, from_arguments, from_weights
from se3t.compat.nvidia.fiber import Fiber
from se3t.compat.nvidia.graph import as_edge_graph
from se3t.compat.nvidia.loading import coefficient_signs, equal_model, kernel_signs, load
from se3t.errors import UserError
from se3t.fiber import Features
from se3t.graph import Graph

_DICTS = ("to_kernel_self", "weights")  # names of the containers that callers index by degree: weights["0"]


class SE3Transformer(nn.Module):
    """NVIDIA's ``se3_transformer.model.SE3Transformer``, computed by this library.

    Args:
        num_layers: attention layers; one more convolution follows.
        fiber_in: node features.
        fiber_hidden: features between the layers.
        fiber_out: output.
        num_heads: attention heads.
        channels_div: keys and values have hidden channels / channels_div.
        fiber_edge: edge features; degree 0 feeds the radial networks beside the distance, others join the node features
            of their degree.
        return_type: return this degree only.
        pooling: ``avg`` or ``max`` over the nodes of each graph; needs ``return_type``.
        norm: whether a norm nonlinearity follows each attention layer.
        use_layer_norm: whether the radial networks have LayerNorm.
        tensor_cores: changes which pairs of degrees share a radial network (all of them), nothing else here.
        low_memory: the same (none of them).
        kernel: implementation of the convolutions, see :mod:`se3t.nn.kernels`.
        e3nn: release whose Clebsch–Gordan signs the weights were trained with; "0.3.3" is what the released code asks
            for, and six signs differ since 0.5.
        unequal_norm: needed where hidden channels differ and ``norm`` is set: ``equivariant`` (as in RFdiffusion) or
            ``inverted`` (NVIDIA's later code, which is not equivariant there).
        kwargs: further arguments are ignored, as there.

    Raises:
        ValueError: naming the argument.

    **Deviation**: positions get their complete gradient; theirs is cut at the basis, unless asked for. Harmonics are
    computed in the precision of the positions, and coincident points keep the layer equivariant.
    """

    def __init__(
        self,
        num_layers: int,
        fiber_in: Fiber,
        fiber_hidden: Fiber,
        fiber_out: Fiber,
        num_heads: int,
        channels_div: int,
        fiber_edge: Fiber | None = None,
        return_type: int | None = None,
        pooling: str | None = None,
        norm: bool = True,
        use_layer_norm: bool = True,
        tensor_cores: bool = False,
        low_memory: bool = False,
        kernel: str = "auto",
        e3nn: str = "0.3.3",
        unequal_norm: str | None = None,
        **kwargs: object,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name in FIELDS and name != "e3nn"}
        super().__init__()
        if pooling is not None and return_type is None:
            raise ValueError("return_type must be given with pooling: the degree that is pooled")
        arguments["fiber_edge"] = {} if fiber_edge is None else fiber_edge
        if unequal_norm is None:
            del arguments["unequal_norm"]
        self._build(from_arguments(arguments), kernel, e3nn)

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, Tensor], *, kernel: str = "auto", **config: object
    ) -> SE3Transformer:
        """The model that some weights belong to, with these weights: shapes decide all that they show.

        Args:
            state_dict: of NVIDIA's ``SE3Transformer``, or of a variant that shares other radial networks, such as
                RFdiffusion's.
            kernel: as in the constructor.
            config: arguments that shapes do not show: ``num_heads``, ``pooling``, ``return_type``; or ``e3nn``.

        Raises:
            UserError: for weights of another kind, missing arguments, or the first parameter that does not fit.
        """
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        architecture = from_weights(state_dict, config, "state_dict")
        if (architecture.output_dim is not None) != issubclass(cls, SE3TransformerPooled):
            right = "SE3Transformer" if architecture.output_dim is None else "SE3TransformerPooled"
            raise UserError(f"state_dict: these are weights of {right}, not of {cls.__name__}")
        model._build(architecture, kernel, str(config.get("e3nn", "0.3.3")))
        model._map.check(state_dict, "state_dict")
        model.to(precision_of(state_dict)).load_state_dict(state_dict)
        return model

    def _build(self, architecture: Architecture, kernel: str, e3nn: str) -> None:
        self.architecture = architecture
        self.return_type, self.pooling, self.e3nn = architecture.return_type, architecture.pooling, e3nn
        self.num_layers, self.num_heads = architecture.num_layers, architecture.num_heads
        self.max_degree = architecture.max_degree
        self.fiber_edge = Fiber.from_native(architecture.fiber_edge)
        with torch.device("meta"):  # its parameters are never used: those of this module take their place in each call
            weights, self._arguments, native = equal_model(architecture, kernel_signs(coefficient_signs(e3nn)), kernel)
        self._map: WeightMap = weights
        self._native = (native,)  # in a tuple, so that its parameters are not parameters of this module
        for name in weights.theirs:
            _hang(self, name.split("."), nn.Parameter(_initial(name, weights.theirs)))

    def forward(
        self,
        graph: Any,
        node_feats: Mapping[str, Tensor],
        edge_feats: Mapping[str, Tensor] | None = None,
        basis: object = None,
    ) -> Any:
        """Run the model.

        Args:
            graph: an :class:`EdgeGraph`, or a DGL graph, with ``edata['rel_pos']`` = x[target] − x[source].
            node_feats: ``[node, C, 2l+1]`` by degree, ``{'0': …, '1': …}``.
            edge_feats: ``[edge, C, 2l+1]`` by degree.
            basis: accepted and not used: what can be computed beforehand costs little here.

        Returns:
            ``[node, C, 2l+1]`` by degree; of one degree the tensor alone; with pooling ``[graph, C]`` of type 0 or
            ``[graph, C, 2l+1]``.

        Raises:
            ValueError: when the graph has no ``rel_pos``, or features are not of the declared fibers.
        """
        out = self._run(graph, node_feats, edge_feats)
        if self.pooling is not None:
            value = next(iter(out.values()))
            return value.squeeze(-1) if self.return_type == 0 else value
        if self.return_type is not None:
            return out[self.return_type]
        return {str(degree): value for degree, value in out.items()}

    def native(self) -> Converted:
        """The equal model of this library with weights of its own, a copy of these: the faster one to train or run."""
        config = {"num_heads": self.num_heads, "pooling": self.pooling, "return_type": self.return_type}
        if self.architecture.unequal_norm is not None:
            config["unequal_norm"] = self.architecture.unequal_norm
        return load(self.state_dict(), {**config, "e3nn": self.e3nn}, kernel=self._arguments["kernel"])

    def native_graph(
        self, graph: Any, node_feats: Mapping[str, Tensor], edge_feats: Mapping[str, Tensor] | None = None
    ) -> Graph:
        """The arguments of :meth:`forward` as the graph that :meth:`native` takes.

        Raises:
            ValueError: as :meth:`forward`.
        """
        graph, edge_feats = as_edge_graph(graph), edge_feats or {}
        relative = graph.edata.get("rel_pos")
        if relative is None:
            raise ValueError("graph: edata['rel_pos'] is missing: relative positions x[target] − x[source], [edge, 3]")
        if relative.shape != (graph.num_edges(), 3):
            raise ValueError(
                f"graph: edata['rel_pos']: expected shape [{graph.num_edges()}, 3], got {tuple(relative.shape)}"
            )
        _require_fiber("node_feats", node_feats, self.architecture.fiber_in, graph.num_nodes())
        _require_fiber("edge_feats", edge_feats, self.architecture.fiber_edge, graph.num_edges())
        if "0" in edge_feats and 0 not in self.architecture.fiber_edge:
            raise ValueError(f"edge_feats: degree 0 is given; fiber_edge is {self.fiber_edge!r}, without it")
        scalars = edge_feats.get("0")
        joined = [degree for degree in self.architecture.fiber_edge if degree > 0]
        source, target = graph.edges()
        return Graph(
            positions=relative.new_zeros(graph.num_nodes(), 3),
            features={degree: node_feats[str(degree)] for degree in self.architecture.fiber_in},
            edge_index=torch.stack([source, target]).long(),
            batch=graph.batch_index,
            num_graphs=graph.batch_size,
            edge_scalars=None if scalars is None else scalars.flatten(1),
            edge_features={degree: edge_feats[str(degree)] for degree in joined},
            edge_vectors=-relative,
        ).sort_edges()

    def _run(self, graph: Any, node_feats: Mapping[str, Tensor], edge_feats: Mapping[str, Tensor] | None) -> Features:
        ours = self._map.to_ours(dict(self.named_parameters()))
        out: Features = functional_call(self._native[0], ours, (self.native_graph(graph, node_feats, edge_feats),))
        return out


class SE3TransformerPooled(SE3Transformer):
    """NVIDIA's ``se3_transformer.model.SE3TransformerPooled``: the model, pooling of type 0, and an MLP.

    Args:
        fiber_in: node features.
        fiber_out: what is pooled: type 0.
        fiber_edge: edge features.
        num_degrees: hidden degrees 0 … num_degrees − 1.
        num_channels: hidden channels of each.
        output_dim: width of the output.
        kwargs: further arguments of :class:`SE3Transformer`, ``num_layers``, ``num_heads`` and ``channels_div`` among
            them; ``pooling`` is ``max`` unless given.

    Raises:
        ValueError: naming the argument.
    """

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        fiber_edge: Fiber,
        num_degrees: int,
        num_channels: int,
        output_dim: int,
        **kwargs: Any,
    ) -> None:
        named = {name: value for name, value in locals().items() if name in FIELDS}
        nn.Module.__init__(self)
        kernel, e3nn = str(kwargs.pop("kernel", "auto")), str(kwargs.pop("e3nn", "0.3.3"))
        others = {name: value for name, value in kwargs.items() if name in FIELDS}  # the rest is ignored, as there
        self._build(from_arguments({"pooling": None, **others, **named}, "SE3TransformerPooled"), kernel, e3nn)

    def forward(
        self,
        graph: Any,
        node_feats: Mapping[str, Tensor],
        edge_feats: Mapping[str, Tensor] | None = None,
        basis: object = None,
    ) -> Tensor:
        """``[graph, output_dim]``, or ``[graph]`` where that is 1; arguments as in :meth:`SE3Transformer.forward`."""
        out = self._run(graph, node_feats, edge_feats)
        return out[0].squeeze(-1).squeeze(-1)


def _require_fiber(name: str, features: Mapping[str, Tensor], fiber: fibers.Fiber, rows: int) -> None:
    for degree, channels in fiber.items():
        if str(degree) not in features:
            raise ValueError(f"{name}: degree {degree} is missing; expected {fiber!r}")
        received = tuple(features[str(degree)].shape)
        if received != (rows, channels, 2 * degree + 1):
            raise ValueError(
                f"{name}['{degree}']: expected shape [{rows}, {channels}, {2 * degree + 1}], got {received}"
            )


def _hang(root: nn.Module, path: list[str], parameter: nn.Parameter) -> None:
    """Put a parameter at ``a.b.c`` below ``root``, making modules on the way that only hold it."""
    *containers, name = path
    for container in containers:
        if container not in root._modules:
            made = {"graph_modules": nn.ModuleList, **dict.fromkeys(_DICTS, nn.ParameterDict)}.get(container, nn.Module)
            root.add_module(container, made())
        root = root.get_submodule(container)
    if isinstance(root, nn.ParameterDict):
        root[name] = parameter
    else:
        root.register_parameter(name, parameter)


def _initial(name: str, shapes: Mapping[str, Shape]) -> Tensor:
    """Initial values as theirs: torch's own for linear layers and norms, N(0, 1/C_in) for matrices between features."""
    shape, (layer, _, part) = shapes[name], name.rpartition(".")
    if layer.rpartition(".")[2] in _DICTS:
        return torch.randn(shape) / math.sqrt(shape[-1])
    weight = shapes[f"{layer}.weight"]
    if len(weight) == 2:
        return torch.empty(shape).uniform_(-1, 1) / math.sqrt(weight[1])
    return torch.ones(shape) if part == "weight" else torch.zeros(shape)
