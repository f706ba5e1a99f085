"""SE(3)-Transformers: 3D roto-translation equivariant attention networks, as a library and an experiment suite."""

__version__ = "0.1.0"
