"""Bonds of molecules in files with a geometry, by RDKit, which is imported when a function needs it.

``Molecule.method`` says how the bonds were found:

- ``sanitised``: bonds of the file; RDKit accepts the molecule and perceives its aromatic bonds;
- ``kekulised``: bonds of the file unchanged, because RDKit refuses the molecule (a valence, a charge);
- ``perceived``: the bonds have no orders, or (XYZ) there are none; RDKit finds orders that satisfy every valence at the
  total charge, then aromatic bonds;
- ``reconnected``: the bonds have no orders, and none satisfy the valences (most often there is one bond too many); they
  were replaced by the pairs of atoms that are close, and those perceived;
- ``connectivity``: the bonds have no orders and both attempts failed: single bonds as in the file;
- ``smiles``: bonds of a SMILES, matched to the geometry (XYZ) or embedded in space.

Molecules whose valences RDKit accepts get one normal form of charges and orders, whichever form the file has
(:mod:`se3t.data.molecules.normal_form`).

Bonds are single, double, triple or aromatic (``BOND_CLASSES``). Any other of RDKit's becomes the class of the nearest
order by ``GetBondTypeAsDouble``: dative, ionic, hydrogen and zero-order bonds are single, quadruple ones triple.

Close atoms are found by covalent radii (:mod:`se3t.data.molecules.closeness`). Where a SMILES gives the number of
bonds, that many pairs are taken, the relatively closest first, without a threshold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from se3t.data.molecules.closeness import (
    CLOSE,
    NOBLE_GASES,
    Outline,
    best_fit,
    looks_drawn,
    outline,
    pairs_by_closeness,
)
from se3t.data.molecules.conversion import (
    bonds_of,
    complaint,
    molecule_of,
    normal_form,
    numbers_of,
    problem_of_atoms,
    sanitise,
    silence,
)
from se3t.data.molecules.molecule import Molecule, Refusal
from se3t.data.molecules.xyz import XYZRecord

if TYPE_CHECKING:
    from rdkit import Chem

_MAX_PERCEPTION_STEPS = 50_000  # about a quarter of a second
_ORDERS_TRIED = 6
_MAX_MATCHES = 64  # matches of a SMILES to a geometry that are compared
_MAX_ATOMS_WITHOUT_BONDS = 500  # all pairs of atoms are compared
_PARTS = (("numbers", "num_atoms"), ("bonds", "num_bonds"))


@silence()
def molecule_from_block(identifier: str, block: str) -> Molecule | Refusal:
    """The molecule of a mol block (V2000 or V3000).

    Hydrogens that a block implies are not added; :func:`missing_hydrogens` counts them.

    Args:
        identifier: name of the molecule.
        block: the mol block.
    """
    mol = _read_block(block)
    if mol is None:
        return Refusal(
            identifier, "RDKit cannot read its mol block" + (_no_number(block) or complaint(_read_block, block))
        )
    if problem := problem_of_atoms(mol):
        return Refusal(identifier, problem)
    is_3d = _is_3d(mol, block)
    if _lacks_orders(mol):
        mol, method = _with_orders(mol)
    elif sanitise(mol):
        method = "sanitised"
    else:
        again = _read_block(block)  # RDKit may leave a refused molecule partly changed
        mol, method = mol if again is None else again, "kekulised"
    return molecule_of(mol if method in ("kekulised", "connectivity") else normal_form(mol), identifier, method, is_3d)


@silence()
def molecule_from_xyz(record: XYZRecord) -> Molecule | Refusal:
    """The molecule of atoms without bonds: by the SMILES of the record, else by perception at the charge of the record.

    Args:
        record: the frame.
    """
    numbers = record.numbers.tolist()
    if not 0 < len(numbers) <= _MAX_ATOMS_WITHOUT_BONDS:
        return Refusal(
            record.identifier, f"{len(numbers)} atoms without bonds, more than {_MAX_ATOMS_WITHOUT_BONDS} or none"
        )
    for smiles in record.smiles:
        matched = _matched(smiles, record)
        if matched is not None:
            return matched
    perceived = _perceived_by_distance(numbers, record.positions, record.charge)
    if perceived is not None:
        return _of_frame(perceived, record, "perceived")
    no_match = f"no SMILES of it ({', '.join(record.smiles)}) fits its geometry, and " if record.smiles else ""
    return Refusal(
        record.identifier, f"{no_match}RDKit finds no bonds that satisfy its valences at charge {record.charge}"
    )


@silence()
def missing_hydrogens(block: str) -> int:
    """Number of hydrogen atoms that a mol block implies without listing them; 0 where RDKit refuses it."""
    mol = _read_block(block)
    if mol is None or _lacks_orders(mol) or not sanitise(mol):
        return 0
    return sum(atom.GetTotalNumHs() for atom in mol.GetAtoms())


@silence()
def constitutions(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """A key of atoms and connections, independent of the order of atoms, bond orders and stereo.

    Args:
        arrays: those of :func:`se3t.data.molecules.molecule.pack`.

    Returns:
        ``[molecule]`` canonical SMILES with single bonds alone.
    """
    from rdkit import Chem

    atoms, bonds = (np.split(arrays[name], np.cumsum(arrays[count])[:-1]) for name, count in _PARTS)
    mols = [_skeleton(a.tolist(), [*map(tuple, b.tolist())]) for a, b in zip(atoms, bonds, strict=True)]
    return [Chem.MolToSmiles(mol) for mol in mols]


# --- mol blocks ---------------------------------------------------------------------------------------------


def _no_number(block: str) -> str:
    """The first coordinate of a V2000 block that is no number, as a clause, or ""."""
    lines = block.splitlines()
    if len(lines) < 4 or not lines[3][:3].strip().isdecimal():
        return ""
    for number, line in enumerate(lines[4 : 4 + int(lines[3][:3])], start=1):
        for word in (line[:10].strip(), line[10:20].strip(), line[20:30].strip()):
            if not re.fullmatch(r"[+-]?[0-9]*\.?[0-9]*", word):
                return f" (atom {number} has the coordinate {word!r}, expected a number)"
    return ""


def _read_block(block: str) -> Chem.Mol | None:
    from rdkit import Chem

    return Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)


def _lacks_orders(mol: Chem.Mol) -> bool:
    from rdkit import Chem

    unknown = (Chem.BondType.UNSPECIFIED, Chem.BondType.ZERO)
    return any(bond.GetBondType() in unknown or bond.HasQuery() for bond in mol.GetBonds())


def _with_orders(mol: Chem.Mol) -> tuple[Chem.Mol, str]:
    from rdkit import Chem

    numbers, pairs = numbers_of(mol), [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    charge = Chem.GetFormalCharge(mol)
    perceived, method = _perceived(numbers, pairs, charge), "perceived"
    if perceived is None and mol.GetConformer().Is3D():
        perceived, method = _perceived_by_distance(numbers, mol.GetConformer().GetPositions(), charge), "reconnected"
    if perceived is None:
        perceived, method = _skeleton(numbers, pairs), "connectivity"
    perceived.AddConformer(mol.GetConformer(), assignId=True)
    return perceived, method


def _is_3d(mol: Chem.Mol, block: str) -> bool:
    """Whether the atoms have 3-D coordinates.

    RDKit trusts the header of the block, or a z that is not zero. Where all z are zero, a header that says 3D does not
    suffice: bond lengths distinguish a planar molecule from a drawing, unless the header says 2D.
    """
    positions = mol.GetConformer().GetPositions()
    if len(positions) > 1 and np.ptp(positions, axis=0).max() == 0:
        return False
    if len(positions) == 1 or not mol.GetNumBonds() or np.ptp(positions[:, 2]) > 0:
        return len(positions) == 1 or bool(mol.GetConformer().Is3D())
    header = [*block.splitlines(), "", ""][1]
    return header[20:22].upper() != "2D" and not _looks_drawn(mol, positions)


def _looks_drawn(mol: Chem.Mol, positions: np.ndarray) -> bool:
    return looks_drawn(np.array(numbers_of(mol)), positions, bonds_of(mol))


# --- geometries without bonds -------------------------------------------------------------------------------


def _of_frame(mol: Chem.RWMol, record: XYZRecord, method: str) -> Molecule | Refusal:
    _set_positions(mol, record.positions)
    is_3d = not _looks_drawn(mol, record.positions)
    return molecule_of(normal_form(mol), record.identifier, method, is_3d, isotopes=record.isotopes)


def _set_positions(mol: Chem.RWMol, positions: np.ndarray) -> None:
    from rdkit import Chem

    conformer = Chem.Conformer(len(positions))
    conformer.SetPositions(np.ascontiguousarray(positions, dtype=np.float64))
    mol.AddConformer(conformer, assignId=True)


def _matched(smiles: str, record: XYZRecord) -> Molecule | Refusal | None:
    """The molecule of the SMILES with its atoms in the order of the geometry, or None if it does not match."""
    from rdkit import Chem

    template = Chem.MolFromSmiles(smiles)
    if template is None:
        return None
    template = Chem.AddHs(template)
    bonds, numbers = bonds_of(template), record.numbers.tolist()
    pairs = sorted(pairs_by_closeness(record.numbers, record.positions)[0][: len(bonds)])
    here, there = (
        outline(numbers, pairs),
        outline(numbers_of(template), [bond[:2] for bond in bonds]),
    )
    if len(here.kept) != len(there.kept) or len(numbers) != template.GetNumAtoms():
        return None
    places = [
        {atom: here.kept[row] for atom, row in zip(there.kept, match, strict=True)}
        for match in _marked(here, numbers).GetSubstructMatches(
            _marked(there, numbers_of(template)), uniquify=False, maxMatches=_MAX_MATCHES
        )
    ]
    ways = []
    for place in places:
        classes = {frozenset((place[a], place[b])): kind for a, b, kind in bonds if a in place and b in place}
        ways.append([(*pair, classes.get(frozenset(pair), 0)) for pair in pairs])
    if not ways:
        return None
    chosen = places[ways.index(best_fit(ways, record.positions))]
    mol = _laid_out(template, chosen, numbers, pairs)
    return _of_frame(mol, record, "smiles") if sanitise(mol) else None


def _laid_out(
    template: Chem.Mol, place: dict[int, int], numbers: list[int], pairs: list[tuple[int, int]]
) -> Chem.RWMol:
    """The molecule of a template whose atoms are at ``place``; all other atoms are hydrogen."""
    from rdkit import Chem

    mol, plain = _skeleton(numbers, pairs), Chem.Mol(template)
    Chem.Kekulize(plain, clearAromaticFlags=True)
    for atom, row in place.items():
        mol.GetAtomWithIdx(row).SetFormalCharge(plain.GetAtomWithIdx(atom).GetFormalCharge())
    for bond in plain.GetBonds():
        first, second = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if first in place and second in place:
            mol.GetBondBetweenAtoms(place[first], place[second]).SetBondType(bond.GetBondType())
    return mol


def _marked(graph: Outline, numbers: Sequence[int]) -> Chem.RWMol:
    """A skeleton whose isotopes, which matching compares, encode the number of hydrogens of an atom."""
    mol = _skeleton([numbers[atom] for atom in graph.kept], graph.pairs)
    for atom, count in zip(mol.GetAtoms(), graph.hydrogens, strict=True):
        atom.SetIsotope(1 + count)
    return mol


def _perceived_by_distance(numbers: list[int], positions: np.ndarray, charge: int) -> Chem.Mol | None:
    if len(numbers) > _MAX_ATOMS_WITHOUT_BONDS:
        return None
    pairs, values = pairs_by_closeness(np.array(numbers), positions)
    for threshold in CLOSE:
        close = pairs[: int(np.searchsorted(values, threshold))]
        alone = set(range(len(numbers))).difference(*close)
        if len(numbers) > 1 and any(numbers[atom] not in NOBLE_GASES for atom in alone):
            continue  # a lone proton would be an ion, and so would its counterpart
        perceived = _perceived(numbers, close, charge)
        if perceived is not None:
            return perceived
    return None


def _perceived(numbers: Sequence[int], pairs: Sequence[tuple[int, int]], charge: int) -> Chem.Mol | None:
    """A sanitised molecule whose bonds between ``pairs`` have orders and its atoms charges, or None."""
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    mol = _skeleton(numbers, pairs)
    if not pairs:
        return mol if charge == 0 and sanitise(mol) else None
    for attempt in range(_ORDERS_TRIED):  # RDKit fails for a third of the atom orders of nitrobenzene
        order = np.arange(len(numbers)) if attempt == 0 else np.random.RandomState(attempt).permutation(len(numbers))
        tried = Chem.RWMol(Chem.RenumberAtoms(mol, order.tolist()))
        try:
            steps = _MAX_PERCEPTION_STEPS // (20 if attempt else 1)
            rdDetermineBonds.DetermineBondOrders(tried, charge=charge, embedChiral=False, maxIterations=steps)
        except ValueError:
            continue
        except RuntimeError:
            return None
        if sanitise(tried):
            return Chem.RWMol(Chem.RenumberAtoms(tried, np.argsort(order).tolist()))
    return None


def _skeleton(numbers: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Chem.RWMol:
    """Neutral atoms with single bonds, nothing implied."""
    from rdkit import Chem

    mol = Chem.RWMol()
    for number in numbers:
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    for first, second in pairs:
        mol.AddBond(first, second, Chem.BondType.SINGLE)
    return mol
