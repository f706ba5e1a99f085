"""Rows of a table from their runs: numbers, seeds, and how budget and network differ from the paper's."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from se3t.config.presets import settings_of_preset
from se3t.experiments import experiment
from se3t.experiments.table import Estimate, PublishedTable
from se3t.reporting.spelling import span
from se3t.reporting.tables.layout import DIFFERENT, FULL, OTHER_NETWORK, REDUCED, REDUCED_BUDGET, SMALLER, Cell
from se3t.runs import RunRecord

# how it is computed; ablations have their own table
_SAME_NETWORK = ("name", "ablation", "kernel", "memory", "fuse_key_value")
_NO_SIZE = ("num_heads", "channels_div", "num_inducing")  # less of these is not less of a network


def mean(values: Sequence[tuple[RunRecord, float]]) -> Estimate | None:
    """Mean and standard deviation; None when there are no runs."""
    numbers = [value for _, value in values]
    if not numbers:
        return None
    return Estimate(statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None)


def beside(cell: Cell, published: Estimate | None) -> Cell:
    """The cell with the published number and the ratio to it."""
    if cell.estimate is None or published is None or published.value == 0:
        return replace(cell, published=published)
    return replace(cell, published=published, ratio=cell.estimate.value / published.value)


def facts(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Facts of the runs of a row."""
    return {
        "seeds": seeds_of([runs]),
        "parameters": tuple(sorted({run.parameters for run in runs})),
        "steps": tuple(sorted({run.steps_done for run in runs})),
        "records": tuple(run.origin for run in runs),
    }


def seeds_of(groups: Iterable[Sequence[RunRecord]]) -> tuple[int, ...]:
    """All seeds of some rows, sorted."""
    return tuple(sorted({run.seed for group in groups for run in group}))


def seeds_in_words(runs: Sequence[RunRecord], all_seeds: Iterable[int]) -> str:
    """How many seeds; and which, where other rows have more or other ones.

    ``3 seeds``, ``2 of 3 seeds: 0, 2``; where the numbers of a row have several numbers of seeds ``1 … 2 of 2 seeds:
    0, 1``.
    """
    every, seeds = tuple(all_seeds), seeds_of([runs])
    by_number: dict[Any, set[int]] = {}
    for run in runs:
        by_number.setdefault(run.repeat[:-1], set()).add(run.seed)  # the last of what tells runs apart is the seed
    counts = span(len(seeds) for seeds in by_number.values())
    if seeds == every and counts == f"{len(seeds)}":
        return f"{counts} seed" + "s" * (len(seeds) > 1)
    return f"{counts} of {len(every)} seeds: {', '.join(map(str, seeds))}"


def spread_note(groups: Iterable[Sequence[RunRecord]]) -> list[str]:
    """The note on ±, where a row has several seeds."""
    has_several = any(len({run.seed for run in group}) > 1 for group in groups)
    return ["±: standard deviation over seeds."] if has_several else []


# --- budget and network -----------------------------------------------------------------------------------------------


def cost(runs: Sequence[RunRecord], published: PublishedTable | None, *, tells_batch: bool = True) -> list[Cell]:
    """Parameters and steps, marked where network or budget are not the paper's.

    Args:
        runs: of one line.
        published: None: there is nothing to compare with.
        tells_batch: whether to add a batch size that is not the paper's to the steps.
    """
    parameters = span(run.parameters for run in runs)
    batch, mark = "", ""
    if published is not None:
        parameters += f" {OTHER_NETWORK}" if network(runs[0], published) else ""
        batch = f" x {runs[0].batch_size}" if tells_batch and runs[0].batch_size != published.batch_size else ""
        mark = f" {REDUCED}" if is_reduced(runs, published.samples) else ""
    return [Cell(text=parameters), Cell(text=steps_in_words(runs, batch) + mark)]


def steps_in_words(runs: Sequence[RunRecord], what: str = "") -> str:
    """The steps done; of how many, where there were to be more; in what time, where a time budget has ended them.

    Args:
        runs: of one line.
        what: text behind the number.
    """
    done, time = span(run.steps_done for run in runs), _time(runs)
    if time:
        return f"{done}{what} in {time}"
    asked = runs[0].max_steps
    return done + (f" of {asked:,}" if min(run.steps_done for run in runs) < asked else "") + what


def _time(runs: Sequence[RunRecord]) -> str:
    """The time budget that has ended some of the runs, in words; "" where there is none."""
    return next((run.ended_in for run in runs if run.ended_in), "")


def how_trained(runs: Sequence[RunRecord], published: PublishedTable | None) -> list[str]:
    """Budget and network beside those of the paper, in the words of tables; None: there is nothing to compare with."""
    if published is None:
        return []
    word = network(runs[0], published)
    return [REDUCED_BUDGET if is_reduced(runs, published.samples) else FULL, *([word] if word else [])]


def budget_notes(groups: Sequence[Sequence[RunRecord]], published: PublishedTable | None) -> Iterator[str]:
    """What the signs of ``cost`` mean, for the trained lines of a table."""
    times = list(dict.fromkeys(filter(None, map(_time, groups))))
    if times:
        yield f"in {', '.join(times)}: as many steps as the time for training (trainer.max_time) allowed."
    if published is None or not groups:
        return
    if any(is_reduced(group, published.samples) for group in groups):
        seen = f"fewer samples seen than the paper's {published.samples:,} ({published.budget})"
        yield f"{REDUCED} reduced budget: {seen}."
    else:
        yield f"Full budget: {published.budget}, or more."
    names: dict[str, list[str]] = {}
    for group in groups:
        names.setdefault(network(group[0], published), []).extend(_differences(group[0], published))
    presets = " or ".join(experiment(groups[0][0].experiment).paper_presets)
    papers = "the published one" if published.networks else f"that of preset {presets}"
    for word in (word for word in (SMALLER, DIFFERENT) if word in names):
        yield f"{OTHER_NETWORK} {word} than {papers}: {', '.join(dict.fromkeys(names[word]))}."


def is_reduced(runs: Iterable[RunRecord], full: int) -> bool:
    """Whether some run saw fewer samples than the budget of the paper shows to a network."""
    return min(run.steps_done * run.batch_size for run in runs) < full


def network(run: RunRecord, published: PublishedTable) -> str:
    """Whether the network is another one than that of the paper, in the words of tables; "" where it is not."""
    differences = _differences(run, published)
    if not differences:
        return ""
    return SMALLER if all(_is_less(name, *pair) for name, pair in differences.items()) else DIFFERENT


def _differences(run: RunRecord, published: PublishedTable) -> dict[str, tuple[Any, Any]]:
    """Settings of the network with the value in the run and that of the published one, or of the paper's preset: of
    several the nearest one.
    """
    by_network = []
    presets = experiment(run.experiment).paper_presets
    networks = [settings_of_preset(run.experiment, preset, run.model) for preset in presets]
    for expected in [published.networks.get(run.model, {})] if published.networks else networks:
        pairs = {
            name.removeprefix("model."): (run.settings[name], value)
            for name, value in expected.items()
            if name.startswith("model.") and run.settings.get(name, value) != value
        }
        by_network.append({name: pair for name, pair in pairs.items() if name not in _SAME_NETWORK})
    return min(by_network, key=len, default={})


def _is_less(name: str, value: Any, published: Any) -> bool:
    is_size = type(value) is int and type(published) is int and name not in _NO_SIZE
    return is_size and bool(value < published)
