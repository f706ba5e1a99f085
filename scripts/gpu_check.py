"""Check a GPU in a quarter of an hour: correctness, tile sizes, speed, and a trained network.

  scripts/gpu_check.sh                            14 minutes on the GPU of this machine
  scripts/gpu_check.sh --minutes 30               all limits in proportion
  scripts/gpu_check.sh --device cpu --minutes 5   the same phases without a GPU, small, the Triton kernel interpreted
  scripts/gpu_check.sh --only tests,qm9           some phases; what others have left in --out stays

Phases: versions, tests, tiles, qm9, steps, sh, scaling, train. One that fails or takes too long does not stop the next.
The training has the rest of the time, with the kernel and the precision that phase qm9 found fastest: HOMO where
DATA/qm9/qm9.h5 is prepared, else N-body. The checkout need not be installed.

Results, at most 8 files of 16 MB in --out: log.txt, summary.json, tiles.json, qm9.json, steps.json, sh.json,
scaling.json, run.tar.gz (record and best weights; unpack it in a checkout and se3t table 3 reads it).
Status 1 when a phase failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
WHOLE = {"cuda": 840.0, "cpu": 300.0}
"""Seconds that the limits of phases are given for."""
KEPT = {"cuda": 240.0, "cpu": 40.0}
"""Seconds of these that other phases leave to the training."""
GRACE = 8.0
"""Seconds that a phase may take to end when its time is up."""
MOST_BYTES = 16_000_000
OTHERS = "nbody nbody_attentive qm9_complete pointcloud pointcloud_deg3 pointcloud_k10"


class StoppedError(Exception):
    """Ended by a signal."""


@dataclass(frozen=True)
class Phase:
    """A command that is run with this Python.

    Attributes:
        name: on the command line.
        seconds: its limit, at most.
        words: of the command, given the limit that is in effect.
        file: that it leaves behind.
        stop: the signal at its limit: pytest tells of failures when it is interrupted.
    """

    name: str
    seconds: float
    words: Callable[[float], list[str]]
    file: str = ""
    stop: int = signal.SIGTERM


def phases(given: argparse.Namespace, work: Path) -> list[Phase]:
    """All phases in order: those that find errors, and those that later ones depend on, come first."""
    on_gpu, out = given.device == "cuda", given.out

    def bench(name: str, seconds: float, gpu: str, cpu: str, what: str = "") -> Phase:
        def words(limit: float) -> list[str]:
            own = (gpu if on_gpu else f"{cpu} --quick").format(most=max(1, int(0.8 * limit - 5)))
            file = [] if name == "tiles" else ["--json", str(out / f"{name}.json")]
            command = ["benchmarks", what] if what else ["se3t", "bench", name]
            return ["-m", *command, "--device", given.device, *own.split(), *file]

        return Phase(name, seconds, words, f"{name}.json")

    quick = "--contenders auto edge_frame --repetitions 1 --no-memory"
    return [
        Phase("versions", 30, lambda limit: ["-m", "se3t", "doctor", "--root", str(given.data)]),
        Phase("tests", 240 if on_gpu else 160, lambda limit: _tests(on_gpu), stop=signal.SIGINT),
        bench(
            "tiles",
            150 if on_gpu else 35,
            "--num-graphs 240 --precision bf16 tf32 --seconds {most}",
            "--workload nbody --num-graphs 1 --seconds {most}",
            "tiles",
        ),
        bench(
            "qm9",
            120 if on_gpu else 40,
            "--workload qm9 --num-graphs 240 --contenders triton edge_frame edge_frame-low --precision tf32 bf16 "
            "--no-memory --seconds 20",
            f"--workload qm9 {quick}",
            "step",
        ),
        bench(
            "steps",
            100 if on_gpu else 60,
            f"--workload {OTHERS} --contenders triton edge_frame vectorised --precision tf32 bf16 --no-memory "
            "--seconds 5",
            f"--workload nbody pointcloud --num-graphs 1 {quick}",
            "step",
        ),
        bench("sh", 40 if on_gpu else 30, "--contenders se3t --seconds 0.5", "--contenders se3t --seconds 1"),
        bench(
            "scaling",
            60,
            "--contenders triton edge_frame --max-edges 300000 --no-memory --seconds 1",
            "--contenders native edge_frame --repetitions 1 --max-edges 2000 --no-memory --seconds 1",
        ),
        Phase("train", WHOLE[given.device], lambda limit: _training(given, work, limit), "run.tar.gz"),
    ]


def _tests(on_gpu: bool) -> list[str]:
    several = on_gpu and (os.cpu_count() or 1) >= 8 and importlib.util.find_spec("xdist") is not None
    return ["-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu"] + (
        ["-n", "4", "--dist", "loadfile"] if several else []  # most of the time goes into compiling kernels
    )


def _training(given: argparse.Namespace, work: Path, limit: float) -> list[str]:
    """Part of the time is for start, evaluations, checkpoints and the last measurement."""
    on_gpu, words = given.device == "cuda", ["experiment=nbody", "preset=quick"]
    if (given.data / "qm9/qm9.h5").is_file():
        budget = ["preset=fast", "trainer.eval_every=1500", "trainer.checkpoint_every=6000"]
        words = ["experiment=qm9", "task=homo", *(budget if on_gpu else ["preset=smoke"]), *_fastest(given.out)]
    seconds = max(1, int(0.7 * (limit - 15)))
    return [
        *("-m", "se3t", "train", *words),
        f"trainer.accelerator={'gpu' if on_gpu else 'cpu'}",
        "trainer.max_steps=10000000",
        f"trainer.max_time={seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}",
        *("trainer.progress=false", "logger.wandb=disabled"),
        *(f"data.root={given.data}", f"runs={work / 'runs'}"),
    ]


def _fastest(out: Path) -> list[str]:
    try:
        found = json.loads((out / "qm9.json").read_text(encoding="utf-8"))["facts"]["fastest_settings"]["qm9"]
        return [str(word) for word in found]
    except (OSError, ValueError, KeyError, TypeError):  # phase qm9 did not get that far
        return []


class Check:
    """Runs phases, one after the other, and keeps their output.

    Args:
        given: the command line.
        work: folder for what is only needed meanwhile.
    """

    def __init__(self, given: argparse.Namespace, work: Path) -> None:
        self.given, self.work, self.end = given, work, time.monotonic() + 60 * given.minutes
        self.failures = 0
        self.summary = given.out / "summary.json"
        self.log = (given.out / "log.txt").open("a", encoding="utf-8")
        site = [str(work / "site")] if given.wheels else []
        paths = [*site, str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "WANDB_MODE": "disabled",
            "SE3T_TILES": str(given.out / "tiles.json"),
            "SE3T_TEST_DEVICE": given.device,
            **({} if given.device == "cuda" else {"TRITON_INTERPRET": "1"}),
        }

    def say(self, text: str) -> None:
        """Print a line, and add it to the log."""
        print(text, flush=True)
        self.log.write(f"{text}\n")
        self.log.flush()

    def run(self, phase: Phase) -> None:
        """Run a phase within its limit and the total one; the training may use all time left."""
        scale = 60 * self.given.minutes / WHOLE[self.given.device]
        left = self.end - time.monotonic() - GRACE - 4
        left -= KEPT[self.given.device] * scale if phase.name != "train" and "train" in self.given.only else 0
        limit = min(max(5.0, phase.seconds * scale), left)
        if limit < 5:
            self.say(f"== {phase.name}: not run, the time is up")
            self.record(phase.name, "not run", 0.0, 0.0, "")
            return
        words = phase.words(limit)
        self.say(f"== {phase.name}, at most {limit:.0f} s: {shlex.join(words)}")
        begun = time.monotonic()
        result, line = self.watch(words, limit, phase.stop)
        seconds = time.monotonic() - begun
        self.say(f"== {phase.name}: {result}, {seconds:.0f} s: {line}")
        self.record(phase.name, result, seconds, limit, line)

    def watch(self, words: Sequence[str], limit: float, stop: int) -> tuple[str, str]:
        """Run a command to its end or its limit; returns how it ended, and its last line. All its processes end."""
        last = [""]
        with subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=ROOT,
            env=self.environment,
            start_new_session=True,
        ) as process:

            def read() -> None:
                assert process.stdout is not None
                for text in process.stdout:
                    self.say(text.rstrip("\n"))
                    last[0] = text.strip() or last[0]

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            in_time = True
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                in_time = False
            finally:
                _end(process, stop)
                reader.join(2)
        status = process.returncode
        result = "ok" if status == 0 else f"failed, status {status}"
        return result if in_time else "time limit", last[0][:200]

    def record(self, name: str, result: str, seconds: float, limit: float, line: str) -> None:
        """Update summary.json: replaces the entry of an earlier call."""
        self.failures += result != "ok"
        own = {"phase": name, "result": result, "seconds": round(seconds), "limit": round(limit), "line": line}
        try:
            before = json.loads(self.summary.read_text(encoding="utf-8"))["phases"]
        except (OSError, ValueError, KeyError, TypeError):
            before = []
        kept = [entry for entry in before if entry["phase"] != name]
        content = {"device": self.given.device, "minutes": self.given.minutes, "phases": [*kept, own]}
        temporary = self.summary.with_suffix(".part")
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(self.summary)

    def archive(self) -> None:
        """The run so far: a checkpoint to resume from only where there are no best weights."""
        for config in sorted((self.work / "runs").glob("*/*/*/config.yaml")):
            folder, file = config.parent, self.given.out / "run.tar.gz"
            if (folder / "checkpoints/best.ckpt").is_file():
                for path in folder.glob("checkpoints/step-*.ckpt"):
                    path.unlink()
            _pack(file, folder, self.work)
            if file.stat().st_size > MOST_BYTES:
                _pack(file, folder, self.work, without=".ckpt")
                self.say(f"the weights take more than {MOST_BYTES / 1e6:.0f} MB and were left out of {file.name}")


def _end(process: subprocess.Popen[str], stop: int) -> None:
    """Wait for a process to end, else kill it and its children."""
    try:
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            if process.poll() is None:
                os.killpg(process.pid, stop)
                process.wait(GRACE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _pack(file: Path, folder: Path, root: Path, without: str = "\n") -> None:
    with tarfile.open(file, "w:gz") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.endswith(without):
                archive.add(path, path.relative_to(root))


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, with absolute paths."""
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["versions", "tests", "tiles", "qm9", "steps", "sh", "scaling", "train"]

    def some(text: str) -> list[str]:
        found = [word.strip() for word in text.split(",")]
        for word in found:
            if word not in names:
                raise argparse.ArgumentTypeError(f"{word!r} is unknown; expected {', '.join(names)}")
        return found

    def positive(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
        return int(text)

    def wheels(text: str) -> Path:
        if not any(Path(text).glob("*.whl")):
            raise argparse.ArgumentTypeError(f"{text}: holds no .whl")
        return Path(text).absolute()

    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--minutes", type=positive, default=14, metavar="N", help="for everything (14)")
    parser.add_argument("--only", type=some, default=names, metavar="PHASE,…", help="only these phases")
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="DIR", help="prepared data (data)")
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), metavar="DIR", help="results (results/gpu)")
    parser.add_argument(
        "--wheels", type=wheels, metavar="DIR", help="packages that this Python lacks, for this check alone"
    )
    given = parser.parse_args(words)
    given.data, given.out = given.data.absolute(), given.out.absolute()
    return given


