"""``python -m benchmarks train``: a step of ``se3t train`` beside its model and optimiser alone, and its parts."""

from __future__ import annotations

import copy
import gc
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler
from torch import nn

from se3t.bench.options import Options
from se3t.bench.report import Column, Report, Row
from se3t.bench.timing import Spread, Step, clock_of
from se3t.config import Config, to_config
from se3t.config.compose import compose
from se3t.errors import UserError
from se3t.experiments import dataset
from se3t.runs import RunFolder
from se3t.suite.probe import random_task
from se3t.tasks import build_task
from se3t.tasks.base import Task
from se3t.training.feed import step_seed
from se3t.training.fit import fit
from se3t.training.module import TrainingModule
from se3t.training.run import Run, model_for

CASES = ("experiment=nbody preset=quick", "experiment=nbody", "experiment=qm9 preset=reduced", "experiment=qm9")
WHOLE, ALONE = "se3t train", "model, loss, optimiser alone"
COLUMNS = (
    Column("case", "settings"),
    Column("name", "what"),
    Column("step", "ms", "ms"),
    Column("step_quartiles", "quartiles", "range"),
    Column("share", "of a step", "share"),
    Column("overhead", "overhead", "share"),
    Column("by_parts", "by parts", "share"),
)
_FEEDING, _LOOP = "samples and graph", "loop and hooks"
_PARTS = {
    "Strategy.training_step": "forward, loss",
    "Strategy.backward": "backward",
    "TrainingModule.optimizer_step": "optimiser",
    "TrainingModule.optimizer_zero_grad": "clearing gradients",
    "TrainingModule.configure_gradient_clipping": "clipping gradients",
    "EMAWeights.on_train_batch_end": "averaging weights",
    "LossWatch.on_train_batch_end": "losses and record",
    _FEEDING: _FEEDING,
}
"""By the end of Lightning's name of an action; all others are part of the loop."""
_MODEL = ("forward, loss", "backward", "optimiser", "clearing gradients")  # what the model alone does, too
_STRETCH = 10  # steps of a turn
_MANY = 10**6
_SETTINGS = (
    *("logger.wandb=disabled", "trainer.progress=false", "trainer.cuda_graph=false", "trainer.devices=1"),
    *(f"trainer.{name}={_MANY}" for name in ("max_steps", "eval_every", "checkpoint_every")),
)


