from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from se3t.data.molecules.building import (
    BONDS_VERSION,
    UNITS,
    Made,
    build,
    from_block,
    load,
    provenance_lines,
    trivial_errors,
)
from se3t.data.molecules.molecule import Refusal
from se3t.data.molecules.readers import Record
from se3t.data.store import write_store
from se3t.errors import UserError

from .parts import crowd, store

COUNT = 30
MOLECULES = crowd(COUNT)


def records(numbers: list[int]) -> list[Record]:
    return [Record(f"m{number}", "sdf", "", index=number, values=(float(number), np.nan)) for number in numbers]


def by_number(record: Record) -> Made:
    if record.index % 7:
        return record, MOLECULES[record.index]
    return record, Refusal(record.identifier, "a multiple of seven")


def test_molecules_are_in_the_order_of_their_numbers_whatever_that_of_the_file() -> None:
    order = np.random.default_rng(0).permutation(COUNT).tolist()
    shuffled, facts = build(by_number, records(order), 2, workers=1, advance=lambda _: None)
    ordered, same = build(by_number, records(list(range(COUNT))), 2, workers=1, advance=lambda _: None)
    assert shuffled["mol_id"].tolist() == [number for number in range(COUNT) if number % 7]
    for name, array in ordered.items():
        np.testing.assert_array_equal(shuffled[name], array, err_msg=name)
    assert facts["refused"] == same["refused"]
    assert set(shuffled) == set(UNITS) - {"split"}


def test_every_molecule_keeps_its_atoms_and_bonds_when_sorted() -> None:
    built, _ = build(by_number, records([9, 3, 12, 1]), 2, workers=1, advance=lambda _: None)
    atoms, bonds = np.cumsum(built["num_atoms"])[:-1], np.cumsum(built["num_bonds"])[:-1]
    for place, number in enumerate([1, 3, 9, 12]):
        expected = MOLECULES[number]
        np.testing.assert_array_equal(np.split(built["numbers"], atoms)[place], expected.numbers)
        np.testing.assert_array_equal(np.split(built["positions"], atoms)[place], expected.positions)
        np.testing.assert_array_equal(np.split(built["bonds"], bonds)[place], expected.bonds)
        np.testing.assert_array_equal(np.split(built["bond_classes"], bonds)[place], expected.bond_classes)


def test_unknown_values_are_zero_and_not_known() -> None:
    arrays, _ = build(by_number, records([1, 2]), 2, workers=1, advance=lambda _: None)
    assert arrays["targets"].tolist() == [[1.0, 0.0], [2.0, 0.0]]
    assert arrays["known"].tolist() == [[1, 0], [1, 0]]


def test_refused_molecules_are_listed_and_methods_counted() -> None:
    reached: list[int] = []
    _, facts = build(by_number, records(list(range(1, 15))), 2, workers=1, advance=reached.append)
    assert facts["refused"] == [
        {"mol_id": 7, "identifier": "m7", "reason": "a multiple of seven"},
        {"mol_id": 14, "identifier": "m14", "reason": "a multiple of seven"},
    ]
    assert facts["methods"] == {"by hand": 12}
    assert reached == [14]


def test_nothing_gives_empty_arrays() -> None:
    arrays, _ = build(by_number, [], 3, workers=1, advance=lambda _: None)
    assert arrays["targets"].shape == (0, 3)
    assert arrays["positions"].shape == (0, 3)


def test_a_number_that_is_there_twice_is_an_error_even_if_one_was_refused() -> None:
    for numbers, twice in (([1, 2, 1], 1), ([7, 8, 7], 7)):
        with pytest.raises(UserError, match=f"molecule {twice} occurs twice"):
            build(by_number, records(numbers), 2, workers=1, advance=lambda _: None)


def test_a_mol_block_that_cannot_be_read_is_refused_with_its_reason() -> None:
    bad = Record("bad", "sdf", "nonsense", index=5, values=(1.0,))
    _, facts = build(from_block, [bad], 1, workers=1, advance=lambda _: None)
    (refused,) = facts["refused"]
    assert (refused["mol_id"], refused["identifier"]) == (5, "bad")
    assert refused["reason"]


def test_the_trivial_error_is_that_of_the_known_training_mean() -> None:
    values = np.array([1.0, 3.0, 100.0, 5.0, 4.0, 7.0])
    known = np.array([1, 1, 0, 1, 1, 1])
    found = trivial_errors(values, known, np.array([0, 0, 0, 1, 1, 2]))
    assert found == {"mean": 2.0, "std": 1.0, "mae_valid": 2.5, "mae_test": 5.0}
    nothing = trivial_errors(values, 0 * known, np.array([0, 0, 0, 1, 1, 2]))
    assert all(map(math.isnan, nothing.values()))


def test_many_refusals_are_shortened() -> None:
    refused = [{"mol_id": number, "identifier": "", "reason": "why"} for number in range(1, 9)]
    facts = {"notes": ["a note"], "methods": {"by hand": 1200, "sanitised": 3}, "refused": refused}
    lines = list(provenance_lines(facts))
    assert lines[:4] == ["a note", "bonds: 1,200 by hand, 3 sanitised", "refused: 8", "  molecule 1: why"]
    assert len(lines) == 9
    assert lines[-1] == "  and 3 more, listed in the provenance of the store"
    few = [{"mol_id": 4, "identifier": "four", "reason": "why"}]
    assert list(provenance_lines({**facts, "refused": few}))[2:] == ["refused: 1", "  molecule 4 (four): why"]


@pytest.mark.parametrize(("provenance", "warned"), [({}, True), ({"bonds_version": BONDS_VERSION}, False)])
def test_a_store_whose_bonds_follow_earlier_rules_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, provenance: dict[str, int], warned: bool
) -> None:
    made = replace(store(MOLECULES[:1], ["train"], {"gap": [1.0]}), provenance=provenance)
    made = replace(made, units=UNITS)
    write_store(tmp_path / "a.h5", made)
    assert load(tmp_path / "a.h5", "qm9", fix="se3t data prepare qm9").checksum == made.checksum
    assert ("make it again with `se3t data prepare qm9`" in caplog.text) == warned
