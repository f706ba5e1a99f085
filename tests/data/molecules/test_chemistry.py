"""Bonds are those a chemist would draw, in one order, however the file tells them; what cannot be read is refused."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from se3t.data.molecules.chemistry import missing_hydrogens, molecule_from_block, molecule_from_xyz
from se3t.data.molecules.conversion import rdkit_version
from se3t.data.molecules.embedding import molecule_from_smiles
from se3t.data.molecules.molecule import BOND_CLASSES, ELEMENTS, Molecule, Refusal
from se3t.data.molecules.readers import iter_sdf
from se3t.data.molecules.xyz import XYZRecord, parse_qm9_xyz

SINGLE, DOUBLE, TRIPLE, AROMATIC = range(len(BOND_CLASSES))
GLYCINE = "[NH3+]CC(=O)[O-]"
SMILES = (
    "C",
    "O",
    "[H][H]",
    "C#N",
    "C=C",
    "C#C",
    "CC(C)(C)C",
    "c1ccccc1",
    "Cc1ccco1",
    "c1cnc[nH]1",
    "O=CC#N",
    "C1=CC=CC=CC=C1",  # cyclooctatetraene: its double bonds are the short ones
    "C12C3C4C1C5C2C3C45",  # cubane
    "O=[N+]([O-])c1ccon1",
    GLYCINE,
    "CC(=O)OC1CC1C#N",
    "O=C=O",
    "OC=O",
)


def mol_of(smiles: str) -> Any:
    """An RDKit molecule with a geometry."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    if mol.GetNumBonds() and "." not in smiles:
        rdForceFieldHelpers.UFFOptimizeMolecule(mol)
    return mol


def block_of(smiles: str, **options: bool) -> str:
    from rdkit import Chem

    return str(Chem.MolToMolBlock(mol_of(smiles), **options))


def kekulised_block(atoms: str, bonds: str, header: str = "") -> str:
    """A V2000 mol block of lines "x y z element" and "first second order"."""
    rows = [line.split() for line in atoms.strip().splitlines()]
    pairs = [line.split() for line in bonds.strip().splitlines()]
    lines = ["title", header, "", f"{len(rows):3}{len(pairs):3}  0  0  0  0  0  0  0  0999 V2000"]
    lines += [f"{float(x):10.4f}{float(y):10.4f}{float(z):10.4f} {element:3} 0  0" for x, y, z, element in rows]
    lines += [f"{int(first):3}{int(second):3}{int(order):3}  0" for first, second, order in pairs]
    return "\n".join([*lines, "M  END", ""])


def from_block(block: str) -> Molecule:
    molecule = molecule_from_block("m", block)
    assert isinstance(molecule, Molecule), molecule
    return molecule


def refusal(outcome: Molecule | Refusal) -> Refusal:
    assert isinstance(outcome, Refusal)
    return outcome


def as_xyz(molecule: Molecule, *smiles: str, order: np.ndarray | None = None) -> XYZRecord:
    rows = np.arange(len(molecule)) if order is None else order
    return XYZRecord("m", molecule.numbers[rows], molecule.positions[rows].astype(np.float64), smiles)


def bonds_of(molecule: Molecule) -> list[tuple[int, ...]]:
    return [(*map(int, pair), int(kind)) for pair, kind in zip(molecule.bonds, molecule.bond_classes, strict=True)]


def drawn(smiles: str) -> list[tuple[int, ...]]:
    """Bonds as RDKit keeps them for the SMILES itself."""
    from rdkit import Chem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    kinds = {1.0: SINGLE, 2.0: DOUBLE, 3.0: TRIPLE, 1.5: AROMATIC}
    return sorted(
        (*sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())), kinds[bond.GetBondTypeAsDouble()])
        for bond in mol.GetBonds()
    )


def without_orders(block: str) -> str:
    """The same block with bond type 0 for every bond."""
    return re.sub(r"^([ \d]{3}[ \d]{3})  [1-4](?=  \d)", r"\1  0", block, flags=re.MULTILINE)


