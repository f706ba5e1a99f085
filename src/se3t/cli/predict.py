"""``se3t predict``."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from se3t import pretrained
from se3t.cli.options import Parser, positive, require_new
from se3t.errors import UserError
from se3t.screen import csv_text, printable, show

_LONG = 200  # molecules, from which on a progress bar is shown
_NONE_PREDICTED = 1
_LISTED = 5  # kinds of warnings
_WEIGHTS = (".ckpt", ".safetensors", ".pt", ".pth")


def parser() -> Parser:
    """The flags of ``se3t predict``."""
    parser = Parser("predict")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[])
    parser.add_argument("--out", default="predictions.csv")
    parser.add_argument("--batch-size", type=positive)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--force", action="store_true")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Write a table of predictions for the molecules of some files; 1 when there is none."""
    from se3t.data.molecules.inputs import count_records, read_molecules

    given = _with_models(parser().parse_intermixed_args(list(arguments)))
    out = None if given.out == "-" else Path(given.out)
    if out is not None:
        require_new("--out", out, given.files, given.force)
    from se3t.data.progress import progress_bar
    from se3t.deploy import predict
    from se3t.training.run import choose_device

    device = choose_device(given.device, "--device ")
    predictors = [predict.load(path, device) for path in given.checkpoint]
    screen = sys.stderr if out is None else sys.stdout
    _describe(predictors, screen)
    count = count_records(given.files)
    rows = predict.predict(predictors, read_molecules(given.files), given.batch_size or predict.BATCH_SIZE)
    with progress_bar(count >= _LONG and sys.stderr.isatty(), "predictions", count) as tell:
        summary = _write(out, lambda write: predict.write_table(write, predictors, rows, tell))
    _report(summary, predictors, "standard output" if out is None else str(out), screen)
    return 0 if summary.counts["predicted"] else _NONE_PREDICTED


def _with_models(given: argparse.Namespace) -> argparse.Namespace:
    """Where --checkpoint names no model, those among the files; where there are none, the one of the package."""
    from se3t.data.molecules.inputs import require_readable

    if not given.checkpoint:
        given.checkpoint = [path for path in given.files if _is_model(path)]
        given.files = [path for path in given.files if path not in given.checkpoint]
    if not given.files:
        raise UserError("predict: the molecules are missing; add a file, such as molecules.sdf")
    require_readable(given.files)
    if not given.checkpoint and pretrained.DEFAULT not in pretrained.names():
        raise UserError("predict: the model is missing; add its run folder, such as --checkpoint runs/qm9/…")
    # Its folder rather than its name, which a folder of the user may have.
    given.checkpoint = given.checkpoint or [pretrained.ROOT / pretrained.DEFAULT]
    return given


def _is_model(path: Path) -> bool:
    return path.is_dir() or path.suffix in _WEIGHTS or pretrained.find(path) is not None


def _write(out: Path | None, work: Callable[[Callable[[list[str]], object]], Any]) -> Any:
    """Do some work that writes rows: of a CSV file, which appears when it is complete, or to standard output."""
    if out is None:
        return work(_writer(sys.stdout))
    from se3t.files import write_atomically

    results: list[Any] = []

    def write_bytes(file: Any) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        results.append(work(_writer(text)))
        text.detach()  # flushed; the file stays open

    write_atomically(out, write_bytes)
    return results[0]


def _writer(file: Any) -> Callable[[list[str]], object]:
    writer, is_screen = csv.writer(file, lineterminator="\n"), file.isatty()
    return lambda cells: writer.writerow([csv_text(printable(cell) if is_screen else cell) for cell in cells])


def _describe(predictors: Sequence[Any], screen: TextIO) -> None:
    """What the numbers will be, and how far they can be trusted."""
    from se3t.data.molecules.graphs import spell_elements
    from se3t.deploy.predict import columns_of, what_it_is
    from se3t.experiments import dataset
    from se3t.experiments.qm9 import mae_names

    names = iter(columns_of(predictors))
    for predictor in predictors:
        facts, scores = predictor.facts, predictor.scores
        for score, metric in zip(scores, mae_names([score.target for score in scores]), strict=True):
            error = predictor.metrics.get(metric)
            accuracy = "" if error is None else f"; mean absolute error on validation {error:.3g} {score.unit}".rstrip()
            show(f"{next(names)}: {what_it_is(facts['kind'], score)}{accuracy}", file=screen)
        data = f"{facts['num_train']:,} molecules of {spell_elements(facts['elements_seen'])}"
        show(
            f"  {predictor.config.model.name}, step {predictor.step:,}, trained on {data} "
            f"({dataset(facts['kind']).label}; {pretrained.place(predictor.path)})",
            file=screen,
        )
        if predictor.domain is None:
            show("  trained by an earlier version: no warnings about atoms and bonds unlike the training", file=screen)


def _report(summary: Any, predictors: Sequence[Any], where: str, screen: TextIO) -> None:
    counts = summary.counts
    show(
        f"{where}: {counts['predicted']:,} predicted, {counts['warned']:,} of them with a warning; "
        f"{counts['refused']:,} not predicted",
        file=screen,
    )
    for texts in sorted(summary.warnings.values(), key=lambda texts: -texts.total())[:_LISTED]:
        several = " (the first of them)" if len(texts) > 1 else ""
        show(f"  warning ({texts.total():,}): {next(iter(texts))}{several}", file=screen)
    for row in summary.refusals:
        name = f" ({row.entry.identifier})" if row.entry.identifier else ""
        show(f"  not predicted: {row.entry.file} {row.entry.index or ''}{name}: {row.reason}", file=screen)
    if counts["refused"] > len(summary.refusals):
        show("  … column status has the reason of each", file=screen)
    if counts["embedded"]:
        show(_about_embedding(counts["embedded"], predictors), file=screen)


def _about_embedding(count: int, predictors: Sequence[Any]) -> str:
    from se3t.data.molecules.conversion import rdkit_version
    from se3t.experiments.qm9 import DATA

    is_qm9 = any(predictor.facts["kind"] == DATA.name for predictor in predictors)
    training = ", and the models were trained on B3LYP geometries: expect larger errors" if is_qm9 else ""
    return (
        f"  {count:,} from SMILES: RDKit {rdkit_version()} made their geometries (ETKDG, relaxed by a force field)"
        f"{training}"
    )
