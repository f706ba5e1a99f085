"""A molecule has one structure, whichever resonance form its file tells, in whatever format and order of atoms."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from se3t.data.molecules.embedding import molecule_from_smiles
from se3t.data.molecules.inputs import entries_of, read_molecules
from se3t.data.molecules.molecule import BOND_CLASSES, Molecule, pack
from se3t.data.molecules.readers import Record

GROUPS: dict[str, tuple[str, ...]] = {
    "sulfoxide": ("CS(C)=O", "C[S+](C)[O-]"),
    "sulfone": ("CS(C)(=O)=O", "C[S+2](C)([O-])[O-]", "C[S+](C)(=O)[O-]"),
    "sulfur dioxide": ("O=S=O", "[O-][S+]=O"),
    "sulfur trioxide": ("O=S(=O)=O",),
    "carbon disulfide": ("S=C=S", "[S-]C#[S+]"),
    "thionyl chloride": ("O=S(Cl)Cl", "[O-][S+](Cl)Cl"),
    "sulfonamide": ("CS(=O)(=O)N", "C[S+2]([O-])([O-])N"),
    "sulfinic acid": ("CS(=O)O", "C[S+]([O-])O"),
    "thiophene oxide": ("O=S1C=CC=C1",),
    "nitro": ("C[N+](=O)[O-]", "CN(=O)=O", "C[N+]([O-])=O"),
    "nitrobenzene": ("O=[N+]([O-])c1ccccc1", "O=N(=O)c1ccccc1"),
    "nitrate": ("CO[N+](=O)[O-]", "CON(=O)=O"),
    "azide": ("CN=[N+]=[N-]", "C[N-][N+]#N", "CN=N#N"),
    "sulfonyl azide": ("CS(=O)(=O)N=[N+]=[N-]",),
    "hydrazoic acid": ("N=[N+]=[N-]", "[NH-][N+]#N"),
    "diazo": ("C=[N+]=[N-]", "[CH2-][N+]#N", "C=N#N"),
    "diazoketone": ("CC(=O)C=[N+]=[N-]", "CC([O-])=C[N+]#N"),
    "dinitrogen oxide": ("[N-]=[N+]=O", "N#[N+][O-]"),
    "amine oxide": ("C[N+](C)(C)[O-]", "CN(C)(C)=O"),
    "pyridine oxide": ("[O-][n+]1ccccc1", "O=n1ccccc1"),
    "nitrone": ("C=[N+](C)[O-]", "C=N(C)=O"),
    "nitrile oxide": ("CC#[N+][O-]", "CC#N=O"),
    "isocyanide": ("C[N+]#[C-]",),
    "ozone": ("O=[O+][O-]",),
    "carbon monoxide": ("[C-]#[O+]",),
    "phosphine oxide": ("CP(C)(C)=O", "C[P+](C)(C)[O-]"),
    "phosphoric acid": ("OP(=O)(O)O", "O[P+]([O-])(O)O"),
    "phosphine sulfide": ("CP(C)(C)=S", "C[P+](C)(C)[S-]"),
    "phosphorus ylide": ("C=P(C)(C)C", "[CH2-][P+](C)(C)C"),
    "sulfur ylide": ("C=S(C)C", "[CH2-][S+](C)C"),
    "selenoxide": ("C[Se](C)=O", "C[Se+](C)[O-]"),
    "glycine": ("[NH3+]CC(=O)[O-]", "[NH3+]CC([O-])=O"),
    "amidinium": ("NC(=[NH2+])CC(=O)[O-]", "[NH2+]=C(N)CC([O-])=O"),
    "furoxan": ("Cc1no[n+]([O-])c1C",),
    "isothiocyanate": ("CN=C=S",),
    "carbodiimide": ("CN=C=NC",),
    "borane": ("[BH3-][NH3+]",),
    "azulene": ("c1ccc2cccc2cc1",),
    "uracil": ("O=c1cc[nH]c(=O)[nH]1",),
    "cyclooctatetraene": ("C1=CC=CC=CC=C1",),
}


@cache
def mol_of(smiles: str) -> Any:
    """An RDKit molecule with a geometry of four decimals; charges and bonds as drawn, where RDKit leaves them."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    if rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.UFFOptimizeMolecule(mol)
    mol.GetConformer().SetPositions(mol.GetConformer().GetPositions().round(4))
    return mol