# --- mol blocks ---------------------------------------------------------------------------------------------


def test_methane_is_one_carbon_and_four_single_bonds() -> None:
    block = kekulised_block(
        """-0.0127 1.0858 0.0080 C
        0.0022 -0.0060 0.0020 H
        1.0117 1.4638 0.0003 H
        -0.5408 1.4475 -0.8766 H
        -0.5238 1.4379 0.9064 H""",
        "2 1 1\n5 1 1\n4 1 1\n3 1 1",
    )
    molecule = from_block(block)
    assert molecule.numbers.tolist() == [6, 1, 1, 1, 1]
    assert bonds_of(molecule) == [(0, atom, SINGLE) for atom in range(1, 5)]
    np.testing.assert_allclose(molecule.positions[2], [1.0117, 1.4638, 0.0003], rtol=1e-6)
    assert (molecule.identifier, molecule.method, molecule.charge, molecule.is_3d) == ("m", "sanitised", 0, True)
    dtypes = [array.dtype for array in (molecule.numbers, molecule.positions, molecule.bonds, molecule.bond_classes)]
    assert dtypes == [np.uint8, np.float32, np.uint16, np.uint8]


@pytest.mark.parametrize("v3000", [False, True])
@pytest.mark.parametrize("smiles", SMILES)
def test_bonds_of_a_block_are_those_of_its_smiles(smiles: str, v3000: bool) -> None:
    molecule = from_block(block_of(smiles, forceV3000=v3000))
    assert bonds_of(molecule) == drawn(smiles)
    assert (molecule.method, molecule.charge) == ("sanitised", 0)


def test_windows_line_endings_and_aromatic_bonds_of_the_file_make_no_difference() -> None:
    plain = from_block(block_of("Cc1ccco1"))
    for block in (block_of("Cc1ccco1").replace("\n", "\r\n"), block_of("Cc1ccco1", kekulize=False)):
        assert bonds_of(from_block(block)) == bonds_of(plain)


def test_a_charge_is_the_total_of_the_atoms() -> None:
    assert from_block(block_of("C[NH3+]")).charge == 1
    assert from_block(block_of("[O-]C(=O)C(=O)[O-]")).charge == -2


def test_a_molecule_that_rdkit_refuses_keeps_its_bonds() -> None:
    atoms = "0 0 0 C\n1.5 0 0.1 O\n-1 0 0 H\n0 1 0 H\n0 -1 0 H\n0 0 1 H"
    molecule = from_block(kekulised_block(atoms, "1 2 2\n1 3 1\n1 4 1\n1 5 1\n1 6 1"))
    assert (molecule.method, molecule.charge) == ("kekulised", 0)
    assert bonds_of(molecule) == [(0, 1, DOUBLE)] + [(0, atom, SINGLE) for atom in range(2, 6)]


def test_a_dative_bond_counts_as_single() -> None:
    from rdkit import Chem

    mol = Chem.AddHs(Chem.MolFromSmiles("[NH3]->[Pt]"))
    mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()))
    for atom, place in enumerate(np.random.default_rng(0).standard_normal((mol.GetNumAtoms(), 3)).tolist()):
        mol.GetConformer().SetAtomPosition(atom, place)
    assert set(from_block(Chem.MolToMolBlock(mol, forceV3000=True)).bond_classes.tolist()) == {SINGLE}


def test_bonds_without_orders_are_perceived() -> None:
    for smiles in ("CC(=O)OC", "c1ccccc1C#N", GLYCINE):
        block = without_orders(block_of(smiles))
        block = "\n".join(line for line in block.splitlines() if not line.startswith("M  CHG"))
        molecule = from_block(block)
        assert (molecule.method, bonds_of(molecule)) == ("perceived", drawn(smiles))


