"""Which row of a table belongs to which molecule. Imports neither torch nor rdkit.

Identifiers are text, compared literally ("0007" is not "7"), or, where that does not match every molecule, without
blanks at the ends and in any case. A row is never guessed: ambiguity is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from se3t.config.overrides import override
from se3t.data.molecules.tables import Numbers, Table, shown
from se3t.errors import UserError, did_you_mean

ORDER = "order"
"""The ``data.key`` that takes the rows in the order of the molecules."""

_LISTED = 3  # names that a message gives
_KEY_ENDS = "id ids idx molid cid sid cas name names title titles identifier inchi inchikey smiles"
_KEY_WORDS = "index no nr num number key code compound molecule mol entry"  # alone only


@dataclass(frozen=True)
class Side:
    """A column of the file of molecules: its titles, or one of its data fields.

    Attributes:
        label: its name in messages, such as "title".
        values: ``[molecule]``; "" where there is none.
        column: name of the data field; "" for titles.
    """

    label: str
    values: Sequence[str] = field(repr=False)
    column: str = ""


@dataclass(frozen=True)
class Join:
    """Rows of molecules.

    Attributes:
        rows: ``[molecule]`` row of the table, -1 where there is none.
        column: the column that names the molecules, or None where their order does.
        side: the column of the molecules that it was compared with, or None.
        notes: how the rows were found, and what has no partner.
    """

    rows: np.ndarray
    column: str | None
    side: Side | None
    notes: list[str]


def join(
    table: Table, sides: Sequence[Side], molecules: str, key: str | None = None, unreadable: Container[int] = ()
) -> Join:
    """The row of the table for every molecule.

    Without ``key``: the column that names **every** molecule by its title or a data field. Text is compared with
    titles and data fields of text, numbers only where column and data field have a name such as id. Rows of one name
    must agree in all numbers. Where nothing in either file looks like an identifier, and there are as many rows as
    molecules, their order.

    With ``key``: that column, compared with the data field of its name if there is one, else with what it names most
    of; molecules without a row are then left without values. ``order`` is the order of the rows.

    Args:
        table: the table.
        sides: titles and data fields of the molecules; the titles first.
        molecules: name of their file.
        key: ``data.key``.
        unreadable: molecules that cannot be read and need no row.

    Raises:
        UserError: the rows cannot be determined, or in several ways.
    """
    task = _Task(table, sides, molecules, unreadable)
    if key == ORDER:
        return task.by_order("as data.key=order says")
    if key is not None:
        if key not in table.cells:
            raise UserError(f"data.key={key}: {table.name} has no such column; {did_you_mean(key, table.cells)}")
        return task.by_column(key)
    matches = task.matches()
    if good := [match for match in matches if match.is_full and not match.clash]:
        return task.joined(good)
    if matches:
        best = max(matches, key=lambda match: (match.is_full, match.num_names))
        raise UserError(best.clash or task.gap(best))
    if name := task.unmatched_name():
        raise UserError(
            f"{table.name}: no column names the molecules of {molecules}, but {name}; expected the same names in both "
            "files, or data.key=order if row 1 belongs to molecule 1 and so on"
        )
    task.require_ascending_index()
    return task.by_order("nothing in either file names the molecules")


@dataclass(frozen=True)
class _Match:
    """The common names of a column and a side.

    Attributes:
        column: of the table.
        side: of the molecules.
        cells: ``[row]`` names in the table, as compared.
        names: ``[molecule]`` names of the molecules, likewise.
        needed: molecules that need a row.
        rows_of: rows of every name that both have.
        is_folded: compared in any case and without blanks at the ends.
        clash: a contradiction, as a sentence, or "".
    """

    column: str
    side: Side
    cells: list[str]
    names: list[str]
    needed: list[int]
    rows_of: dict[str, list[int]]
    is_folded: bool
    clash: str

    @cached_property
    def rows(self) -> np.ndarray:
        """``[molecule]`` first row of its name, -1 where there is none."""
        return np.array([self.rows_of.get(name, [-1])[0] for name in self.names])

    @property
    def num_names(self) -> int:
        return len(self.rows_of)

    @property
    def num_molecules(self) -> int:
        return sum(self.names[molecule] in self.rows_of for molecule in self.needed)

    @property
    def is_full(self) -> bool:
        return self.num_molecules == len(self.needed)

    @property
    def how(self) -> str:
        folded = ", in any case and without blanks at the ends" if self.is_folded else ""
        return f"column {self.column!r} and the {self.side.label}{folded}"


class _Task:
    """A table and molecules to join."""

    def __init__(self, table: Table, sides: Sequence[Side], molecules: str, unreadable: Container[int]) -> None:
        self.table, self.molecules = table, molecules
        self.sides = [side for side in sides if any(side.values)]
        self.count = len(sides[0].values)
        self.needed = [molecule for molecule in range(self.count) if molecule not in unreadable]
        columns = {column: table.numbers(column) for column in table.cells}
        self.numbers = {column: parsed.values for column, parsed in columns.items() if isinstance(parsed, Numbers)}
        self.numeric = {side.column for side in self.sides if side.column and _are_numbers(side)}

    # --- how it is done -----------------------------------------------------------------------------------------

    def by_column(self, column: str) -> Join:
        matches = [match for side in self.sides if (match := self.match(column, side)) is not None]
        column_matches = [match for match in matches if match.side.column == column]
        most = max((match.num_molecules for match in matches), default=0)
        best = column_matches or [match for match in matches if match.num_molecules == most]
        if not best:
            labels = "; ".join(f"{side.label} {_examples(side.values)}" for side in self.sides[:_LISTED])
            raise UserError(
                f"data.key={column}: that column of {self.table.name} ({_examples(self.table.cells[column])}) names no "
                f"molecule of {self.molecules} ({labels or 'they have neither titles nor data fields'})"
            )
        if clash := next((match.clash for match in best if match.clash), ""):
            raise UserError(clash)
        return self.joined(best)

    def by_order(self, why: str) -> Join:
        rows, blank = self.table.num_rows, self.table.num_blank
        if self.count not in (rows, rows + blank):
            behind = f" (and {blank} blank ones at the end)" if blank else ""
            raise UserError(
                f"{self.table.name}: has {rows} rows{behind}, {self.molecules} {self.count} molecules, and they are to "
                f"be taken in order ({why}); expected as many rows, or a column that names the molecules"
            )
        for match in self.matches():
            self.require_same_order(match)
        notes = [f"rows in the order of {self.molecules}: {why}"]
        if blank and rows == self.count:
            notes.append(_count(blank, "blank row") + " at the end: ignored")
        places = np.arange(self.count)
        return Join(np.where(places < rows, places, -1), None, None, notes)

    def joined(self, matches: Sequence[_Match]) -> Join:
        """By the first of some matches; the others must agree."""
        match, rows = matches[0], matches[0].rows
        for other in matches[1:]:
            for molecule in self.needed:
                pair = [rows[molecule], other.rows[molecule]]
                if pair[0] != pair[1] and (min(pair) < 0 or not self.agree(pair, match.column, other.column)):
                    self.refuse_two_ways(match, other, molecule)
        notes = [f"rows by {match.how}", *self.offset_notes(match)]
        if without := [molecule for molecule in self.needed if rows[molecule] < 0]:
            named = [match.side.values[place] or f"record {place + 1}" for place in without]
            notes.append(f"{len(without):,} of {self.count:,} molecules have no row, so no value: {_examples(named)}")
        wanted = set(match.names)
        if spare := [
            cell
            for row, cell in enumerate(self.table.cells[match.column])
            if not match.cells[row] or match.cells[row] not in wanted
        ]:
            notes.append(_count(len(spare), "row") + f" of the table without a molecule: {_examples(spare)}")
        if again := sum(len(same_name) - 1 for same_name in match.rows_of.values()):
            notes.append(_count(again, "more row") + " of the same name with the same numbers")
        return Join(rows, match.column, match.side, notes)

    def offset_notes(self, match: _Match) -> Iterator[str]:
        """That numbers begin at 0 in one file and at 1 in the other: rows may be off by one."""
        here, there = ({*map(str.strip, words)} - {""} for words in (match.cells, match.names))
        if all(word.isdecimal() for word in here | there):
            begins = [min(map(int, words)) for words in (here, there)]
            if sorted(begins) == [0, 1]:
                yield (
                    f"column {match.column!r} begins at {begins[0]}, the {match.side.label} at {begins[1]}: do they "
                    "number the same list? then every value belongs to its neighbour"
                )

    def agree(self, rows: list[int], *names: str) -> bool:
        """Whether rows have the same numbers, apart from the columns that name them."""
        others = [values[rows] for name, values in self.numbers.items() if name not in names]
        return all(np.isnan(values).all() or (values == values[0]).all() for values in others)

    # --- matches ------------------------------------------------------------------------------------------------

    def matches(self) -> list[_Match]:
        """Matches of every column and side that may be identifiers."""
        pairs = ((column, side) for column in self.table.cells for side in self.sides if self.may_name(column, side))
        return [match for column, side in pairs if (match := self.match(column, side)) is not None]

    def may_name(self, column: str, side: Side) -> bool:
        """Whether both may be identifiers: numbers only if column and data field have such a name."""
        if column in self.numbers and not _is_key(column):
            return False
        if side.column in self.numeric:
            return _is_key(column) and _is_key(side.column)
        return True

    def match(self, column: str, side: Side) -> _Match | None:
        exact = self.compare(column, side, str)
        if exact is not None and exact.is_full:
            return exact
        folded = self.compare(column, side, _fold)
        if exact is not None and folded is not None and exact.num_molecules == folded.num_molecules:
            return exact
        return folded

    def compare(self, column: str, side: Side, fold: Callable[[str], str]) -> _Match | None:
        names, cells = [fold(value) for value in side.values], [fold(cell) for cell in self.table.cells[column]]
        wanted = set(names) - {""}
        rows_of: dict[str, list[int]] = {}
        for row, cell in enumerate(cells):
            if cell in wanted:
                rows_of.setdefault(cell, []).append(row)
        if not rows_of:
            return None
        clash = self.clash_of_rows(column, rows_of) or self.clash_of_names(side, names, rows_of)
        return _Match(column, side, cells, names, self.needed, rows_of, fold is not str, clash)

    # --- what is wrong ------------------------------------------------------------------------------------------

    def clash_of_rows(self, column: str, rows_of: dict[str, list[int]]) -> str:
        for rows in rows_of.values():
            if len(rows) > 1 and not self.agree(rows, column):
                places = ", ".join(self.table.places[row] for row in rows[:_LISTED])
                more = ", …" if len(rows) > _LISTED else ""
                name = shown(self.table.cells[column][rows[0]])
                return (
                    f"{self.table.name}: {len(rows)} rows ({places}{more}) are {name} in column {column!r} and differ "
                    "in their numbers; expected one row for a name, or names that tell rows and molecules apart, or "
                    "data.key=order if row 1 belongs to molecule 1 and so on"
                )
        return ""

    def clash_of_names(self, side: Side, names: Sequence[str], rows_of: dict[str, list[int]]) -> str:
        first: dict[str, str] = {}
        for name, value in zip(names, side.values, strict=True):
            if name in rows_of and first.setdefault(name, value.strip()) != value.strip():
                return (
                    f"{self.molecules}: the {side.label} of two molecules is {shown(first[name])} and {shown(value)}, "
                    f"which {self.table.name} does not tell apart; expected the same spelling in both files"
                )
        return ""

    def gap(self, match: _Match) -> str:
        missing = [
            match.side.values[row] or f"molecule {row + 1}"
            for row in self.needed
            if match.names[row] not in match.rows_of
        ]
        doubt = "unless one file counts from 0 and the other from 1, " if match.column in self.numbers else ""
        return (
            f"{self.table.name}: {match.how} have {match.num_molecules} of the {self.count} molecules of "
            f"{self.molecules} in common, but not {_examples(missing)}; expected a row for each (its other cells may "
            f"be empty); {doubt}{_setting(match.column)} leaves the others without a value"
        )

    def refuse_two_ways(self, one: _Match, two: _Match, molecule: int) -> None:
        places = [self.table.places[row] if row >= 0 else "none" for row in (one.rows[molecule], two.rows[molecule])]
        keys = dict.fromkeys((one.column, two.column))
        remedy = "say which with " + " or ".join(map(_setting, keys))
        raise UserError(
            f"{self.table.name}: names the molecules of {self.molecules} in two ways, by {one.how} and by {two.how}: "
            f"the row of molecule {molecule + 1} is {places[0]} or {places[1]}; "
            + (remedy if len(keys) > 1 else "expected one; rename the column as the data field that it belongs to")
        )

    def require_same_order(self, match: _Match) -> None:
        if match.num_names < 2 or 2 * match.num_molecules < self.count:
            return
        for number, (name, cell) in enumerate(zip(match.names, match.cells, strict=False)):
            if name in match.rows_of and name != cell:
                place = self.table.places[match.rows_of[name][0]]
                raise UserError(
                    f"{self.table.name}: its rows are not in the order of {self.molecules}, by {match.how}: molecule "
                    f"{number + 1} is {shown(match.side.values[number])}, which is in {place}; leave data.key=order out"
                )

    def require_ascending_index(self) -> None:
        """Refuse an order that contradicts a column of numbers: 0, 1, 2, … shuffled, or an index without a name."""
        for column, cells in self.numbers.items():
            values = cells[~np.isnan(cells)]
            ordered = np.sort(values)
            counts = len(values) > _LISTED and ordered[0] in (0, 1) and (np.diff(ordered) == 1).all()
            if (counts or not column) and not (np.diff(values) > 0).all():
                raise UserError(
                    f"{self.table.name}: column {column!r} numbers the rows in another order "
                    f"({_examples(self.table.cells[column])}), and nothing names the molecules of {self.molecules}; "
                    "sort the rows as the molecules, or data.key=order if row 1 belongs to molecule 1 and so on"
                )

    def unmatched_name(self) -> str:
        """A column of either file that looks like identifiers, or ""."""
        for side in self.sides:
            values = [side.values[molecule] for molecule in self.needed]
            is_name = len(set(values) - {""}) > 1 and (
                not side.column or (_are_distinct(values) and (_is_key(side.column) or side.column not in self.numeric))
            )
            if is_name:
                return f"the {side.label} of its molecules looks like a name ({_examples(side.values)})"
        for column, cells in self.table.cells.items():
            if any(cells) and (
                _is_key(column) or (column not in self.numbers and len(cells) > 1 and _are_distinct(cells))
            ):
                return f"column {column!r} looks like names ({_examples(cells)})"
        return ""


def _fold(text: str) -> str:
    return text.strip().casefold()


def _are_distinct(values: Sequence[str]) -> bool:
    return all(values) and len(set(values)) == len(values)


def _are_numbers(side: Side) -> bool:
    return not isinstance(Table("", {"": list(side.values)}, [""] * len(side.values)).numbers(""), str)


def _is_key(column: str) -> bool:
    """Whether the name of a column is one of an identifier."""
    words = re.findall(r"[a-z]+|#", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower())
    return bool(words) and (
        words[-1] in _KEY_ENDS.split() or (len(words) == 1 and words[0] in _KEY_WORDS.split()) or words == ["#"]
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _setting(column: str) -> str:
    """The override that chooses a column, for a command line."""
    return shlex.quote(override("data.key", column))


def _examples(values: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(value for value in values if value))
    return ", ".join(map(shown, distinct[:_LISTED])) + (", …" if len(distinct) > _LISTED else "")
