"""Bonds of molecules, by RDKit. RDKit is imported here alone, when a function needs it, and its log kept silent.

``Molecule.method`` says how the bonds were found:

- ``sanitised``: bonds of the file; RDKit accepts the molecule and perceives its aromatic bonds;
- ``kekulised``: bonds of the file as they stand, because RDKit refuses the molecule (a valence, a charge);
- ``perceived``: the bonds have no orders, or (XYZ) there are none; RDKit finds orders that satisfy every valence at the
  total charge, then aromatic bonds;
- ``reconnected``: the bonds have no orders, and none satisfy the valences (most often there is one bond too many); they
  were replaced by the pairs of atoms that are close, and those perceived;
- ``connectivity``: the bonds have no orders and that failed too: single bonds as in the file;
- ``smiles``: bonds of a SMILES, matched to the geometry (XYZ) or embedded in space.

Bonds are single, double, triple or aromatic (``BOND_CLASSES``). Any other of RDKit's becomes the class of the nearest
order by ``GetBondTypeAsDouble``: dative, ionic, hydrogen and zero-order bonds are single, quadruple ones triple.

Which atoms are close is told by covalent radii (:mod:`se3t.data.molecules.closeness`). Where a SMILES tells the number
of bonds, that many pairs are taken, the relatively closest first, without a threshold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from se3t.data.molecules.closeness import CLOSE, CLOSEST, Bond, Outline, best_fit, outline, pairs_by_closeness, ratios
from se3t.data.molecules.molecule import BOND_CLASSES, Molecule, Refusal
from se3t.data.molecules.readers import XYZRecord

if TYPE_CHECKING:
    from rdkit import Chem

_MAX_PERCEPTION_STEPS = 50_000  # about a quarter of a second
_MAX_MATCHES = 64  # ways to lay a SMILES onto a geometry that are compared
_MAX_ATOMS_WITHOUT_BONDS = 500  # pairs of atoms are looked at one by one
_MAX_ATOMS_EMBEDDED = 200  # about a second
_EMBEDDING_TRIES = 20
_FORCE_FIELD_STEPS = 500
_PARTS = (("numbers", "num_atoms"), ("bonds", "num_bonds"))


def rdkit_version() -> str:
    """Version of the installed RDKit."""
    import rdkit

    return str(rdkit.__version__)


def molecules_from_blocks(records: Sequence[tuple[str, str]]) -> list[Molecule | Refusal]:
    """Molecules of mol blocks (V2000 or V3000).

    Hydrogens that a block implies are not added; :func:`missing_hydrogens` counts them.

    Args:
        records: identifier and mol block of each.

    Returns:
        One for each record, in order.
    """
    with _silence():
        return [_from_block(identifier, block) for identifier, block in records]


def molecules_from_xyz(records: Sequence[XYZRecord]) -> list[Molecule | Refusal]:
    """Molecules of atoms without bonds: by the SMILES of the record, else by perception at the charge of the record.

    Returns:
        One for each record, in order.
    """
    with _silence():
        return [_from_xyz(record) for record in records]


def missing_hydrogens(block: str) -> int:
    """Number of hydrogen atoms that a mol block implies without listing them; 0 where RDKit refuses it."""
    from rdkit import Chem

    with _silence():
        mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        if mol is None or _lacks_orders(mol) or not _sanitise(mol):
            return 0
        return sum(atom.GetTotalNumHs() for atom in mol.GetAtoms())


def constitutions(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """What is the same for molecules of the same atoms and connections, whatever their order, bond orders and stereo.

    Args:
        arrays: those of :func:`se3t.data.molecules.molecule.pack`.

    Returns:
        ``[molecule]`` canonical SMILES with single bonds alone.
    """
    from rdkit import Chem

    atoms, bonds = (np.split(arrays[name], np.cumsum(arrays[count])[:-1]) for name, count in _PARTS)
    with _silence():
        return [
            Chem.MolToSmiles(_skeleton(a.tolist(), [*map(tuple, b.tolist())]))
            for a, b in zip(atoms, bonds, strict=True)
        ]


def molecule_from_smiles(smiles: str, identifier: str = "", seed: int = 0) -> Molecule | Refusal:
    """A molecule of a SMILES with a geometry that is made up: one conformer, hydrogens added.

    ETKDGv3 places the atoms, MMFF94 relaxes them (UFF where it lacks parameters). The same seed and RDKit give the same
    geometry.

    Args:
        smiles: the molecule.
        identifier: what to call it.
        seed: of the embedding.
    """
    from rdkit import Chem

    with _silence():
        template = Chem.MolFromSmiles(smiles.strip()) if smiles.strip() else None
        if template is None:
            return Refusal(identifier, "RDKit does not accept this SMILES" + _complaint(Chem.MolFromSmiles, smiles))
        mol = Chem.AddHs(template)
        if problem := _problem(mol) or _embedded(mol, seed):
            return Refusal(identifier, problem)
        return _molecule(mol, identifier, "smiles", is_3d=True)


# --- mol blocks ---------------------------------------------------------------------------------------------


def _from_block(identifier: str, block: str) -> Molecule | Refusal:
    mol = _read_block(block)
    if mol is None:
        return Refusal(identifier, "RDKit cannot read its mol block" + _complaint(_read_block, block))
    if problem := _problem(mol):
        return Refusal(identifier, problem)
    is_3d = _is_3d(mol, block)
    if _lacks_orders(mol):
        mol, method = _with_orders(mol)
    elif _sanitise(mol):
        method = "sanitised"
    else:
        again = _read_block(block)  # RDKit may leave what it refuses half changed
        mol, method = mol if again is None else again, "kekulised"
    return _molecule(mol, identifier, method, is_3d)


def _read_block(block: str) -> Chem.Mol | None:
    from rdkit import Chem

    return Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)


def _problem(mol: Chem.Mol) -> str:
    """Why the molecule can be of no use, or nothing."""
    if mol.GetNumAtoms() == 0:
        return "it has no atoms"
    for number, atom in enumerate(mol.GetAtoms(), start=1):
        if atom.GetAtomicNum() == 0:
            return f"atom {number} ({atom.GetSymbol()}) is no element"
    return ""


def _lacks_orders(mol: Chem.Mol) -> bool:
    from rdkit import Chem

    unknown = (Chem.BondType.UNSPECIFIED, Chem.BondType.ZERO)
    return any(bond.GetBondType() in unknown or bond.HasQuery() for bond in mol.GetBonds())


def _with_orders(mol: Chem.Mol) -> tuple[Chem.Mol, str]:
    from rdkit import Chem

    numbers, pairs = _numbers(mol), [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    charge = Chem.GetFormalCharge(mol)
    perceived, method = _perceived(numbers, pairs, charge), "perceived"
    if perceived is None and mol.GetConformer().Is3D():
        perceived, method = _perceived_by_distance(numbers, mol.GetConformer().GetPositions(), charge), "reconnected"
    if perceived is None:
        perceived, method = _skeleton(numbers, pairs), "connectivity"
    perceived.AddConformer(mol.GetConformer(), assignId=True)
    return perceived, method


def _is_3d(mol: Chem.Mol, block: str) -> bool:
    """Whether the atoms have places in space.

    RDKit believes the header of the block, or a z that is not zero. A flat block without a dimension in its header is a
    planar molecule if its bonds are as long as bonds are, else a drawing.
    """
    positions = mol.GetConformer().GetPositions()
    if len(positions) > 1 and np.ptp(positions, axis=0).max() == 0:
        return False
    if mol.GetConformer().Is3D() or len(positions) == 1:
        return True
    header = [*block.splitlines(), "", ""][1]
    if header[20:22].upper() == "2D" or not mol.GetNumBonds():
        return False
    bonds = np.array(_bonds(mol))
    values = ratios(positions, _covalent_radii()[_numbers(mol)], bonds[:, 0], bonds[:, 1])
    return bool(((values > CLOSEST) & (values < CLOSE[0])).all())


# --- geometries without bonds -------------------------------------------------------------------------------


def _from_xyz(record: XYZRecord) -> Molecule | Refusal:
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
        return _build(
            record.numbers, record.positions, _bonds(perceived), record.identifier, "perceived", record.charge
        )
    no_match = f"no SMILES of it ({', '.join(record.smiles)}) fits its geometry, and " if record.smiles else ""
    return Refusal(
        record.identifier, f"{no_match}RDKit finds no bonds that satisfy its valences at charge {record.charge}"
    )


def _matched(smiles: str, record: XYZRecord) -> Molecule | None:
    """The molecule of the SMILES with its atoms in the order of the geometry, or None if it does not fit."""
    from rdkit import Chem

    template = Chem.MolFromSmiles(smiles)
    if template is None:
        return None
    template = Chem.AddHs(template)
    bonds, numbers = _bonds(template), record.numbers.tolist()
    pairs = sorted(pairs_by_closeness(record.positions, _covalent_radii()[numbers])[0][: len(bonds)])
    here, there = outline(numbers, pairs), outline(_numbers(template), [(first, second) for first, second, _ in bonds])
    if len(here.kept) != len(there.kept) or len(numbers) != template.GetNumAtoms():
        return None
    ways = []
    for match in _marked(here, numbers).GetSubstructMatches(
        _marked(there, _numbers(template)), uniquify=False, maxMatches=_MAX_MATCHES
    ):
        place = {atom: here.kept[row] for atom, row in zip(there.kept, match, strict=True)}
        classes = {frozenset((place[a], place[b])): kind for a, b, kind in bonds if a in place and b in place}
        ways.append([(*pair, classes.get(frozenset(pair), 0)) for pair in pairs])
    if not ways:
        return None
    charge = Chem.GetFormalCharge(template)
    chosen = best_fit(ways, record.positions)
    return _build(record.numbers, record.positions, chosen, record.identifier, "smiles", charge)


def _marked(graph: Outline, numbers: Sequence[int]) -> Chem.RWMol:
    """A skeleton whose isotopes, which matching compares, tell how many hydrogens an atom has."""
    mol = _skeleton([numbers[atom] for atom in graph.kept], graph.pairs)
    for atom, count in zip(mol.GetAtoms(), graph.hydrogens, strict=True):
        atom.SetIsotope(1 + count)
    return mol


def _perceived_by_distance(numbers: list[int], positions: np.ndarray, charge: int) -> Chem.Mol | None:
    if len(numbers) > _MAX_ATOMS_WITHOUT_BONDS:
        return None
    pairs, values = pairs_by_closeness(positions, _covalent_radii()[numbers])
    for threshold in CLOSE:
        perceived = _perceived(numbers, pairs[: int(np.searchsorted(values, threshold))], charge)
        if perceived is not None:
            return perceived
    return None


def _perceived(numbers: Sequence[int], pairs: Sequence[tuple[int, int]], charge: int) -> Chem.Mol | None:
    """A sanitised molecule whose bonds between ``pairs`` have orders and its atoms charges, or None."""
    from rdkit.Chem import rdDetermineBonds

    mol = _skeleton(numbers, pairs)
    if not pairs and len(numbers) > 1:
        return None
    try:
        rdDetermineBonds.DetermineBondOrders(mol, charge=charge, embedChiral=False, maxIterations=_MAX_PERCEPTION_STEPS)
    except (ValueError, RuntimeError):
        return None
    return mol if _sanitise(mol) else None


@cache
def _covalent_radii() -> np.ndarray:
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    return np.array([table.GetRcovalent(number) for number in range(119)])


# --- SMILES -------------------------------------------------------------------------------------------------


def _embedded(mol: Chem.Mol, seed: int) -> str:
    """Give the molecule a conformer; returns why that failed, or nothing."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    if mol.GetNumAtoms() > _MAX_ATOMS_EMBEDDED:
        return f"it has {mol.GetNumAtoms()} atoms, more than the {_MAX_ATOMS_EMBEDDED} that are embedded"
    parameters: Any = rdDistGeom.ETKDGv3()  # its stubs take every attribute for another set of parameters
    parameters.randomSeed = seed % 2**31  # a negative seed would be drawn anew each time
    parameters.maxIterations = _EMBEDDING_TRIES
    parameters.embedFragmentsSeparately = False  # else all of them lie at the origin
    if rdDistGeom.EmbedMolecule(mol, parameters) < 0:
        parameters.useRandomCoords = True
        if rdDistGeom.EmbedMolecule(mol, parameters) < 0:
            return "RDKit finds no geometry for it"
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=_FORCE_FIELD_STEPS)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=_FORCE_FIELD_STEPS)
    return ""