def main() -> int:
    """Run the chosen phases."""
    given = parse()
    given.out.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        work = Path(folder)
        chosen = [phase for phase in phases(given, work) if phase.name in given.only]
        stale = [phase.file for phase in chosen] + (["log.txt", "summary.json"] if len(chosen) == 8 else [])
        for name in filter(None, stale):
            (given.out / name).unlink(missing_ok=True)
        check = Check(given, work)
        if given.wheels:
            pip = ["pip", "install", "-q", "--no-index", "--no-deps", "--disable-pip-version-check", "--no-compile"]
            files = sorted(map(str, given.wheels.glob("*.whl")))
            subprocess.run([sys.executable, "-m", *pip, "--target", str(work / "site"), *files], check=True)
        if (smi := shutil.which("nvidia-smi")) is not None:
            check.say(subprocess.run([smi], capture_output=True, text=True, check=False).stdout)
        store = given.data / "qm9/qm9.h5"
        if "train" in given.only and not store.is_file():
            check.say(
                f"no {store}: trains N-body in place of HOMO; se3t data prepare qm9 data.root={given.data} makes it"
            )
        status = 0
        try:
            for phase in chosen:
                check.run(phase)
        except StoppedError as stop:
            check.say(f"stopped by signal {stop.args[0]}")
            status = 128 + stop.args[0]
        check.archive()
        size = sum(path.stat().st_size for path in given.out.iterdir() if path.is_file())
        used = 60 * given.minutes - (check.end - time.monotonic())
        check.say(
            f"done in {used:.0f} s of {60 * given.minutes}: {size / 1e6:.1f} MB in {given.out}, "
            f"{check.failures} of {len(chosen)} phases failed"
        )
    check.log.close()
    return status or int(check.failures > 0)


def _stopped(number: int, frame: Any) -> NoReturn:
    for other in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise StoppedError(number)


if __name__ == "__main__":
    sys.exit(main())