class Parts(PassThroughProfiler):
    """Seconds of the actions of a step, without those inside them; switched on for single steps.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock, self.is_on = clock, False
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def profile(self, action_name: str) -> AbstractContextManager[None]:
        """Measure an action."""
        return self._measured(action_name) if self.is_on else nullcontext()

    @contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        begin = self.clock()
        self._inner.append(0.0)
        try:
            yield
        finally:
            seconds = self.clock() - begin
            self.seconds[_part(name)] += seconds - self._inner.pop()
            if self._inner:
                self._inner[-1] += seconds

    def measured(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, measured as feeding."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.profile(_FEEDING):
                return function(*args, **kwargs)

        return call


def _part(action: str) -> str:
    name = action.rpartition("]")[2].replace("SingleDeviceStrategy", "Strategy")
    return _PARTS.get(name, _LOOP)


@dataclass
class Turns(Callback):
    """Last callback of a training: stretches of its steps, the same steps of the model alone, and steps by part.

    The model alone starts each turn with the present weights, and has samples and graphs ready.

    Attributes:
        run: what is trained.
        clock: seconds.
        stretch: steps of a stretch.
        turns: how many; the training then stops.
        seconds: from which on there is no further turn, after three.
        whole: seconds of a step of the training, by turn.
        alone: seconds of a step of the model alone, by turn.
        parts: seconds of each part, by step.
    """

    run: Run
    clock: Callable[[], float]
    stretch: int
    turns: int
    seconds: float
    whole: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    parts: list[Mapping[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.profiler, self._begin, self._start = Parts(self.clock), 0.0, time.perf_counter()
        for name in ("batch", "graph"):
            setattr(self.run.task, name, self.profiler.measured(getattr(self.run.task, name)))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask Lightning for its actions."""
        trainer.profiler = self.profiler

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Step 0 of a turn warms up, a stretch follows that is timed, then one by part."""
        now = self.clock()
        turn, place = divmod(trainer.global_step - 1, 2 * self.stretch + 1)
        if place == self.stretch and turn:
            self.whole.append((now - self._begin) / self.stretch)
            self.alone.append(self._alone(pl_module, trainer.global_step))
        if place > self.stretch and turn:
            self.parts.append({**self.profiler.seconds, WHOLE: now - self._begin})
        self.profiler.is_on = self.stretch <= place < 2 * self.stretch
        self.profiler.seconds.clear()
        late = time.perf_counter() - self._start > self.seconds and turn >= 3
        trainer.should_stop = place == 2 * self.stretch and (turn == self.turns or late)
        if place == 0:
            gc.collect()
        if place == 0 or place >= self.stretch:
            self._begin = self.clock()

    def _alone(self, module: LightningModule, end: int) -> float:
        run, model = self.run, copy.deepcopy(self.run.model)
        optimizer = TrainingModule(model, run.task, run.config).configure_optimizers()
        feed = module.train_dataloader()
        steps = []
        for number in range(end - self.stretch - 1, end):
            samples = run.task.batch("train", feed.batch(number), step_seed(run.config.seed, number))
            steps.append(Step(model, _loss_of(model, run.task, samples), run.config.trainer.precision))
        begin = 0.0
        for number, step in enumerate(steps):
            if number == 1:  # the first one warms up
                gc.collect()
                begin = self.clock()
            step.run(time.perf_counter)
            optimizer.step()
        return (self.clock() - begin) / self.stretch


def _loss_of(model: nn.Module, task: Task, samples: Any) -> Callable[[], torch.Tensor]:
    graph = task.graph(samples)
    return lambda: task.loss(model(graph), samples)


def run(options: Options, cases: Sequence[str] = CASES, root: str = "data") -> Report:
    """Time steps of a training and of its model alone, in turns in one process, on the same samples.

    Args:
        options: how.
        cases: settings of trainings, each as on the command line of ``se3t train``.
        root: folder of prepared data; random samples of the same sizes replace what is missing.

    Raises:
        UserError: for settings that no training has, or a model without weights.
    """
    report = Report(
        "train",
        "Training steps, whole and alone",
        COLUMNS,
        notes=[
            f"{WHOLE}: samples, averaging of weights, clipping, record, loop; without evaluations and checkpoints. "
            f"{ALONE}: on graphs that are ready, with the same weights; clearing gradients included. overhead: median "
            "over the turns. Parts: of further steps, without those inside them; they add up to the whole. by parts: "
            f"all others over {' + '.join(_MODEL)}, median over these steps. One thread: CPU time of the process."
        ],
        settings={"cases": list(cases), "root": root},
        group="case",
    )
    with options.measuring(report):
        for case in cases:
            words = [*case.split(), f"data.root={root}", *_SETTINGS]
            words.append(f"trainer.accelerator={'gpu' if options.device.startswith('cuda') else 'cpu'}")
            config = to_config(compose("train", words))
            report.rows += _measure(options, case, config, report.notes)
    return report


def _measure(options: Options, case: str, config: Config, notes: list[str]) -> list[Row]:
    turns = options.repetitions or (3 if options.quick else 9)
    seconds = options.seconds or (5.0 if options.quick else 60.0)
    with tempfile.TemporaryDirectory(prefix="se3t-") as folder:
        run = Run.prepare(config, RunFolder(Path(folder)), lambda config: _task_and_model(config, case, notes))
        if not run.num_parameters:
            raise UserError(f"{case}: the model has no weights")
        run.folder.checkpoints.mkdir()
        run.writers = [run.folder.append_metrics]
        measured = Turns(run, _clock(options), 3 if options.quick else _STRETCH, turns, seconds)
        fit(run, callbacks=[measured])
    return _rows(case, measured)


def _clock(options: Options) -> Callable[[], float]:
    """CPU time of one thread, which other processes hardly change; else the time of day."""
    return time.process_time if options.device == "cpu" and options.threads == 1 else clock_of(options.device)


def _task_and_model(config: Config, case: str, notes: list[str]) -> tuple[Task, nn.Module]:
    path = dataset(config.data.name).store_path(config.data)
    if not path.exists():
        notes.append(f"{case}: no prepared data in {config.data.root}: random samples of the same sizes.")
    task = build_task(config) if path.exists() else random_task(config)
    torch.manual_seed(config.seed)
    return task, model_for(config, task)


def _rows(case: str, measured: Turns) -> list[Row]:
    def row(name: str, seconds: list[float], **more: float) -> Row:
        spread = Spread.of(seconds)
        return {"case": case, "name": name, "step": spread.median, "step_quartiles": [spread.low, spread.high], **more}

    pairs = zip(measured.whole, measured.alone, strict=True)
    overhead = statistics.median(whole / alone - 1 for whole, alone in pairs)
    parts = {name: [step.get(name, 0.0) for step in measured.parts] for name in (*_PARTS.values(), WHOLE)}
    total = parts.pop(WHOLE)
    parts[_LOOP] = [whole - sum(values) for whole, *values in zip(total, *parts.values(), strict=True)]
    of = statistics.median(total)
    own = [sum(step.get(name, 0.0) for name in _MODEL) for step in measured.parts]
    by_parts = statistics.median(whole / alone - 1 for whole, alone in zip(total, own, strict=True))
    return [
        row(WHOLE, measured.whole, overhead=overhead, by_parts=by_parts, turns=len(measured.whole)),
        row(ALONE, measured.alone),
        *(row(f"  {name}", values, share=statistics.median(values) / of) for name, values in parts.items()),
    ]
