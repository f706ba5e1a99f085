"""Rotations, spherical harmonics, Wigner matrices and Clebsch–Gordan coefficients: pure functions in plain torch.

Conventions: polar axis y, azimuth φ = atan2(x, z); components m = −l … l, so that type 1 is (x, y, z) and D^1(R) = R;
harmonics orthonormal on the sphere, without the Condon–Shortley phase and without (−1)^l; rotations are active.
"""

from se3t.so3.clebsch_gordan import clebsch_gordan, real_from_complex
from se3t.so3.conventions import e3nn_sign, from_polar_z, to_authors_phase, to_polar_z
from se3t.so3.fourier import fourier_transform, haar_quadrature, inverse_fourier_transform
from se3t.so3.harmonics import associated_legendre, spherical_harmonics
from se3t.so3.rigid import RigidMotion
from se3t.so3.rotation import (
    cross_matrix,
    matrix_from_quaternion,
    random_rotation,
    rotation_about_axis,
    rotation_from_euler,
)
from se3t.so3.safe import safe_norm, safe_normalize
from se3t.so3.wigner import wigner_d, wigner_d_all

__all__ = [
    "RigidMotion",
    "associated_legendre",
    "clebsch_gordan",
    "cross_matrix",
    "e3nn_sign",
    "fourier_transform",
    "from_polar_z",
    "haar_quadrature",
    "inverse_fourier_transform",
    "matrix_from_quaternion",
    "random_rotation",
    "real_from_complex",
    "rotation_about_axis",
    "rotation_from_euler",
    "safe_norm",
    "safe_normalize",
    "spherical_harmonics",
    "to_authors_phase",
    "to_polar_z",
    "wigner_d",
    "wigner_d_all",
]
