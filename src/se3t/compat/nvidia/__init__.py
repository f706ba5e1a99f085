"""NVIDIA's ``se3_transformer``: its classes to call, and its weights as models of this library.

``from se3t.compat.nvidia import SE3Transformer, Fiber`` takes the place of the imports from ``se3_transformer``;
``EdgeGraph`` (or ``graph`` and ``batch``, in the spelling of DGL) the place of a DGL graph. What differs from this
library:

- relative positions point the other way, x_i − x_j: a factor (−1)^J;
- the Clebsch–Gordan matrices are those of e3nn 0.3.3, six of which have another sign in later releases;
- radial networks may be shared among pairs of degrees; their last layer has no bias; where the pair (0, 0) has a
  network of its own, its kernel lacks the constant 1/√(4π);
- convolutions sum over the neighbours, and add the self term to every message.

Source: https://github.com/NVIDIA/DeepLearningExamples, DGLPyTorch/DrugDiscovery/SE3Transformer.
"""

from se3t.compat.nvidia.fiber import Fiber as Fiber
from se3t.compat.nvidia.fiber import FiberEl as FiberEl
from se3t.compat.nvidia.graph import EdgeGraph as EdgeGraph
from se3t.compat.nvidia.graph import batch as batch
from se3t.compat.nvidia.graph import from_dgl as from_dgl
from se3t.compat.nvidia.graph import graph as graph
from se3t.compat.nvidia.loading import load as load
from se3t.compat.nvidia.transformer import SE3Transformer as SE3Transformer
from se3t.compat.nvidia.transformer import SE3TransformerPooled as SE3TransformerPooled
