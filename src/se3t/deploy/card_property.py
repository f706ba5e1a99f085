"""Model card of a model that predicts a property of molecules."""

from __future__ import annotations

from collections.abc import Mapping

from se3t.data.molecules.graphs import spell_elements
from se3t.data.molecules.scores import Score, scores_of
from se3t.deploy.card import MISSING, Card, sizes_of
from se3t.deploy.predict import is_atomisation, what_it_is
from se3t.experiments.qm9 import is_subset, mae_names
from se3t.screen import markdown_text

_READS_BONDS = ("se3_transformer", "tfn", "mpnn")


class PropertyCard(Card):
    """Property and unit, molecules of the training, and how to predict others."""

    @property
    def _scores(self) -> tuple[Score, ...]:
        return scores_of(self.model.facts)

    def units(self) -> dict[str, str]:
        """Of the mean absolute error of each property."""
        names = mae_names([score.target for score in self._scores])
        return {name: score.unit for name, score in zip(names, self._scores, strict=True)}

    def baseline_place(self, metric: str) -> int | None:
        """The place of the property with that error."""
        return list(self.units()).index(metric) if metric in self.units() else None

    def summary(self) -> str:
        """What the model does, in a sentence."""
        inputs = "positions and bonds" if self.model.config.model.name in _READS_BONDS else "positions"
        kind = self.model.facts["kind"]
        what = "; ".join(markdown_text(what_it_is(kind, score)) for score in self._scores)
        return f"From the atoms of a molecule and their {inputs}: {what}."

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for the first table."""
        facts = self.model.facts
        return [
            ("target", markdown_text(", ".join(f"{score.target} ({score.label})" for score in self._scores))),
            ("unit", markdown_text(", ".join(score.unit for score in self._scores)) or MISSING),
            ("edges", f"radius, {facts['radius']:g} angstrom" if facts["edges"] == "radius" else facts["edges"]),
        ]

    def data_name(self) -> str:
        """Of the training data, and whether molecules of the published splits are missing."""
        sizes, official = sizes_of(self.model), self.official()
        present = [split for split in official if split in sizes]
        lacks = is_subset([sizes[split] for split in present], [official[split] for split in present])
        return super().data_name() + (" subset: not all molecules of the official splits" if lacks else "")

    def official(self) -> Mapping[str, int]:
        """Published sizes of the splits, where there are some."""
        return self.model.dataset.split_sizes(self.model.dataset.schema())

    def data(self) -> list[str]:
        """Elements, sizes and values of the training molecules."""
        facts = self.model.facts
        spreads = [f"{score.mean:.6g} ± {score.std:.6g} {score.unit}".rstrip() for score in self._scores]
        if len(spreads) > 1:
            spreads = [f"{score.target} {spread}" for score, spread in zip(self._scores, spreads, strict=True)]
        less = ""
        if any(score.reference for score in self._scores):
            less = " less atomic references (least squares on the numbers of atoms), which predictions include"
        return [
            f"- elements of the training molecules: {spell_elements(facts['elements_seen'])}",
            f"- largest training molecule: {facts['max_atoms']} atoms",
            f"- mean and standard deviation of the training values{less}: {', '.join(spreads)}",
        ]

    def limits(self) -> list[str]:
        """What the model is not for."""
        facts = self.model.facts
        energies = [score.target for score in self._scores if is_atomisation(facts["kind"], score)]
        which = "the numbers" if len(energies) == len(self._scores) else ", ".join(energies)
        atomisation = f"{which} are atomisation energies: the energies of single atoms were subtracted"
        unlike = (
            "not tested on atoms with other bonded neighbours, or bonds of other lengths, than in training; "
            "`se3t predict` warns about them"
        )
        return [
            f"only molecules of {spell_elements(facts['elements_seen'])}; `se3t predict` refuses others",
            f"not tested on molecules of more than {facts['max_atoms']} atoms; `se3t predict` warns about them",
            *([unlike] if "environments" in facts else []),
            *([atomisation] if energies else []),
        ]

    def commands(self) -> list[str]:
        """Command lines that use the exported folder."""
        raw = "data.raw=<the molecules it was trained on> " if self.model.config.data.raw else ""
        return [
            "se3t predict --checkpoint . molecules.sdf        # or .xyz, or a SMILES a line in .smi",
            f"se3t eval checkpoint=. {raw}data.root=<folder of the prepared data>",
        ]

    def python(self) -> list[str]:
        """How to predict in Python."""
        return ['`se3t.deploy.load(".")` is the model, to be called with a list of molecules.']