def drawn(smiles: str, positions: np.ndarray, order: list[int]) -> str:
    """The mol block of a SMILES as it stands, at the given places, its atoms in another order."""
    from rdkit import Chem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(positions)
    mol.AddConformer(conformer)
    return str(Chem.MolToMolBlock(Chem.RenumberAtoms(mol, order), kekulize=True))


def frame(mol: Any, order: list[int]) -> str:
    rows = [
        f"{mol.GetAtomWithIdx(atom).GetSymbol()} {x:.4f} {y:.4f} {z:.4f}"
        for atom in order
        for x, y, z in [mol.GetConformer().GetPositions()[atom].tolist()]
    ]
    return "\n".join([str(len(rows)), "", *rows]) + "\n"


def read(path: Path, text: str) -> Molecule:
    path.write_text(text)
    (entry,) = read_molecules([path])
    assert entry.molecule is not None, entry.problem
    return entry.molecule


def same(one: Molecule, other: Molecule) -> bool:
    first, second = pack([one]), pack([other])
    return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_the_same_from_every_form_and_format(group: str, tmp_path: Path) -> None:
    mol = mol_of(GROUPS[group][0])
    positions = mol.GetConformer().GetPositions()
    order = list(range(mol.GetNumAtoms()))
    of_xyz = read(tmp_path / "a.xyz", frame(mol, order))
    for form in GROUPS[group]:
        assert same(read(tmp_path / "a.sdf", drawn(form, positions, order) + "$$$$\n"), of_xyz), form
        of_smiles = molecule_from_smiles(form)
        assert isinstance(of_smiles, Molecule)
        np.testing.assert_array_equal(of_smiles.bonds, of_xyz.bonds)
        assert sorted(of_smiles.bond_classes) == sorted(of_xyz.bond_classes), form


@pytest.mark.parametrize("group", GROUPS)
def test_the_order_of_atoms_makes_no_difference(group: str, tmp_path: Path) -> None:
    mol = mol_of(GROUPS[group][0])
    positions = mol.GetConformer().GetPositions()
    positions += np.random.default_rng(0).normal(scale=0.01, size=positions.shape)  # no two bonds are of one length
    mol = type(mol)(mol)
    mol.GetConformer().SetPositions(positions.round(4))
    expected = classes(read(tmp_path / "a.xyz", frame(mol, list(range(len(positions))))))
    for seed in (1, 2, 3):
        order = np.random.default_rng(seed).permutation(len(positions)).tolist()
        block = drawn(GROUPS[group][-1], positions.round(4), order)
        for name, text in (("a.xyz", frame(mol, order)), ("a.sdf", block + "$$$$\n")):
            found = classes(read(tmp_path / name, text))
            assert {tuple(sorted((order[a], order[b]))): kind for (a, b), kind in found.items()} == expected


def classes(molecule: Molecule) -> dict[tuple[int, int], str]:
    return {
        (first, second): BOND_CLASSES[kind]
        for (first, second), kind in zip(molecule.bonds.tolist(), molecule.bond_classes.tolist(), strict=True)
    }


@pytest.mark.parametrize(
    ("smiles", "orders"),
    [
        ("C[S+](C)[O-]", "single single double"),
        ("[S-]C#[S+]", "double double"),
        ("C[N-][N+]#N", "single double double"),
        ("CC([O-])=C[N+]#N", "single double single double double"),
        ("C[N+](=O)[O-]", "single double single"),
    ],
)
def test_the_form_is_the_one_that_chemists_draw(smiles: str, orders: str) -> None:
    (entry,) = entries_of([Record("", "smiles", smiles)])
    assert entry.molecule is not None
    numbers = entry.molecule.numbers
    heavy = [kind for pair, kind in classes(entry.molecule).items() if 1 not in numbers[list(pair)]]
    assert " ".join(heavy) == orders
