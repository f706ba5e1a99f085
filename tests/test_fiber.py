from __future__ import annotations

import pytest
import torch

from se3t.fiber import Features, Fiber, cat_features, rotate_features, split_features
from se3t.so3 import random_rotation, wigner_d


def random_features(fiber: Fiber, *shape: int, dtype: torch.dtype = torch.float64) -> Features:
    return {degree: torch.randn(*shape, count, 2 * degree + 1, dtype=dtype) for degree, count in fiber.items()}


# --- Fiber ------------------------------------------------------------------------------------------------------------


def test_a_string_and_a_mapping_name_the_same_fiber() -> None:
    assert Fiber("16x0+8x1") == Fiber({1: 8, 0: 16})
    assert Fiber(" 16 x 0 + 8x1 ") == Fiber("16x0+8x1")
    assert Fiber(Fiber("2x3")) == Fiber("2x3")


def test_terms_of_one_degree_add_up() -> None:
    assert Fiber("2x1+3x0+4x1") == Fiber("3x0+6x1")


def test_a_fiber_is_ordered_by_degree_and_drops_empty_degrees() -> None:
    fiber = Fiber({3: 1, 0: 2, 1: 0})
    assert list(fiber.items()) == [(0, 2), (3, 1)]
    assert fiber.degrees == (0, 3)
    assert fiber == Fiber({0: 2, 3: 1})
    assert 1 not in fiber
    assert len(fiber) == 2


def test_printing_a_fiber_and_reading_it_back_is_the_identity() -> None:
    for text in ("16x0+8x1", "1x5", "3x0+1x2+4x7"):
        assert repr(Fiber(text)) == text
        assert Fiber(repr(Fiber(text))) == Fiber(text)
    assert repr(Fiber({})) == "0"
    assert Fiber("0") == Fiber({})


def test_equal_fibers_hash_alike_and_serve_as_keys() -> None:
    assert hash(Fiber({1: 2, 0: 3})) == hash(Fiber("3x0+2x1"))
    assert {Fiber("3x0+2x1"): "found"}[Fiber({1: 2, 0: 3})] == "found"
    assert Fiber("3x0") != Fiber("3x1")
    assert Fiber("3x0") != "3x0"


def test_a_fiber_cannot_be_changed() -> None:
    fiber = Fiber("3x0")
    with pytest.raises(TypeError):
        fiber[0] = 4
    with pytest.raises(AttributeError):
        fiber.extra = 1
    source = {0: 3}
    fiber = Fiber(source)
    source[0] = 5
    assert fiber[0] == 3


def test_adding_fibers_adds_channels_degree_by_degree() -> None:
    assert Fiber("1x0+2x1") + Fiber("3x1+4x2") == Fiber("1x0+5x1+4x2")
    assert Fiber("1x0") + Fiber({}) == Fiber("1x0")


def test_size_and_degrees_of_a_fiber() -> None:
    fiber = Fiber("4x0+2x1+3x3")
    assert fiber.dim == 4 + 2 * 3 + 3 * 7
    assert fiber.max_degree == 3
    assert (Fiber({}).dim, Fiber({}).max_degree, Fiber({}).degrees) == (0, -1, ())


def test_uniform_fiber_has_the_first_degrees() -> None:
    assert Fiber.uniform(3, 8) == Fiber("8x0+8x1+8x2")
    assert Fiber.uniform(0, 8) == Fiber({})


def test_restricting_keeps_shared_degrees_with_their_own_channels() -> None:
    fiber = Fiber("4x0+2x1+3x3")
    assert fiber.restrict(Fiber("1x1+9x3+1x5")) == Fiber("2x1+3x3")
    assert fiber.restrict((0, 2)) == Fiber("4x0")


