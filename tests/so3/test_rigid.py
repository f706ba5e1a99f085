"""SE(3) = ℝ³ ⋊ SO(3): the semidirect product."""

from __future__ import annotations

import torch

from se3t.so3 import RigidMotion, random_rotation


def _motion(*shape: int) -> RigidMotion:
    return RigidMotion(random_rotation(*shape, dtype=torch.float64), torch.randn(*shape, 3, dtype=torch.float64))


def _assert_same(left: RigidMotion, right: RigidMotion) -> None:
    torch.testing.assert_close(left.matrix(), right.matrix(), rtol=0, atol=1e-14)


def _identity() -> RigidMotion:
    return RigidMotion(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))


def test_composition_acts_as_one_motion_after_the_other() -> None:
    first, second = _motion(4), _motion(4)
    points = torch.randn(4, 7, 3, dtype=torch.float64)
    torch.testing.assert_close((second @ first)(points), second(first(points)), rtol=0, atol=1e-13)


def test_composition_is_associative_with_identity() -> None:
    a, b, c = _motion(), _motion(), _motion()
    _assert_same((a @ b) @ c, a @ (b @ c))
    _assert_same(_identity() @ a, a)
    _assert_same(a @ _identity(), a)


def test_inverse_undoes_a_motion_from_both_sides() -> None:
    motion = _motion()
    _assert_same(motion.inverse() @ motion, _identity())
    _assert_same(motion @ motion.inverse(), _identity())


def test_motions_are_matrices_on_homogeneous_coordinates() -> None:
    first, second = _motion(3), _motion(3)
    torch.testing.assert_close((first @ second).matrix(), first.matrix() @ second.matrix(), rtol=0, atol=1e-14)
    torch.testing.assert_close(first.inverse().matrix(), torch.linalg.inv(first.matrix()), rtol=0, atol=1e-13)
    assert torch.equal(first.matrix()[:, 3], torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64).expand(3, 4))


def test_translations_are_a_normal_subgroup_and_rotations_are_not() -> None:
    motion, identity = _motion(), _identity()
    translation = RigidMotion(identity.rotation, torch.randn(3, dtype=torch.float64))
    rotation = RigidMotion(random_rotation(dtype=torch.float64), identity.translation)
    conjugate = motion @ translation @ motion.inverse()
    _assert_same(conjugate, RigidMotion(identity.rotation, motion.rotation @ translation.translation))
    assert (motion @ rotation @ motion.inverse()).translation.norm() > 0.1


def test_every_motion_is_a_rotation_then_a_translation_and_they_do_not_commute() -> None:
    motion, identity = _motion(), _identity()
    translation = RigidMotion(identity.rotation, motion.translation)
    rotation = RigidMotion(motion.rotation, identity.translation)
    _assert_same(translation @ rotation, motion)
    assert (rotation @ translation).translation.sub(motion.translation).norm() > 0.1
