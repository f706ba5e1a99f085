"""All operators of the package, without its models: what a program from ``torch.export`` needs where it runs.

``import se3t.operators`` registers ``torch.ops.se3t.convolve``, ``attend``, ``mix``, ``norm``, their gradients,
and what they rest on.
"""

from se3t.nn.kernels.native.attention import attend_backward
from se3t.nn.kernels.native.attention import attend_operator as attend
from se3t.nn.kernels.native.convolution import convolve, convolve_backward
from se3t.nn.kernels.native.mixing import mix, mix_backward
from se3t.nn.kernels.native.norm import norm, norm_backward

__all__ = [
    "attend",
    "attend_backward",
    "convolve",
    "convolve_backward",
    "mix",
    "mix_backward",
    "norm",
    "norm_backward",
]