@pytest.mark.parametrize("text", ["", "16", "16x", "x0", "16x0+", "16*0", "-1x0", "16x-1", "axb", "1.5x0"])
def test_a_string_that_is_no_fiber_is_quoted_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected channels x degree") as error:
        Fiber(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("channels", [{0: -1}, {-1: 2}])
def test_negative_numbers_are_refused(channels: dict[int, int]) -> None:
    with pytest.raises(ValueError, match="whole numbers >= 0"):
        Fiber(channels)


def test_the_fiber_of_features_is_read_from_their_shapes() -> None:
    fiber = Fiber("4x0+2x1+3x3")
    assert Fiber.of(random_features(fiber, 7)) == fiber
    fiber.check(random_features(fiber, 7))
    assert Fiber.of({}) == Fiber({})


def test_check_names_what_does_not_fit() -> None:
    fiber = Fiber("4x0+2x1")
    with pytest.raises(ValueError, match=r"input: expected fiber 4x0\+2x1, got 4x0$"):
        fiber.check(random_features(Fiber("4x0"), 7), "input")
    with pytest.raises(ValueError, match=r"features: expected fiber 4x0\+2x1, got 4x0\+3x1"):
        fiber.check(random_features(Fiber("4x0+3x1"), 7))
    with pytest.raises(ValueError, match=r"degree 1 needs 3 components in the last .*got shape \(7, 2, 5\)"):
        fiber.check({0: torch.zeros(7, 4, 1), 1: torch.zeros(7, 2, 5)})
    with pytest.raises(ValueError, match=r"degree 0 needs 1 components in the last .*got shape \(1,\)"):
        fiber.check({0: torch.zeros(1)})


# --- features ---------------------------------------------------------------------------------------------------------


def test_splitting_undoes_concatenation() -> None:
    fibers = [Fiber("2x0+1x1"), Fiber("3x1+1x2"), Fiber("1x0")]
    parts = [random_features(fiber, 5) for fiber in fibers]
    joined = cat_features(*parts)
    assert Fiber.of(joined) == fibers[0] + fibers[1] + fibers[2]
    assert list(joined) == [0, 1, 2]
    for part, found in zip(parts, split_features(joined, *fibers), strict=True):
        assert list(found) == list(part)
        assert all(torch.equal(found[degree], part[degree]) for degree in part)


def test_concatenation_is_in_the_order_given() -> None:
    first, second = random_features(Fiber("2x1"), 5), random_features(Fiber("3x1"), 5)
    assert torch.equal(cat_features(first, second)[1], torch.cat([first[1], second[1]], dim=1))
    assert cat_features(first) == first
    assert cat_features() == {}


def test_splitting_into_fibers_that_do_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="expected fiber 2x0, got 3x0"):
        split_features(random_features(Fiber("3x0"), 5), Fiber("1x0"), Fiber("1x0"))


def test_rotating_features_multiplies_every_channel_by_its_wigner_matrix() -> None:
    features, rotation = random_features(Fiber("2x0+3x1+1x4"), 5), random_rotation(dtype=torch.float64)
    rotated = rotate_features(features, rotation)
    for degree, value in features.items():
        expected = torch.einsum("ij,ncj->nci", wigner_d(degree, rotation), value)
        torch.testing.assert_close(rotated[degree], expected)
    torch.testing.assert_close(rotated[0], features[0])
    torch.testing.assert_close(rotated[1][4, 2], rotation @ features[1][4, 2])


def test_rotating_features_is_a_group_action() -> None:
    features, (first, second) = random_features(Fiber("1x1+1x2+1x3"), 5), random_rotation(2, dtype=torch.float64)
    together, stepwise = rotate_features(features, second @ first), rotate_features(features, first)
    torch.testing.assert_close(rotate_features(stepwise, second), together)
    back = rotate_features(stepwise, first.T)
    torch.testing.assert_close(back, features)


def test_every_point_may_have_its_own_rotation() -> None:
    features, rotations = random_features(Fiber("2x1+1x2"), 5), random_rotation(5, dtype=torch.float64)
    rotated = rotate_features(features, rotations)
    for point in range(5):
        single = rotate_features({degree: value[point] for degree, value in features.items()}, rotations[point])
        for degree, value in single.items():
            torch.testing.assert_close(rotated[degree][point], value)


def test_rotated_features_keep_their_dtype_and_are_rounded_once() -> None:
    features, rotation = random_features(Fiber("2x1+1x3"), 5), random_rotation(dtype=torch.float64)
    single = {degree: value.float() for degree, value in features.items()}
    exact = rotate_features({degree: value.double() for degree, value in single.items()}, rotation)
    for degree, value in rotate_features(single, rotation).items():
        assert value.dtype == torch.float32
        assert torch.equal(value, exact[degree].float())
    assert rotate_features(features, rotation.float())[1].dtype == torch.float64
