"""Convert RDKit molecules to those of this package: elements, bonds, charges, normal form; handle RDKit's log.

RDKit is imported within functions, and only here and in :mod:`se3t.data.molecules.chemistry` and
:mod:`se3t.data.molecules.embedding`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from se3t.data.molecules.molecule import BOND_CLASSES, Bond, Molecule, Refusal
from se3t.data.molecules.normal_form import Lewis, normalise

if TYPE_CHECKING:
    from rdkit import Chem

_FAR = 32.0  # angstrom from the origin, up to which single precision is exact to 2e-6


def rdkit_version() -> str:
    """Version of the installed RDKit."""
    import rdkit

    return str(rdkit.__version__)


@contextmanager
def silence() -> Iterator[None]:
    """Silence RDKit's log, in a block or as a decorator."""
    from rdkit import rdBase

    with rdBase.BlockLogs():
        yield


def complaint(function: Callable[[str], object], text: str) -> str:
    """The first line RDKit logs while ``function(text)`` fails, as a clause; "" for an RDKit without that log."""
    try:
        from rdkit.rdBase import CaptureErrorLog
    except ImportError:
        return ""
    with CaptureErrorLog() as log:
        function(text)
    lines = (re.sub(r"^\[[\d:]*\]", "", line).strip() for line in log.messages.splitlines())
    useful = [line for line in lines if line.strip("*-") and not line.endswith("Violation")]
    return f" ({useful[0][:120]})" if useful else ""


def problem_of_atoms(mol: Chem.Mol) -> str:
    """Why the atoms of a molecule cannot be used, or ""."""
    if mol.GetNumAtoms() == 0:
        return "it has no atoms"
    for number, atom in enumerate(mol.GetAtoms(), start=1):
        if atom.GetAtomicNum() == 0:
            return f"atom {number} ({atom.GetSymbol()}) is no element"
    return ""


def sanitise(mol: Chem.Mol) -> bool:
    """Let RDKit check valences and perceive aromatic bonds, in place; whether it accepts the molecule."""
    from rdkit import Chem

    return Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE


def numbers_of(mol: Chem.Mol) -> list[int]:
    """Atomic numbers, ``[atom]``."""
    return [atom.GetAtomicNum() for atom in mol.GetAtoms()]


def bonds_of(mol: Chem.Mol) -> list[Bond]:
    """Two atoms and the class of each bond."""
    return [(*_pair(bond), _bond_class(bond.GetBondTypeAsDouble())) for bond in mol.GetBonds()]


def _pair(bond: Chem.Bond) -> tuple[int, int]:
    first, second = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    return (first, second) if first < second else (second, first)


def _bond_class(order: float) -> int:
    if 1.25 < order < 1.75:
        return BOND_CLASSES.index("aromatic")
    return min(max(round(order), 1), 3) - 1


@cache
def covalent_radii() -> np.ndarray:
    """Covalent radii by atomic number in angstrom, as RDKit has them."""
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    return np.array([table.GetRcovalent(number) for number in range(119)])


def normal_form(mol: Chem.Mol) -> Chem.Mol:
    """The same molecule with the bonds and charges of its normal form, sanitised.

    Args:
        mol: sanitised, with all its hydrogen atoms and a conformer.
    """
    from rdkit import Chem

    ring_info = mol.GetRingInfo()
    rings = [
        atoms
        for atoms, bonds in zip(ring_info.AtomRings(), ring_info.BondRings(), strict=True)
        if not any(mol.GetBondWithIdx(bond).GetIsAromatic() for bond in bonds)
    ]
    if not rings and not any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
        return mol
    changed = Chem.RWMol(mol)
    Chem.Kekulize(changed, clearAromaticFlags=True)
    kinds = (Chem.BondType.ZERO, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
    bonds = {_pair(bond): bond for bond in changed.GetBonds()}
    lewis = Lewis(
        numbers=numbers_of(mol),
        charges=[atom.GetFormalCharge() for atom in mol.GetAtoms()],
        orders={pair: round(bond.GetBondTypeAsDouble()) for pair, bond in bonds.items()},
        positions=mol.GetConformer().GetPositions(),
    )
    before = dict(lewis.orders)
    if not normalise(lewis, rings):
        return mol
    for pair, order in lewis.orders.items():
        if order != before[pair]:
            bonds[pair].SetBondType(kinds[order])
    for atom, charge in zip(changed.GetAtoms(), lewis.charges, strict=True):
        atom.SetFormalCharge(charge)
    return changed if sanitise(changed) else mol


def molecule_of(
    mol: Chem.Mol,
    identifier: str,
    method: str,
    is_3d: bool = True,
    notes: tuple[str, ...] = (),
    isotopes: Sequence[str] = (),
) -> Molecule | Refusal:
    """The molecule of an RDKit molecule with a conformer; far from the origin it is centred first.

    Args:
        mol: with all its hydrogen atoms.
        identifier: its name in the file.
        method: how its bonds were found.
        is_3d: whether its positions are 3-D coordinates.
        notes: warnings.
        isotopes: those not set in its atoms.
    """
    from rdkit import Chem

    positions = mol.GetConformer().GetPositions()
    if not np.isfinite(positions).all():
        return Refusal(identifier, "a position is not a finite number")
    if np.abs(positions).max() > _FAR:
        positions = positions - positions.mean(axis=0)  # before it is rounded
    table = np.array(sorted(bonds_of(mol)), dtype=np.uint16).reshape(-1, 3)
    return Molecule(
        numbers=np.array(numbers_of(mol), dtype=np.uint8),
        positions=positions.astype(np.float32),
        bonds=np.ascontiguousarray(table[:, :2]),
        bond_classes=table[:, 2].astype(np.uint8),
        identifier=identifier,
        method=method,
        charge=Chem.GetFormalCharge(mol),
        is_3d=is_3d,
        unpaired=sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()),
        notes=(*notes, *_isotopes(mol, isotopes)),
    )


def _isotopes(mol: Chem.Mol, others: Sequence[str]) -> Iterator[str]:
    isotopes = [f"{atom.GetIsotope()}{atom.GetSymbol()}" for atom in mol.GetAtoms() if atom.GetIsotope()]
    if words := list(dict.fromkeys([*isotopes, *others])):
        yield f"isotopes: {', '.join(words)}, whose masses are no input of the model"
