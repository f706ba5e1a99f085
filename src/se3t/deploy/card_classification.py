"""Model card of a classifier of point clouds."""

from __future__ import annotations

from se3t.deploy.card import Card


class ClassificationCard(Card):
    """Classes, points, and where the scans are from."""

    def summary(self) -> str:
        """What the model does, in a sentence."""
        count = len(self.model.facts["classes"])
        return f"The class of a scanned object, one of {count}, from coordinates of its points."

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for the first table."""
        task = self.model.config.task
        return [("input", f"{task.num_points} points ({task.sampling})" + (", with heights" if task.height else ""))]

    def data_name(self) -> str:
        """Of the training data, with its variant, and whether it is synthetic."""
        facts = self.model.facts
        return f"{'synthetic ' if facts['synthetic'] else ''}{super().data_name()}, {facts['variant']}"

    def data(self) -> list[str]:
        """The classes, and which way is up."""
        facts = self.model.facts
        return [f"- classes: {', '.join(facts['classes'])}", f"- height: coordinate {facts['up_axis']}"]

    def limits(self) -> list[str]:
        """What the model is not for."""
        synthetic = "trained on synthetic scans: not tested on real ones"
        return [
            "meant for single objects, centred and scaled to the unit sphere, as those above",
            *([synthetic] if self.model.facts["synthetic"] else []),
        ]
