from __future__ import annotations

import re

import pytest
import torch

from se3t.so3 import (
    e3nn_sign,
    from_polar_z,
    random_rotation,
    spherical_harmonics,
    to_authors_phase,
    to_polar_z,
    wigner_d,
)


def test_authors_phase_is_minus_one_to_the_degree_and_its_own_inverse() -> None:
    vectors = torch.randn(5, 3, dtype=torch.float64)
    ours = spherical_harmonics(4, vectors)
    theirs = to_authors_phase(ours)
    for degree in range(5):
        block = slice(degree**2, (degree + 1) ** 2)
        assert torch.equal(theirs[:, block], (-1) ** degree * ours[:, block])
    assert torch.equal(to_authors_phase(theirs), ours)
    torch.testing.assert_close(theirs, spherical_harmonics(4, -vectors))


def test_authors_phase_refuses_an_incomplete_set_of_degrees() -> None:
    with pytest.raises(ValueError, match="got 8"):
        to_authors_phase(torch.zeros(2, 8))


def test_type_one_orders_are_xyz_here_and_yzx_for_polar_axis_z() -> None:
    xyz = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    yzx = torch.tensor([2.0, 3.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(to_polar_z(1, xyz), yzx, rtol=0, atol=0)
    torch.testing.assert_close(from_polar_z(1, yzx), xyz, rtol=0, atol=0)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 6])
def test_polar_z_is_our_formula_with_the_axes_renamed(degree: int) -> None:
    vectors = torch.randn(6, 3, dtype=torch.float64)
    block = slice(degree**2, (degree + 1) ** 2)
    ours = spherical_harmonics(degree, vectors)[:, block]
    polar_z = spherical_harmonics(degree, vectors[:, [1, 2, 0]])[:, block]
    torch.testing.assert_close(to_polar_z(degree, ours), polar_z, rtol=0, atol=1e-13)
    torch.testing.assert_close(from_polar_z(degree, polar_z), ours, rtol=0, atol=1e-13)


def test_converted_values_rotate_by_the_converted_representation() -> None:
    rotation, value = random_rotation(dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    change = to_polar_z(2, torch.eye(5, dtype=torch.float64)).T
    there = change @ wigner_d(2, rotation) @ change.T @ to_polar_z(2, value)
    torch.testing.assert_close(from_polar_z(2, there), wigner_d(2, rotation) @ value)


def test_the_table_in_the_docstring_is_the_sign_map() -> None:
    text = e3nn_sign.__doc__ or ""
    table = {tuple(map(int, match)) for match in re.findall(r"\((\d),(\d),(\d)\)", text)}
    triples = [(l, k, J) for l in range(5) for k in range(5) for J in range(abs(l - k), l + k + 1)]
    assert table == {triple for triple in triples if e3nn_sign(*triple) < 0}
    assert f"these {len(table)} triples" in text
    assert f"the other {len(triples) - len(table)}" in text


def test_sign_of_an_impossible_coupling_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 to 2"):
        e3nn_sign(1, 1, 3)
