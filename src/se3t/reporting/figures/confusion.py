"""The confusion matrix of a run, as a picture. Matplotlib is imported when it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from se3t.errors import UserError
from se3t.experiments.scanobjectnn import parse_record, rotation_in_words
from se3t.reporting.figures.figure4 import finished_run
from se3t.reporting.figures.style import SMALL, blank_figure, headline, styled
from se3t.reporting.published import system_name
from se3t.runs import Fields
from se3t.runs.checks import require_file_unchanged
from se3t.runs.files import digest_of
from se3t.runs.names import DETAILS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Confusion:
    """How often objects of one class (row) were given another (column), and what the run was, in words."""

    title: str
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    counts: list[list[int]]

    @property
    def accuracy(self) -> float:
        """In %."""
        right = sum(row[index] for index, row in enumerate(self.counts))
        return 100 * right / sum(map(sum, self.counts))


def load_confusion(folder: Path) -> Confusion:
    """The confusion matrix of a finished classification run, from its ``result.json`` and ``details.json``.

    Raises:
        UserError: a file is missing or damaged, or the run is of another experiment.
    """
    run = parse_record(finished_run(folder))
    path = folder / DETAILS
    if not path.is_file():
        raise UserError(
            f"{folder}: no {DETAILS} in it, which holds the class predicted for every object; remove the folder "
            "and run the training again"
        )
    fields = Fields.read(path, "the predictions of a finished run")
    require_file_unchanged(folder, DETAILS, digest_of(fields.content))
    classes = tuple(str(name) for name in fields.items("classes"))
    label, predicted = (_labels(fields, name, len(classes)) for name in ("label", "predicted"))
    if len(label) != len(predicted):
        raise UserError(f"{path}: {len(label)} entries of 'label', but {len(predicted)} of 'predicted'; expected pairs")
    counts = [[0] * len(classes) for _ in classes]
    for row, column in zip(label, predicted, strict=True):
        counts[row][column] += 1
    notes = [f"{fields.text('split')} split, seed {run.seed}, {run.steps_done:,} steps"]
    notes += [rotation_in_words(run.data.rotation)] if run.data.rotation else []
    title = f"{system_name(run.model, run.height)}: predicted and true class"
    return Confusion(title, (f"{run.data.name}, checksum {run.data.checksum[:8]}", *notes), classes, counts)


def _labels(fields: Fields, name: str, count: int) -> list[int]:
    values = fields.items(name)
    wrong = [value for value in values if type(value) is not int or not 0 <= value < count]
    if wrong:
        raise UserError(f"{fields.origin}: field {name!r} should be numbers of classes below {count}, got {wrong[0]!r}")
    return values


@styled
def draw_confusion(confusion: Confusion) -> Figure:
    """Shares of each row as colours, numbers of objects as text where there are any."""
    figure = blank_figure(4.6, 4.0)
    axis = figure.subplots()
    totals = [max(1, sum(row)) for row in confusion.counts]  # of a class without an object all shares are 0
    shares = [[count / total for count in row] for row, total in zip(confusion.counts, totals, strict=True)]
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, counts in enumerate(confusion.counts):
        for column, count in enumerate(counts):
            if count:
                colour = "white" if shares[row][column] > 0.5 else "black"
                axis.text(column, row, f"{count}", color=colour, ha="center", va="center")
    places = range(len(confusion.classes))
    axis.set_xticks(places, confusion.classes, rotation=90)
    axis.set_yticks(places, confusion.classes)
    axis.tick_params(labelsize=SMALL)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    total = sum(map(sum, confusion.counts))
    headline(figure, confusion.title, [f"accuracy {confusion.accuracy:.1f} % of {total:,} objects", *confusion.notes])
    bar = figure.colorbar(image, ax=axis, shrink=0.6)
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label("share of the true class")
    return figure
