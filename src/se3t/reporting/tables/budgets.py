"""How runs were trained beside what the paper did, budget and network, as cells, words and notes of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from se3t.config.presets import settings_of_preset
from se3t.experiments import experiment
from se3t.experiments.table import PublishedTable
from se3t.reporting.spelling import span
from se3t.reporting.tables.layout import (
    DIFFERENT,
    FULL,
    OTHER_NETWORK,
    REDUCED,
    REDUCED_BUDGET,
    SMALLER,
    Cell,
)
from se3t.runs import RunRecord

_SAME_NETWORK = ("name", "ablation", "kernel", "memory", "fuse_key_value")  # how it is computed; ablations have a table
_NO_SIZE = ("num_heads", "channels_div", "num_inducing")  # less of these is not less of a network


def cost(runs: Sequence[RunRecord], published: PublishedTable | None, *, tells_batch: bool = True) -> list[Cell]:
    """Parameters and steps, marked where network or budget are not the paper's.

    Args:
        runs: of one line.
        published: None: there is nothing to compare with.
        tells_batch: whether a batch size that is not the paper's stands beside the steps.
    """
    parameters = span(run.parameters for run in runs)
    batch, mark = "", ""
    if published is not None:
        parameters += f" {OTHER_NETWORK}" if network(runs[0], published) else ""
        batch = f" x {runs[0].batch_size}" if tells_batch and runs[0].batch_size != published.batch_size else ""
        mark = f" {REDUCED}" if is_reduced(runs, published.samples) else ""
    return [Cell(text=parameters), Cell(text=steps(runs, batch) + mark)]


def steps(runs: Sequence[RunRecord], what: str = "") -> str:
    """How many steps were done: of how many, where there were to be more; in what time, where it has ended them.

    Args:
        runs: of one line.
        what: stands behind the number.
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


def notes(groups: Sequence[Sequence[RunRecord]], published: PublishedTable | None) -> Iterator[str]:
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
    found = _differences(run, published)
    if not found:
        return ""
    return SMALLER if all(_is_less(name, *pair) for name, pair in found.items()) else DIFFERENT


def _differences(run: RunRecord, published: PublishedTable) -> dict[str, tuple[Any, Any]]:
    """Settings of the network with the value in the run and that of the published one, or of the paper's preset: of
    several the nearest one.
    """
    found = []
    presets = experiment(run.experiment).paper_presets
    networks = [settings_of_preset(run.experiment, preset, run.model) for preset in presets]
    for expected in [published.networks.get(run.model, {})] if published.networks else networks:
        pairs = {
            name.removeprefix("model."): (run.settings[name], value)
            for name, value in expected.items()
            if name.startswith("model.") and run.settings.get(name, value) != value
        }
        found.append({name: pair for name, pair in pairs.items() if name not in _SAME_NETWORK})
    return min(found, key=len, default={})


def _is_less(name: str, own: Any, papers: Any) -> bool:
    is_size = type(own) is int and type(papers) is int and name not in _NO_SIZE
    return is_size and bool(own < papers)
