"""What a training does to its run folder, without learning anything. Runs as a process of its own and loads no torch:
``python stub.py <run folder> <settings as JSON> <seconds of a step> <trace file>``.
"""

import fcntl
import hashlib
import json
import os
import sys
import time
from pathlib import Path

from se3t.cli.child import end_with_parent
from se3t.errors import BusyError


def main() -> int:
    end_with_parent()
    folder, settings, seconds, trace = Path(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    lock = (folder / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"se3t: {folder}: another process is training this run; wait for it to end or stop it")
        return BusyError.status
    write(folder / "config.yaml", json.dumps(settings))
    return train(folder, settings, seconds, trace)


def train(folder: Path, settings: dict, seconds: float, trace: str) -> int:
    saved = sorted((folder / "checkpoints").glob("step-*.ckpt"))
    step, value = (int(saved[-1].stem[5:]), saved[-1].read_text()) if saved else (0, str(settings["seed"]))
    tell(trace, f"{folder.name} from {step}")
    while step < settings["trainer"]["max_steps"]:
        time.sleep(seconds)
        if settings["optim"]["lr"] > 1:
            print("se3t: nothing to see here\nse3t: the training loss became nan in step 1; lower optim.lr")
            return 2
        step, value = step + 1, hashlib.sha256(value.encode()).hexdigest()
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"kind": "valid", "step": step, "loss": 1 / step}) + "\n")
        write(folder / "checkpoints" / f"step-{step:010d}.ckpt", value)
    budget = {"max_steps": step, "steps_done": step}
    content = {"config": settings, "budget": budget, "parameters": 1, "value": value, "data": {"distinct_samples": 7}}
    write(folder / "result.json", json.dumps(content))
    tell(trace, f"{folder.name} finished")
    return 0


def tell(trace: str, line: str) -> None:
    with Path(trace).open("a") as file:
        file.write(line + "\n")


def write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
