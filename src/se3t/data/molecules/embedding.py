"""Molecules of SMILES with 3-D coordinates made by RDKit, which is imported within functions."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from se3t.data.molecules.conversion import complaint, molecule_of, normal_form, problem_of_atoms, silence
from se3t.data.molecules.molecule import Molecule, Refusal

if TYPE_CHECKING:
    from rdkit import Chem

_MAX_ATOMS_EMBEDDED = 200  # about a second
_FEW_CENTRES = 4  # of rings, whose isomers are tried
_ISOMER_TRIES = 3
_BETWEEN_PARTS = 3.0  # angstrom, before the force field
_EMBEDDING_TRIES = 20
_FORCE_FIELD_STEPS = 500
_NO_MOLECULE = re.compile(r"(?:^|,)\s*(?:m|Sg|LN):")  # of CXSMILES: variable bonds, polymers, link nodes


@silence()
def molecule_from_smiles(smiles: str, identifier: str = "", seed: int = 0) -> Molecule | Refusal:
    """A molecule of a SMILES with a generated geometry: one conformer, hydrogens added.

    ETKDGv3 places the atoms, MMFF94 relaxes them (UFF where it lacks parameters). The same seed and RDKit give the same
    geometry.

    Args:
        smiles: the molecule.
        identifier: its name.
        seed: of the embedding.
    """
    from rdkit import Chem

    text, _, extension = smiles.strip().partition(" ")
    if _NO_MOLECULE.search(extension.strip("|")):
        return Refusal(identifier, f"its extension {extension[:40]} stands for more than one molecule")
    template = Chem.MolFromSmiles(smiles.strip()) if text else None
    if template is None:
        return Refusal(identifier, "RDKit does not accept this SMILES" + complaint(Chem.MolFromSmiles, smiles))
    mol = Chem.AddHs(template)
    notes = _unspecified(mol)
    if problem := problem_of_atoms(mol) or _embedded(mol, seed):
        return Refusal(identifier, problem)
    return molecule_of(normal_form(mol), identifier, "smiles", notes=notes)


def _embedded(mol: Chem.Mol, seed: int) -> str:
    """Add a conformer to the molecule; returns why that failed, or ""."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    if mol.GetNumAtoms() > _MAX_ATOMS_EMBEDDED:
        return f"it has {mol.GetNumAtoms()} atoms, more than the {_MAX_ATOMS_EMBEDDED} that are embedded"
    parameters: Any = rdDistGeom.ETKDGv3()  # its stubs type every attribute as parameters
    parameters.randomSeed = seed % 2**31  # a negative seed would be random
    parameters.maxIterations = _EMBEDDING_TRIES
    if rdDistGeom.EmbedMolecule(mol, parameters) < 0:
        parameters.useRandomCoords = True
        if rdDistGeom.EmbedMolecule(mol, parameters) < 0:
            return "RDKit finds no geometry for it"
    _side_by_side(mol)
    copy = Chem.Mol(mol)  # MMFF changes the aromaticity
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(copy):
        rdForceFieldHelpers.MMFFOptimizeMolecule(copy, maxIters=_FORCE_FIELD_STEPS, ignoreInterfragInteractions=False)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(copy):
        rdForceFieldHelpers.UFFOptimizeMolecule(copy, maxIters=_FORCE_FIELD_STEPS, ignoreInterfragInteractions=False)
    mol.GetConformer().SetPositions(copy.GetConformer().GetPositions())
    return ""


def _side_by_side(mol: Chem.Mol) -> None:
    """Place the parts of a salt or complex side by side; they were embedded at the same place."""
    from rdkit import Chem

    positions, end = mol.GetConformer().GetPositions(), None
    for part in map(list, Chem.GetMolFrags(mol)):
        if end is not None:
            positions[part, 0] += end + _BETWEEN_PARTS - positions[part, 0].min()
        end = positions[part, 0].max()
    mol.GetConformer().SetPositions(positions)


def _unspecified(mol: Chem.Mol) -> tuple[str, ...]:
    """A note if a SMILES does not specify its stereoisomer."""
    from rdkit import Chem

    places, ring_atoms_alone = [], True
    for item in Chem.FindPotentialStereo(mol):
        if item.specified != Chem.StereoSpecified.Unspecified:
            continue
        if item.type == Chem.StereoType.Atom_Tetrahedral:
            atom = mol.GetAtomWithIdx(item.centeredOn)
            places.append(f"atom {_called(atom)}")
            ring_atoms_alone &= atom.IsInRing()
        elif item.type == Chem.StereoType.Bond_Double:
            bond = mol.GetBondWithIdx(item.centeredOn)
            places.append(f"double bond {_called(bond.GetBeginAtom())}={_called(bond.GetEndAtom())}")
            ring_atoms_alone = False
    few = ring_atoms_alone and len(places) <= _FEW_CENTRES
    if not places or (few and not _has_isomers(mol)):
        return ()
    return (f"stereo not specified: {', '.join(places)}; one isomer was chosen",)


def _has_isomers(mol: Chem.Mol) -> bool:
    """Whether unspecified centres of rings have several isomers: those of bicyclobutane and many cages do not."""
    from rdkit.Chem import EnumerateStereoisomers as stereo
    from rdkit.Chem import rdDistGeom

    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed, parameters.maxIterations = 0, _ISOMER_TRIES
    isomers = stereo.EnumerateStereoisomers(mol, options=stereo.StereoEnumerationOptions(unique=True))
    possible = (isomer for isomer in isomers if rdDistGeom.EmbedMolecule(isomer, parameters) >= 0)
    return len(list(islice(possible, 2))) > 1


def _called(atom: Chem.Atom) -> str:
    return f"{atom.GetIdx() + 1} ({atom.GetSymbol()})"