# --- RDKit's molecules --------------------------------------------------------------------------------------


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


def _sanitise(mol: Chem.Mol) -> bool:
    from rdkit import Chem

    return Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE


def _numbers(mol: Chem.Mol) -> list[int]:
    return [atom.GetAtomicNum() for atom in mol.GetAtoms()]


def _molecule(mol: Chem.Mol, identifier: str, method: str, is_3d: bool) -> Molecule | Refusal:
    from rdkit import Chem

    positions = mol.GetConformer().GetPositions()
    if not np.isfinite(positions).all():
        return Refusal(identifier, "a position is not a finite number")
    charge = Chem.GetFormalCharge(mol)
    return _build(np.array(_numbers(mol)), positions, _bonds(mol), identifier, method, charge, is_3d)


def _build(
    numbers: np.ndarray,
    positions: np.ndarray,
    bonds: Sequence[Bond],
    identifier: str,
    method: str,
    charge: int,
    is_3d: bool = True,
) -> Molecule:
    table = np.array(sorted((min(a, b), max(a, b), kind) for a, b, kind in bonds), dtype=np.uint16).reshape(-1, 3)
    return Molecule(
        numbers=numbers.astype(np.uint8),
        positions=positions.astype(np.float32),
        bonds=np.ascontiguousarray(table[:, :2]),
        bond_classes=table[:, 2].astype(np.uint8),
        identifier=identifier,
        method=method,
        charge=charge,
        is_3d=is_3d,
    )


def _bonds(mol: Chem.Mol) -> list[Bond]:
    """Two atoms and the class of each bond."""
    return [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), _bond_class(bond.GetBondTypeAsDouble()))
        for bond in mol.GetBonds()
    ]


def _bond_class(order: float) -> int:
    if 1.25 < order < 1.75:
        return BOND_CLASSES.index("aromatic")
    return min(max(round(order), 1), 3) - 1


# --- RDKit's log --------------------------------------------------------------------------------------------


@contextmanager
def _silence() -> Iterator[None]:
    from rdkit import rdBase

    with rdBase.BlockLogs():
        yield


def _complaint(function: Callable[[str], object], text: str) -> str:
    """What RDKit logs while ``function(text)`` fails, as a clause; nothing for an RDKit that cannot tell."""
    try:
        from rdkit.rdBase import CaptureErrorLog
    except ImportError:
        return ""
    with CaptureErrorLog() as log:
        function(text)
    lines = (re.sub(r"^\[[\d:]*\]", "", line).strip() for line in log.messages.splitlines())
    useful = [line for line in lines if line.strip("*-") and not line.endswith("Violation")]
    return f" ({useful[0][:120]})" if useful else ""
