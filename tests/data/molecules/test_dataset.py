"""From a prepared store to the molecules of one property."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from se3t.config import TARGETS, MoleculesData, PropertyTask, QM9Data
from se3t.data.molecules import own
from se3t.data.molecules.dataset import PropertyData, baseline_errors, composition, load_property
from se3t.data.molecules.molecule import SPLITS, Molecule, pack
from se3t.data.qm9.prepare import store_path
from se3t.data.store import write_store
from se3t.errors import UserError

from .parts import AMMONIA, APART, ATOM, BENZENE, METHANE, WATER, crowd, property_data, split_words, store, write

COUNTS = {"train": 12, "valid": 5, "test": 4}
HARTREE = 27211.386245988  # meV, CODATA 2018


def qm9(
    root: Path,
    molecules: Sequence[Molecule] | None = None,
    counts: dict[str, int] = COUNTS,
    columns: dict[str, list[float]] | None = None,
) -> QM9Data:
    """Settings of a prepared store of these molecules; columns that are not given count up from 1."""
    molecules = crowd(sum(counts.values())) if molecules is None else molecules
    plain = {name: [place + 0.01 * row for row in range(len(molecules))] for place, name in enumerate(TARGETS)}
    config = QM9Data(root=str(root))
    write(store_path(config), molecules, split_words(counts), {**plain, **(columns or {})})
    return config


def load(config: QM9Data, target: str = "homo") -> PropertyData:
    return load_property(config, PropertyTask(target=target), progress=False)


# --- QM9 -----------------------------------------------------------------------------------------------------------


def test_a_property_is_the_column_of_its_name_whatever_the_split(tmp_path: Path) -> None:
    config = qm9(tmp_path)
    for place, name in enumerate(TARGETS):
        data = load(config, name)
        if name in ("mu", "alpha", "cv", "r2"):
            np.testing.assert_allclose(data.values[:, 0], place + 0.01 * np.arange(21), rtol=0, atol=1e-12)
        assert data.properties[0].name == name
    assert {split: len(members) for split, members in data.splits.items()} == COUNTS
    assert list(data.splits) == list(SPLITS)


@pytest.mark.parametrize("target", ["homo", "lumo", "gap", "zpve"])
def test_orbital_energies_are_in_mev(target: str, tmp_path: Path) -> None:
    values = np.linspace(-0.4, 0.3, 21)
    data = load(qm9(tmp_path, columns={target: values.tolist()}), target)
    # Through electronvolts of the joule: 4.359 744 722 2071e-18 J a hartree, 1.602 176 634e-19 J an electronvolt.
    np.testing.assert_allclose(data.values[:, 0], values * 4.3597447222071e-18 / 1.602176634e-19 * 1000, rtol=1e-11)
    assert data.properties[0].unit == "meV"


@pytest.mark.parametrize(
    ("target", "unit"), [("mu", "D"), ("alpha", "bohr^3"), ("cv", "cal/(mol K)"), ("r2", "bohr^2")]
)
def test_other_properties_keep_the_unit_of_the_raw_files(target: str, unit: str, tmp_path: Path) -> None:
    assert load(qm9(tmp_path), target).properties[0].unit == unit


def test_methane_has_its_published_values(tmp_path: Path) -> None:
    published = {"homo": -0.3877, "lumo": 0.1171, "gap": 0.5048, "mu": 0.0, "alpha": 13.21, "u0": -40.47893}
    kinds, counts = [METHANE, WATER, AMMONIA], {"train": 2, "valid": 1, "test": 0}
    config = qm9(tmp_path, kinds, counts, {name: [value, 0.0, 0.0] for name, value in published.items()})
    found = {name: load(config, name).values[0, 0] for name in published}
    carbon, hydrogen = -37.846772, -0.500273  # hartree, single atoms at 0 K
    atomisation = (-40.47893 - carbon - 4 * hydrogen) * HARTREE  # -17.17 eV: four bonds of 4.3 eV
    assert found["u0"] == pytest.approx(atomisation, abs=1e-6)
    assert -17_300 < found["u0"] < -17_100
    assert found["homo"] == pytest.approx(-10_549.85, abs=0.01)
    assert found["gap"] - (found["lumo"] - found["homo"]) == pytest.approx(0, abs=1e-8)
    assert (found["mu"], found["alpha"]) == (0.0, 13.21)


def test_energies_of_atoms_alone_are_nothing(tmp_path: Path) -> None:
    oxygen, hydrogen = -75.064579, -0.500273
    values = [oxygen, 2 * hydrogen, oxygen]
    data = load(qm9(tmp_path, [ATOM, APART, ATOM], {"train": 2, "valid": 1, "test": 0}, {"u0": values}), "u0")
    np.testing.assert_allclose(data.values[:, 0], 0, atol=1e-9)


def test_the_official_sizes_are_told_beside_those_at_hand(tmp_path: Path) -> None:
    assert dict(load(qm9(tmp_path)).official) == {"train": 100_000, "valid": 17_748, "test": 13_083}


# --- choices of molecules ------------------------------------------------------------------------------------------


def test_limits_are_a_random_choice_of_the_split_and_always_the_same(tmp_path: Path) -> None:
    counts = {"train": 60, "valid": 20, "test": 20}
    config = replace(qm9(tmp_path, counts=counts), num_train=10, num_valid=4, num_test=3)
    first, second = load(config), load(config)
    assert {split: len(members) for split, members in first.splits.items()} == {"train": 10, "valid": 4, "test": 3}
    chosen = {split: first.arrays["mol_id"][members].tolist() for split, members in first.splits.items()}
    assert chosen == {split: second.arrays["mol_id"][members].tolist() for split, members in second.splits.items()}
    first_of = dict(zip(counts, (1, 61, 81), strict=True))
    for split, numbers in chosen.items():
        assert set(numbers) < set(range(first_of[split], first_of[split] + counts[split]))
        assert numbers != list(range(first_of[split], first_of[split] + len(numbers)))  # not those that come first
    more = load(replace(config, num_train=20))
    assert set(chosen["train"]) < set(more.arrays["mol_id"][more.splits["train"]])
    assert chosen["valid"] == more.arrays["mol_id"][more.splits["valid"]].tolist()


def test_a_limit_beyond_the_split_takes_all_of_it(tmp_path: Path) -> None:
    whole = load(replace(qm9(tmp_path), num_train=10**6, num_valid=10**6, num_test=10**6))
    assert {split: len(members) for split, members in whole.splits.items()} == COUNTS


def test_a_choice_keeps_every_molecule_whole(tmp_path: Path) -> None:
    molecules = crowd(21)
    data = load(replace(qm9(tmp_path, molecules), num_train=5))
    kept = [molecules[number - 1] for number in data.arrays["mol_id"]]
    for name, array in pack(kept).items():
        assert np.array_equal(data.arrays[name], array), name
    np.testing.assert_allclose(data.values[:, 0], 0.01 * (data.arrays["mol_id"] - 1) * HARTREE, atol=1e-6)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_split_without_which_nothing_can_be_trained_is_an_error(split: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"the prepared qm9 data hold no molecule of the {split} split"):
        load(qm9(tmp_path, counts={**COUNTS, split: 0}))


def test_an_empty_test_split_is_none(tmp_path: Path) -> None:
    assert len(load(qm9(tmp_path, counts={**COUNTS, "test": 0})).splits["test"]) == 0


# --- molecules of one's own ----------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path: Path) -> MoleculesData:
    """A prepared store of nine molecules, with a column that has gaps."""
    raw = tmp_path / "mine.sdf"
    raw.write_text("only its name and checksum count where the store is there")
    config = MoleculesData(root=str(tmp_path), raw=str(raw))
    columns = {"logP": [1.0, None, 3.0, 4.0, 5.0, None, 7.0, None, 9.0], "full": [float(row) for row in range(9)]}
    made = store(crowd(9), split_words({"train": 5, "valid": 2, "test": 2}), columns, kind="molecules")
    settings = {**made.settings, "column_units": {"logP": "", "full": "eV"}}
    write_store(own.store_path(config), replace(made, settings=settings))
    return config


def test_molecules_without_a_value_are_left_out_of_every_split(mine: MoleculesData) -> None:
    data = load_property(mine, PropertyTask(column="logP"), progress=False)
    assert data.values[:, 0].tolist() == [1.0, 3.0, 4.0, 5.0, 7.0, 9.0]
    assert data.arrays["mol_id"].tolist() == [1, 3, 4, 5, 7, 9]
    assert {split: members.tolist() for split, members in data.splits.items()} == {
        "train": [0, 1, 2, 3],
        "valid": [4],
        "test": [5],
    }
    assert len(load_property(mine, PropertyTask(column="full"), progress=False).values) == 9


def test_the_unit_of_a_column_is_that_of_the_store(mine: MoleculesData) -> None:
    targets = [
        load_property(mine, PropertyTask(column=name), progress=False).properties[0] for name in ("full", "logP")
    ]
    assert [(target.name, target.label, target.unit) for target in targets] == [
        ("full", "full", "eV"),
        ("logP", "logP", ""),
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (None, r"task\.column: a value is missing; the columns are: logP, full; add task\.column="),
        ("logp", r"task\.column=logp: no such column; did you mean 'logP'\?"),
    ],
)
def test_a_column_that_is_not_there_is_named(column: str | None, message: str, mine: MoleculesData) -> None:
    with pytest.raises(UserError, match=message):
        load_property(mine, PropertyTask(column=column), progress=False)


def test_a_column_with_values_in_training_alone_cannot_be_learned(mine: MoleculesData) -> None:
    made = own.read_molecules_store(mine)
    known = np.where(made.arrays["split"][:, None] == SPLITS.index("valid"), 0, made.arrays["known"]).astype(np.uint8)
    write_store(own.store_path(mine), replace(made, arrays={**made.arrays, "known": known}))
    with pytest.raises(UserError, match="molecules data hold no molecule of the valid split"):
        load_property(mine, PropertyTask(column="full"), progress=False)


def test_columns_belong_to_ones_own_molecules(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.column: columns belong to data=molecules"):
        load_property(QM9Data(root=str(tmp_path)), PropertyTask(column="logP"), progress=False)


# --- errors that need no learning ----------------------------------------------------------------------------------


def test_composition_counts_atoms_by_element() -> None:
    arrays = pack([METHANE, ATOM, BENZENE, WATER])
    assert composition(arrays, (1, 6, 7, 8)).tolist() == [[4, 1, 0, 0], [0, 0, 0, 1], [6, 6, 0, 0], [2, 0, 0, 1]]


def test_a_property_of_the_composition_alone_is_fitted_exactly() -> None:
    molecules = crowd(33)
    values = [3.0 + 2.5 * int((one.numbers == 1).sum()) - 7.0 * int((one.numbers == 6).sum()) for one in molecules]
    errors = baseline_errors(property_data(molecules, values=values), (1, 6, 7, 8, 9), "test")
    assert errors["composition"][0] < 1e-9
    assert errors["mean"][0] > 1


def test_baselines_learn_from_training_molecules_alone() -> None:
    data = property_data()
    before = baseline_errors(data, (1, 6, 7, 8, 9), "valid")
    values = data.values.copy()
    values[data.splits["test"]] += 1e6
    assert baseline_errors(replace(data, values=values), (1, 6, 7, 8, 9), "valid") == before
    values[data.splits["train"]] += 1e6
    assert baseline_errors(replace(data, values=values), (1, 6, 7, 8, 9), "valid")["mean"][0] > before["mean"][0]


def test_the_mean_predictor_is_wrong_by_the_mean_distance_from_the_training_mean() -> None:
    data = property_data()
    train, test = (data.values[data.splits[split], 0].tolist() for split in ("train", "test"))
    mean = sum(train) / len(train)
    expected = sum(abs(value - mean) for value in test) / len(test)
    assert baseline_errors(data, (1, 6, 7, 8, 9), "test")["mean"][0] == pytest.approx(expected, rel=1e-12)