def test_a_bond_too_many_is_left_out_where_orders_are_perceived() -> None:
    # 1,3-butadiene-like chain H2C=C(H)-C(H)=O with a false bond between carbons 1 and 3, which then has five
    block = block_of("C=CC=O")
    lines = without_orders(block).splitlines()
    counts = next(place for place, line in enumerate(lines) if "V2000" in line)
    lines[counts] = f"{lines[counts][:3]}{int(lines[counts][3:6]) + 2:3}{lines[counts][6:]}"
    end = lines.index("M  END")
    lines[end:end] = ["  1  3  0  0", "  1  4  0  0"]
    molecule = from_block("\n".join(lines) + "\n")
    assert (molecule.method, bonds_of(molecule)) == ("reconnected", drawn("C=CC=O"))


def test_bonds_whose_orders_cannot_be_found_are_single() -> None:
    atoms = "0 0 0 C\n1.1 0 0.1 H\n-1 0 0 H\n0 1 0 H"  # a methyl radical
    molecule = from_block(kekulised_block(atoms, "1 2 0\n1 3 0\n4 1 0"))
    assert molecule.method == "connectivity"
    assert bonds_of(molecule) == [(0, atom, SINGLE) for atom in (1, 2, 3)]


def test_one_atom_is_a_molecule() -> None:
    molecule = from_block(kekulised_block("0 0 0 He", ""))
    assert (molecule.numbers.tolist(), molecule.bonds.shape, molecule.is_3d) == ([2], (0, 2), True)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("", "cannot read its mol block"),
        ("no\nmol\nblock\n", "cannot read its mol block"),
        (block_of("CCO").rpartition("M  END")[0], "cannot read its mol block"),
        ("\n".join(block_of("CCO").splitlines()[:7]), "cannot read its mol block"),
        (block_of("CCO").replace(" O ", " Qq", 1), "cannot read its mol block"),
        (kekulised_block("", ""), "it has no atoms"),
        (kekulised_block("0 0 0 C\n1.5 0 0 R#", "1 2 1"), r"atom 2 \(.*\) is no element"),
    ],
)
def test_a_damaged_block_is_refused_with_a_reason_and_without_noise(
    block: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    good = ("good", block_of("C"))
    first, second, third = (molecule_from_block(*record) for record in (good, ("bad", block), good))
    assert isinstance(first, Molecule)
    assert isinstance(third, Molecule)
    assert isinstance(second, Refusal)
    assert second.identifier == "bad"
    assert re.search(reason, second.reason)
    assert "\n" not in second.reason
    assert capfd.readouterr() == ("", "")


# --- places in space ----------------------------------------------------------------------------------------


def test_a_drawing_is_not_in_space_and_a_planar_molecule_is() -> None:
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    mol = Chem.AddHs(Chem.MolFromSmiles("C=CC=O"))
    rdDepictor.Compute2DCoords(mol)
    drawing = Chem.MolToMolBlock(mol)
    header = drawing.splitlines()[1]
    assert "2D" in header
    assert not from_block(drawing).is_3d
    assert not from_block(drawing.replace(header, "")).is_3d  # its C-H are as long as its C-C
    cyanogen = "0.69 0 0 C\n-0.69 0 0 C\n1.84 0 0 N\n-1.84 0 0 N"
    assert from_block(kekulised_block(cyanogen, "1 2 1\n1 3 3\n2 4 3")).is_3d
    assert from_block(block_of("C=CC=O")).is_3d


def test_atoms_in_one_place_are_not_in_space() -> None:
    everywhere = "\n".join(["0 0 0 C"] * 3)
    header = "     RDKit          3D"
    assert not from_block(kekulised_block(everywhere, "1 2 1\n2 3 1", header)).is_3d
    assert not from_block(kekulised_block(everywhere.replace("0 C", "0.5 C"), "1 2 1\n2 3 1", header)).is_3d


def test_hydrogens_that_a_block_implies_are_counted_and_not_added() -> None:
    from rdkit import Chem

    implied = Chem.MolToMolBlock(Chem.RemoveHs(mol_of("CCO")))
    assert missing_hydrogens(implied) == 6
    assert len(from_block(implied)) == 3
    assert missing_hydrogens(block_of("CCO")) == 0
    assert missing_hydrogens("nonsense") == 0


# --- geometries without bonds -------------------------------------------------------------------------------


@pytest.mark.parametrize("smiles", SMILES)
def test_a_smiles_finds_its_atoms_in_a_geometry_in_any_order(smiles: str) -> None:
    original = from_block(block_of(smiles))
    order = np.random.default_rng(3).permutation(len(original))
    molecule = molecule_from_xyz(as_xyz(original, smiles, order=order))
    assert isinstance(molecule, Molecule)
    assert molecule.method == "smiles"
    place = np.argsort(order)
    expected = {(*sorted(map(int, place[pair])), int(kind)) for *pair, kind in bonds_of(original)}
    found = set(bonds_of(molecule))
    if "[O-]" in smiles:  # which of two oxygens bears the charge is a matter of their order
        expected, found = {bond[:2] for bond in expected}, {bond[:2] for bond in found}
    assert found == expected
    assert np.abs(molecule.positions - original.positions[order]).max() <= 1e-4
    assert bonds_of(molecule) == sorted(bonds_of(molecule))


NITROMETHANE = "C[N+](=O)[O-]"


@pytest.mark.parametrize("shift", [0.0, 0.03, -0.03])
def test_the_closer_of_two_oxygens_has_the_double_bond_and_the_first_of_two_equally_close(shift: float) -> None:
    atoms = f"0 0 0 N\n1.1 0.5 0 O\n{-1.1 - shift} 0.5 0 O\n0 -1.5 0 C\n1 -1.9 0 H\n-0.5 -1.9 0.9 H\n-0.5 -1.9 -0.9 H"
    expected = [(0, 1, SINGLE), (0, 2, DOUBLE)] if shift < 0 else [(0, 1, DOUBLE), (0, 2, SINGLE)]
    hydrogens = "1 4 1\n4 5 1\n4 6 1\n4 7 1\n"
    charges = {2: "M  CHG  2   1   1   2  -1", 3: "M  CHG  2   1   1   3  -1"}
    found = []
    for bonds, negative in (("1 2 2\n1 3 1\n", 3), ("1 2 1\n1 3 2\n", 2), ("1 2 2\n1 3 2\n", 0)):
        block = kekulised_block(atoms, hydrogens + bonds)
        found.append(from_block(block.replace("M  END", f"{charges[negative]}\nM  END") if negative else block))
    of_xyz = molecule_from_xyz(as_xyz(found[0]))
    of_smiles = molecule_from_xyz(as_xyz(found[0], NITROMETHANE))
    for molecule in (*found, of_xyz, of_smiles):
        assert isinstance(molecule, Molecule)
        assert [bond for bond in bonds_of(molecule) if bond[0] == 0 and bond[1] < 3] == expected


def test_the_next_smiles_is_tried_and_then_perception() -> None:
    original = from_block(block_of("CC(=O)N"))
    tautomer, wrong = "CC(O)=N", "CCCC"
    for known, method in (((wrong, "CC(N)=O"), "smiles"), ((tautomer, "not a smiles"), "perceived"), ((), "perceived")):
        molecule = molecule_from_xyz(as_xyz(original, *known))
        assert isinstance(molecule, Molecule)
        assert (molecule.method, bonds_of(molecule)) == (method, bonds_of(original))


@pytest.mark.parametrize("smiles", SMILES)
def test_perception_finds_the_bonds_of_neutral_molecules(smiles: str) -> None:
    original = from_block(block_of(smiles))
    molecule = molecule_from_xyz(as_xyz(original))
    assert isinstance(molecule, Molecule)
    assert (molecule.method, molecule.charge) == ("perceived", 0)
    assert bonds_of(molecule) == bonds_of(original)


def test_perception_uses_the_charge_of_the_record() -> None:
    original = from_block(block_of("C[NH3+]"))
    assert isinstance(molecule_from_xyz(as_xyz(original)), Refusal)
    molecule = molecule_from_xyz(replace(as_xyz(original), charge=1))
    assert isinstance(molecule, Molecule)
    assert (molecule.charge, bonds_of(molecule)) == (1, bonds_of(original))


def test_a_geometry_without_bonds_is_refused_with_a_reason() -> None:
    radical = XYZRecord(
        "r", np.array([6, 1, 1, 1], np.uint8), np.array([[0, 0, 0], [1.1, 0, 0], [-1, 0, 0], [0, 1, 0]])
    )
    assert "finds no bonds" in refusal(molecule_from_xyz(radical)).reason
    reason = refusal(molecule_from_xyz(replace(radical, smiles=("CC",)))).reason
    assert reason.startswith("no SMILES of it (CC) fits its geometry, and ")
    empty = XYZRecord("e", np.zeros(0, np.uint8), np.zeros((0, 3)))
    assert "0 atoms" in refusal(molecule_from_xyz(empty)).reason
    many = XYZRecord("g", np.full(501, 6, np.uint8), np.zeros((501, 3)))
    assert "501 atoms" in refusal(molecule_from_xyz(many)).reason


def test_a_molecule_with_very_many_ways_to_place_charges_is_given_up() -> None:
    # polynitrated diphenylamine: RDKit alone would try combinations for hours
    smiles = "O=[N+]([O-])c1cc([N+](=O)[O-])c([N+](=O)[O-])cc1Nc1ccc([N+](=O)[O-])cc1[N+](=O)[O-]"
    original = from_block(block_of(smiles))
    outcome = molecule_from_xyz(as_xyz(original))
    assert isinstance(outcome, Refusal)
    known = molecule_from_xyz(as_xyz(original, smiles))
    assert isinstance(known, Molecule)


# --- SMILES -------------------------------------------------------------------------------------------------


def test_a_smiles_is_given_hydrogens_and_a_geometry() -> None:
    molecule = molecule_from_smiles(" CCO ", "ethanol")
    assert isinstance(molecule, Molecule)
    assert (molecule.identifier, molecule.method, molecule.is_3d) == ("ethanol", "smiles", True)
    assert bonds_of(molecule) == drawn("CCO")
    lengths = np.linalg.norm(np.diff(molecule.positions[molecule.bonds], axis=1), axis=-1).ravel()
    assert (lengths > 0.9).all()
    assert (lengths < 1.6).all()
    assert [ELEMENTS[number - 1] for number in molecule.numbers[:3]] == ["C", "C", "O"]


def test_parts_of_a_salt_do_not_lie_in_one_another() -> None:
    for smiles in ("[Na+].[Cl-]", "OO.C"):
        molecule = molecule_from_smiles(smiles)
        assert isinstance(molecule, Molecule)
        distances = np.linalg.norm(molecule.positions[:, None] - molecule.positions, axis=-1)
        assert distances[~np.eye(len(molecule), dtype=bool)].min() > 0.9


def test_the_same_seed_gives_the_same_geometry_and_another_another() -> None:
    first, again, other = (molecule_from_smiles("CCCCO", seed=seed) for seed in (3, 3, -1))
    assert isinstance(first, Molecule)
    assert isinstance(again, Molecule)
    assert isinstance(other, Molecule)
    np.testing.assert_array_equal(first.positions, again.positions)
    assert np.abs(first.positions - other.positions).max() > 0.1
    np.testing.assert_array_equal(other.positions, getattr(molecule_from_smiles("CCCCO", seed=-1), "positions", None))


def test_elements_without_mmff_parameters_and_charges_can_be_embedded() -> None:
    for smiles, charge in (("[SiH3]C", 0), ("C[NH3+]", 1), ("[Na+].[Cl-]", 0), ("[He]", 0)):
        molecule = molecule_from_smiles(smiles)
        assert isinstance(molecule, Molecule)
        assert molecule.charge == charge
        assert np.isfinite(molecule.positions).all()


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("", "not accept"),
        ("  ", "not accept"),
        ("C1CC", "not accept"),
        ("C(C)(C)(C)(C)C", "not accept"),
        ("c1cccc1", "not accept"),
        ("CC*", r"atom 3 \(\*\) is no element"),
        ("C" * 200, "602 atoms, more than the 200"),
        ("F[C@]12CC[C@@](F)(CC1)CC2", "finds no geometry"),
    ],
)
def test_what_cannot_be_embedded_is_refused_with_a_reason_and_without_noise(
    smiles: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = molecule_from_smiles(smiles, "m")
    assert isinstance(outcome, Refusal)
    assert re.search(reason, outcome.reason)
    assert (outcome.identifier, "\n" in outcome.reason) == ("m", False)
    assert capfd.readouterr() == ("", "")


# --- RDKit and the rest -------------------------------------------------------------------------------------


def test_the_log_of_rdkit_is_as_it_was_for_others(capfd: pytest.CaptureFixture[str]) -> None:
    from rdkit import Chem

    molecule_from_block("bad", "")
    assert Chem.MolFromSmiles("C1CC") is None
    assert "unclosed ring" in capfd.readouterr().err


def test_rdkit_is_imported_when_it_is_needed_and_torch_never() -> None:
    program = (
        "import sys; from se3t.data.molecules import embedding as c; before = 'rdkit' in sys.modules; "
        "c.molecule_from_smiles('C'); print(before, 'rdkit' in sys.modules, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (ran.stdout.split(), ran.stderr) == (["False", "True", "False"], "")


def test_the_version_of_rdkit_is_a_version() -> None:
    assert re.match(r"\d{4}\.\d+\.\d+", rdkit_version())


# --- real molecules -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subset(shared_dir: Path) -> dict[str, Molecule]:
    """The first molecules of a real SDF, and those up to the last of the genuine raw files."""

    def records() -> Iterator[tuple[str, str]]:
        path = shared_dir / "data" / "qm9_subset" / "qm9.zip"
        with zipfile.ZipFile(path) as archive, archive.open("gdb9.sdf") as raw:
            for place, record in enumerate(iter_sdf(io.TextIOWrapper(raw, encoding="utf-8"), "gdb9.sdf")):
                if place < 1000 or record.identifier in ("gdb_6620", "gdb_21490"):
                    yield record.identifier, record.content
                if int(record.identifier.removeprefix("gdb_")) >= 21490:
                    return

    outcomes = [molecule_from_block(*record) for record in records()]
    found = [outcome for outcome in outcomes if isinstance(outcome, Molecule)]
    return {molecule.identifier: molecule for molecule in found}


def test_real_molecules_are_in_space_neutral_and_found_by_known_methods(subset: dict[str, Molecule]) -> None:
    assert len(subset) >= 1000
    assert all(molecule.is_3d and molecule.charge == 0 for molecule in subset.values())
    assert {molecule.method for molecule in subset.values()} <= {"sanitised", "kekulised", "perceived", "reconnected"}


def test_genuine_raw_files_agree_with_the_sdf(shared_dir: Path, subset: dict[str, Molecule]) -> None:
    path = shared_dir / "data" / "qm9_subset" / "dsgdb9nsd_10.xyz.tar.bz2"
    with tarfile.open(path) as archive:
        texts = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        records = [parse_qm9_xyz(file.read().decode(), name) for name, file in texts.items() if file is not None]
    assert len(records) == 10
    compared = 0
    for molecule in map(molecule_from_xyz, records):
        assert isinstance(molecule, Molecule)
        assert molecule.method == "smiles"
        if molecule.identifier in subset:
            compared += 1
            assert bonds_of(molecule) == bonds_of(subset[molecule.identifier])
            assert np.abs(molecule.positions - subset[molecule.identifier].positions).max() <= 1e-4
    assert compared >= 8
