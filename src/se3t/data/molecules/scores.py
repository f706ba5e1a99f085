"""From the outputs of a network to properties of molecules. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SEVERAL = "properties"
"""Where facts have the entry of each property; facts of one property are its entry themselves."""


@dataclass(frozen=True)
class Score:
    """One output of a network: value = mean + std · output + Σ over the atoms of reference.

    Attributes:
        target: name of the property, or of the column of a table.
        label: as tables print it.
        unit: of mean, std, reference and value; "" where unknown.
        mean: of the training molecules, references subtracted.
        std: their standard deviation.
        reference: for each element; () for none.
    """

    target: str
    label: str
    unit: str
    mean: float
    std: float
    reference: tuple[float, ...] = ()

    def offset(self, counts: np.ndarray) -> np.ndarray:
        """What is added to std · output, ``[molecule]``, of numbers of atoms ``[molecule, element]``."""
        return self.mean + (counts @ np.array(self.reference) if self.reference else np.zeros(len(counts)))

    def entry(self) -> dict[str, Any]:
        """As facts hold it; without a reference where there is none."""
        return {name: value for name, value in vars(self).items() if value != ()}


def scores_of(facts: Mapping[str, Any]) -> tuple[Score, ...]:
    """The outputs that facts of a task describe."""
    names = [name for name in Score.__dataclass_fields__ if name != "reference"]
    return tuple(
        Score(**{name: entry[name] for name in names}, reference=tuple(entry.get("reference", ())))
        for entry in facts.get(SEVERAL, [facts])
    )


def facts_of(scores: tuple[Score, ...]) -> dict[str, Any]:
    """The entries of some outputs, as :func:`scores_of` reads them."""
    if len(scores) == 1:
        return scores[0].entry()
    names = {"target": "+".join(score.target for score in scores), "label": ", ".join(score.label for score in scores)}
    return {**names, "unit": "", SEVERAL: [score.entry() for score in scores]}
