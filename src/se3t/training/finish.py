"""The end of a run: the last weights are measured, the best ones chosen, and measured on the test split, once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from se3t.runs import read_json
from se3t.runs.files import digest_of, digest_of_metrics, write_json
from se3t.runs.names import BEST, CHECKPOINTS, DETAILS, DIGESTS, METRICS, OVERRIDES
from se3t.training import checkpoint as ckpt
from se3t.training import record
from se3t.training.evaluation import peak_memory_bytes
from se3t.training.run import Run
from se3t.training.state import RunState

_log = logging.getLogger(__name__)


def catch_up(run: Run) -> None:
    """Repeat an evaluation that a signal has interrupted, before the training continues: the checkpoint is then what
    it would be without the signal.
    """
    if run.resumed is None or not run.state.evaluation_due:
        return
    step, content = run.resumed.step, run.resumed.content
    run.to_device()
    metrics = run.measure_weights(content["state_dict"], "valid")
    run.write_validation(step, metrics, run.state.steps_per_second(step))
    run.judge(step, metrics, dict(content["state_dict"]), content.get("current_model_state"))
    run.state.evaluation_due = False
    content["run"] = dict(vars(run.state))
    ckpt.write_checkpoint(run.resumed.path, content)


def finish(run: Run) -> None:
    """Write ``best.ckpt`` and ``result.json``. Nothing but the run folder is needed, with the checkpoint of the last
    step (none for a model without parameters), so it can be done again after an interruption.
    """
    run.to_device()
    last = ckpt.newest_checkpoint(run.folder.checkpoints)
    step, run.state = (0, RunState()) if last is None else (last.step, last.state)
    best = _choose(run, last)
    run.write_best(best)
    test, details = _test(run, best)
    digests = {METRICS: digest_of_metrics(run.folder.read_metrics())}
    if details:
        write_json(run.folder.details, {"split": "test", **run.task.facts(), **details})
        digests[DETAILS] = digest_of(read_json(run.folder.details))
    digests[f"{CHECKPOINTS}/{BEST}"] = ckpt.digest_of_best(best)
    overrides = run.folder.read_overrides()
    typed = {} if overrides is None else {OVERRIDES: overrides}
    write_json(run.folder.result, {**_result(run, step, best, test), **typed, DIGESTS: digests}, sealed=True)


def _choose(run: Run, last: ckpt.Checkpoint | None) -> dict[str, Any]:
    """The weights with the lowest validation loss, the last ones among them."""
    step, best = (0, None) if last is None else (last.step, run.state.best)
    if last is None or step % run.config.trainer.eval_every:  # no evaluation fell on the last step
        weights = {ckpt.PREFIX + name: value for name, value in run.model.state_dict().items()}
        content = {"state_dict": weights} if last is None else last.content
        metrics = run.measure_weights(content["state_dict"], "valid")
        run.write_validation(step, metrics, run.state.steps_per_second(step), final=True)
        if best is None or metrics["loss"] < run.state.best_loss:
            best = ckpt.best_of(run.task, step, metrics, content["state_dict"], content.get("current_model_state"))
    assert best is not None
    return best


def _test(run: Run, best: Mapping[str, Any]) -> tuple[dict[str, float] | None, dict[str, list[Any]]]:
    """Metrics and details of the chosen weights on the test split, where there is one."""
    details: dict[str, list[Any]] = {}
    if not run.task.size("test"):
        _log.warning("the data hold no test split: the result is the validation error of the chosen weights")
        return None, details
    metrics = run.measure_weights(best["state_dict"], "test", details)
    run.write("test", best["step"], {**metrics, "final": True})
    return metrics, details


def _result(run: Run, step: int, best: Mapping[str, Any], test: dict[str, float] | None) -> dict[str, Any]:
    config, trainer, state = run.config, run.config.trainer, run.state
    return {
        "status": "finished",
        "experiment": config.experiment,
        "model": config.model.name,
        "preset": config.preset,
        "seed": config.seed,
        "budget": {
            "max_steps": trainer.max_steps,
            "max_time": trainer.max_time,
            "batch_size": trainer.batch_size,
            "steps_done": step,
            "seconds": state.seconds,
            "training_seconds": state.training_seconds,
            "stopped_early": state.stopped_early,
            "ended_by": state.ended_by(step, trainer),
        },
        "parameters": run.num_parameters,
        "data": run.task.describe(),
        "test": test,
        "valid": best["metrics"],
        "units": dict(run.task.units),
        "best_step": best["step"],
        "versions": record.versions(),
        "steps_per_second": state.steps_per_second(step),
        "samples_per_second": state.steps_per_second(step) * trainer.batch_size,
        "peak_memory_bytes": peak_memory_bytes(run.device),  # of the whole process, whatever it did before this run
        "config": asdict(config),
        "command": record.command_line(),
    }
