"""What cannot be a geometry in angstrom, or not one of a closed shell, is refused by the same words in every format."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from se3t.data.molecules.embedding import molecule_from_smiles
from se3t.data.molecules.inputs import Entry, read_molecules
from se3t.data.molecules.molecule import ELEMENTS, Molecule

BOHR = 0.529177
COMMON = (
    *("C", "N", "O", "CCO", "c1ccccc1", "CC(=O)N", "C#C", "C#N", "OO", "FF", "FOOF", "II", "CSSC", "P", "CI", "BrBr"),
    *("ClCl", "[Li]F", "[Li][H]", "[H][H]", "Cl", "Br", "I", "S", "B", "FB(F)F", "[SiH3][SiH3]", "C[Si](C)(C)C"),
    *("ClC(Cl)(Cl)Cl", "CS(C)=O", "C12C3C4C1C5C2C3C45", "C1CC1", "CC(C)(C)C(C(C)(C)C)C(C)(C)C", "OP(O)(O)=O"),
)


def molecule(smiles: str) -> Molecule:
    found = molecule_from_smiles(smiles, smiles)
    assert isinstance(found, Molecule)
    return found


def sdf(found: Molecule, positions: np.ndarray, header: str = "3D", extra: str = "") -> str:
    lines = ["name", f"{'':20}{header}", "", f"{len(found):3}{len(found.bonds):3}  0  0  0  0  0  0  0  0999 V2000"]
    for number, (x, y, z) in zip(found.numbers.tolist(), positions.tolist(), strict=True):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {ELEMENTS[number - 1]:<3} 0  0")
    for (first, second), kind in zip(found.bonds.tolist(), found.bond_classes.tolist(), strict=True):
        lines.append(f"{first + 1:3}{second + 1:3}{kind + 1:3}  0")
    return "\n".join([*lines, *([extra] if extra else []), "M  END", "$$$$", ""])


def xyz(found: Molecule, positions: np.ndarray) -> str:
    rows = zip(found.numbers.tolist(), positions.tolist(), strict=True)
    lines = [f"{ELEMENTS[number - 1]} {x:.4f} {y:.4f} {z:.4f}" for number, (x, y, z) in rows]
    return "\n".join([str(len(found)), "name", *lines, ""])


def read(folder: Path, name: str, text: str) -> Entry:
    (folder / name).write_text(text)
    (entry,) = read_molecules([folder / name])
    return entry


def both(folder: Path, found: Molecule, positions: np.ndarray) -> list[Entry]:
    return [read(folder, "a.sdf", sdf(found, positions)), read(folder, "a.xyz", xyz(found, positions))]


@pytest.mark.parametrize("smiles", COMMON)
def test_usual_chemistry_passes_without_a_note(tmp_path: Path, smiles: str) -> None:
    found = molecule(smiles)
    of_sdf, of_xyz = both(tmp_path, found, found.positions)
    for entry in (of_sdf,) if 3 in found.numbers else (of_sdf, of_xyz):  # RDKit perceives no bonds of lithium
        assert (entry.problem, entry.notes) == ("", ())
        assert entry.molecule is not None
        np.testing.assert_array_equal(entry.molecule.bond_classes, found.bond_classes)


@pytest.mark.parametrize("factor", [BOHR, 0.6, 0.8, 1.35, 1.5, 1 / BOHR, 10.0, 0.1])
@pytest.mark.parametrize("smiles", ["CCO", "C", "CC(=O)N", "CS(C)=O"])
def test_another_unit_of_length_is_refused_by_the_same_words(tmp_path: Path, smiles: str, factor: float) -> None:
    found = molecule(smiles)
    of_sdf, of_xyz = both(tmp_path, found, found.positions * factor)
    assert of_sdf.problem.endswith("for a bond: not a geometry in angstrom")
    if not 0.6 < factor < 1.5:  # else it is the bonds that tell, and who has none cannot find them
        assert of_xyz.problem == of_sdf.problem
    assert of_xyz.molecule is None


@pytest.mark.parametrize("factor", [BOHR, 1 / BOHR])
def test_a_planar_molecule_in_another_unit_is_refused(tmp_path: Path, factor: float) -> None:
    for smiles in ("O", "c1ccccc1", "O=C=O"):
        assert all(entry.problem for entry in both(tmp_path, molecule(smiles), molecule(smiles).positions * factor))


@pytest.mark.parametrize("factor", [0.9, 1.15])
def test_a_geometry_that_is_a_little_off_is_noted(tmp_path: Path, factor: float) -> None:
    found = molecule("CCO")
    for entry in both(tmp_path, found, found.positions * factor):
        assert re.fullmatch(r"bonds to hydrogen: \d+% (longer|shorter) than usual", entry.notes[0])


@pytest.mark.parametrize("place", [(-12345.678, 12345.6789, 0.0), (0.0, 0.0, 6.0)])
def test_an_atom_far_from_all_others_is_named(tmp_path: Path, place: tuple[float, float, float]) -> None:
    found = molecule("CCO")
    positions = found.positions.astype(float)
    positions[-1] = place
    problems = {entry.problem for entry in both(tmp_path, found, positions)}
    assert len(problems) == 1
    assert " and 9 (H) are " in problems.pop()


def test_parts_that_are_far_from_each_other_are_not_one_molecule(tmp_path: Path) -> None:
    found = molecule("O.O")
    positions = found.positions + np.where(np.isin(np.arange(6), [1, 4, 5])[:, None], 50.0, 0.0)
    for entry in both(tmp_path, found, positions):
        assert "angstrom apart: not one molecule" in entry.problem


@pytest.mark.parametrize("word", ["nan", "inf", "1.0E+400", "*****", "1e400"])
def test_a_coordinate_that_is_no_number_is_named(tmp_path: Path, word: str) -> None:
    water = molecule("O")
    block = sdf(water, water.positions)
    first = block.splitlines()[4]
    entry = read(tmp_path, "a.sdf", block.replace(first, f"{word:>10}{first[10:]}"))
    assert entry.problem == f"RDKit cannot read its mol block (atom 1 has the coordinate {word!r}, expected a number)"


# --- drawings -----------------------------------------------------------------------------------------------

PLANAR = ("c1ccccc1", "O", "O=C=O", "FB(F)F", "C=C", "C#N", "O=Cc1ccco1", "ClC#CCl", "[H][H]", "N#CC#N")


def flat(found: Molecule) -> np.ndarray:
    """A planar molecule turned into the plane z = 0."""
    centred = found.positions.astype(float) - found.positions.mean(axis=0)
    turned = centred @ np.linalg.svd(centred)[2].T
    assert np.abs(turned[:, 2]).max() < 0.1
    return turned * [1, 1, 0]


def picture(smiles: str, scale: float, hydrogens: bool) -> str:
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    mol = Chem.MolFromSmiles(smiles)
    mol = Chem.AddHs(mol) if hydrogens else mol
    rdDepictor.Compute2DCoords(mol)
    mol.GetConformer().SetPositions(mol.GetConformer().GetPositions() * scale)
    return str(Chem.MolToMolBlock(mol)).replace("          2D", "          3D") + "$$$$\n"


@pytest.mark.parametrize("header", ["3D", ""])
@pytest.mark.parametrize("smiles", PLANAR)
def test_a_planar_molecule_in_the_plane_of_the_paper_is_a_geometry(tmp_path: Path, smiles: str, header: str) -> None:
    found = molecule(smiles)
    assert read(tmp_path, "a.sdf", sdf(found, flat(found), header)).problem == ""
    assert read(tmp_path, "a.xyz", xyz(found, flat(found))).problem == ""


@pytest.mark.parametrize("scale", [0.55, 2 / 3, 1.0, 20.0])  # bonds of 0.825, 1, 1.5, and 30
@pytest.mark.parametrize("smiles", ["CCO", "c1ccccc1", "C", "CC(=O)N", "FB(F)F", "O=C=O", "C#N", "C=C"])
def test_a_drawing_whose_header_says_3d_is_a_drawing(tmp_path: Path, smiles: str, scale: float) -> None:
    assert read(tmp_path, "a.sdf", picture(smiles, scale, hydrogens=True)).molecule is None


@pytest.mark.parametrize("smiles", ["FC(F)(F)F", "ClC(Cl)=C(Cl)Cl", "O=C(Cl)Cl", "FC#CF", "FB(F)F", "FC1=C(F)C(F)=C1F"])
def test_a_drawing_without_hydrogens_to_miss_is_a_drawing(tmp_path: Path, smiles: str) -> None:
    entry = read(tmp_path, "a.sdf", picture(smiles, 1.0, hydrogens=False))
    assert entry.problem == "no 3-D coordinates (a drawing, or all atoms at one place)"


# --- open shells --------------------------------------------------------------------------------------------

OPEN = {
    "methyl": ("[CH3]", "C 0 0 0\nH 1.08 0 0\nH -0.54 0.935 0\nH -0.54 -0.935 0"),
    "methylene": ("[CH2]", "C 0 0 0\nH 0.86 0.6 0\nH -0.86 0.6 0"),
    "nitric oxide": ("[N]=O", "N 0 0 0\nO 0 0 1.15"),
    "nitrogen dioxide": ("[O]N=O", "O 1.1 0.46 0\nN 0 0 0\nO -1.1 0.46 0"),
    "hydroxyl": ("[OH]", "O 0 0 0\nH 0 0 0.97"),
    "hydrogen atom": ("[H]", "H 0 0 0"),
    "carbon atom": ("[C]", "C 0 0 0"),
    "oxygen": ("O=O", "O 0 0 0\nO 0 0 1.21"),
    "triplet oxygen": ("[O][O]", "O 0 0 0\nO 0 0 1.21"),
    "iron": ("[Fe]", "Fe 0 0 0"),
}


@pytest.mark.parametrize("name", OPEN)
def test_open_shells_are_refused_in_every_format(tmp_path: Path, name: str) -> None:
    from rdkit import Chem

    smiles, atoms = OPEN[name]
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    places = [list(map(float, line.split()[1:])) for line in atoms.splitlines()]
    mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()))
    mol.GetConformer().SetPositions(np.array(places))
    mol.GetConformer().Set3D(True)
    texts = {
        "a.smi": smiles,
        "a.xyz": f"{len(places)}\n\n{atoms}\n",
        "a.sdf": Chem.MolToMolBlock(mol) + "$$$$\n",
        "b.sdf": Chem.MolToMolBlock(mol, forceV3000=True) + "$$$$\n",
    }
    for file, text in texts.items():
        entry = read(tmp_path, file, text)
        assert entry.molecule is None
        assert "predictions are for molecules without unpaired electrons" in entry.problem, file


@pytest.mark.parametrize("smiles", ["[He]", "[C-]#[O+]", "O=[O+][O-]", "[H][H]", "C[N+](=O)[O-]"])
def test_closed_shells_of_few_atoms_are_accepted(tmp_path: Path, smiles: str) -> None:
    assert read(tmp_path, "a.smi", smiles).problem == ""


def test_a_multiplicity_in_the_comment_counts(tmp_path: Path) -> None:
    water = molecule("O")
    entry = read(tmp_path, "a.xyz", xyz(water, water.positions).replace("name", "multiplicity=3"))
    assert entry.problem.startswith("multiplicity 3: ")


# --- what is noted ------------------------------------------------------------------------------------------


def test_isotopes_are_read_as_their_element_in_every_format_and_noted(tmp_path: Path) -> None:
    water = molecule("O")
    texts = {
        "a.sdf": sdf(water, water.positions).replace(" H   0  0", " D   0  0"),
        "b.sdf": sdf(water, water.positions, extra="M  ISO  2   2   2   3   2"),
        "a.xyz": xyz(water, water.positions).replace("H ", "D "),
        "a.smi": "[2H]O[2H]",
    }
    for name, text in texts.items():
        entry = read(tmp_path, name, text)
        assert entry.notes == ("isotopes: 2H, whose masses are no input of the model",), name
        assert entry.molecule is not None
        assert sorted(entry.molecule.numbers.tolist()) == [1, 1, 8]


@pytest.mark.parametrize(
    ("smiles", "note"),
    [
        ("OCC(O)C=O", "stereo not specified: atom 3 (C); one isomer was chosen"),
        ("FC=CF", "stereo not specified: double bond 2 (C)=3 (C); one isomer was chosen"),
        ("CC1CCC(C)CC1", "stereo not specified: atom 2 (C), atom 5 (C); one isomer was chosen"),
        ("OC[C@H](O)C=O", ""),
        ("F/C=C/F", ""),
        ("C1C2CC12", ""),
        ("C1CN2CCC1CC2", ""),
        ("CCO |$;;OH$|", ""),
    ],
)
def test_a_smiles_that_leaves_the_stereoisomer_open_is_noted(tmp_path: Path, smiles: str, note: str) -> None:
    entry = read(tmp_path, "a.smi", smiles)
    assert entry.problem == ""
    assert entry.notes == ((note,) if note else ())


@pytest.mark.parametrize(
    ("smiles", "problem"),
    [
        ("CC |^1:0|", "a radical (1 unpaired electron)"),
        ("CC* |m:2:0.1|", "stands for more than one molecule"),
        ("CC |nonsense:|", "RDKit does not accept this SMILES"),
    ],
)
def test_the_extension_of_a_smiles_counts(tmp_path: Path, smiles: str, problem: str) -> None:
    assert problem in read(tmp_path, "a.smi", smiles).problem


def test_parts_of_a_smiles_lie_side_by_side(tmp_path: Path) -> None:
    for smiles in ("C.O", "C.C.C", "c1ccccc1.c1ccccc1", "[Na+].[Cl-]"):
        entry = read(tmp_path, "a.smi", smiles)
        assert entry.problem == ""
        assert "separate parts: " in entry.notes[0]


def test_a_smiles_has_the_bonds_of_its_molecule_after_its_geometry_was_made() -> None:
    uracil = molecule("O=c1cc[nH]c(=O)[nH]1")  # not aromatic to the force field
    assert np.bincount(uracil.bond_classes, minlength=4).tolist() == [4, 2, 0, 6]


@pytest.mark.parametrize("shift", [1e3, 1e4, -5e3])
def test_a_shift_of_the_whole_molecule_changes_distances_by_rounding_alone(tmp_path: Path, shift: float) -> None:
    ethanol = molecule("CCO")
    here = both(tmp_path, ethanol, ethanol.positions)
    there = both(tmp_path, ethanol, ethanol.positions.astype(float) + np.array([0.0, shift, shift / 2]))
    for one, other in zip(here, there, strict=True):
        assert one.molecule is not None
        assert other.molecule is not None
        difference = np.diff(one.molecule.positions, axis=0) - np.diff(other.molecule.positions, axis=0)
        assert np.abs(difference).max() < 2e-4  # four decimals, of which the sum rounds the last


def test_positions_near_the_origin_stay_as_they_are(tmp_path: Path) -> None:
    ethanol = molecule("CCO")
    (entry, _) = both(tmp_path, ethanol, ethanol.positions + 3)
    assert entry.molecule is not None
    np.testing.assert_allclose(entry.molecule.positions, ethanol.positions + 3, atol=1e-4)
