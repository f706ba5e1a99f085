"""Rotations, spherical harmonics, Wigner matrices and Clebsch–Gordan coefficients: pure functions in plain torch.

Conventions: polar axis y, azimuth φ = atan2(x, z); components m = −l … l, so that type 1 is (x, y, z) and D^1(R) = R;
harmonics orthonormal on the sphere, without the Condon–Shortley phase and without (−1)^l; rotations are active.
"""

from se3t.so3.clebsch_gordan import clebsch_gordan as clebsch_gordan
from se3t.so3.clebsch_gordan import real_from_complex as real_from_complex
from se3t.so3.conventions import e3nn_sign as e3nn_sign
from se3t.so3.conventions import from_polar_z as from_polar_z
from se3t.so3.conventions import to_authors_phase as to_authors_phase
from se3t.so3.conventions import to_polar_z as to_polar_z
from se3t.so3.fourier import fourier_transform as fourier_transform
from se3t.so3.fourier import haar_quadrature as haar_quadrature
from se3t.so3.fourier import inverse_fourier_transform as inverse_fourier_transform
from se3t.so3.harmonics import associated_legendre as associated_legendre
from se3t.so3.harmonics import spherical_harmonics as spherical_harmonics
from se3t.so3.rigid import RigidMotion as RigidMotion
from se3t.so3.rotation import cross_matrix as cross_matrix
from se3t.so3.rotation import matrix_from_quaternion as matrix_from_quaternion
from se3t.so3.rotation import random_rotation as random_rotation
from se3t.so3.rotation import rotation_about_axis as rotation_about_axis
from se3t.so3.rotation import rotation_from_euler as rotation_from_euler
from se3t.so3.safe import safe_norm as safe_norm
from se3t.so3.safe import safe_normalize as safe_normalize
from se3t.so3.wigner import wigner_d as wigner_d
from se3t.so3.wigner import wigner_d_all as wigner_d_all
