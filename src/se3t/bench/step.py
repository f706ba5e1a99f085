"""One training step of the SE(3)-Transformer, forward and backward with the basis: every kernel, and a peer.

Run it as ``python benchmarks/step.py`` or ``python -m se3t.bench.step``. Before anything is timed, every kernel is
compared with the reference kernel in float64.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from se3t.bench import peer
from se3t.bench.timing import Step, StepTime, peak_memory, time_steps
from se3t.config import SE3TransformerModel
from se3t.errors import UserError, did_you_mean
from se3t.fiber import Fiber
from se3t.graph import Graph, fully_connected
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import RadialNetwork
from se3t.nn.kernels import KERNELS

TOLERANCE = 1e-12  # largest relative difference between kernels, float64
FIBER_IN, FIBER_OUT = Fiber("1x0+2x1"), Fiber("2x1")
PEER = "peer"
SEPARATE = "-separate"  # ending of a contender whose keys and values have a radial network each, as the peer's
MEMORY = {"-low": "low", "-speed": "speed"}  # endings of contenders that keep no radial weights, or all of them
CONTENDERS = (*KERNELS, *(f"edge_frame{ending}" for ending in MEMORY), f"vectorised{SEPARATE}", PEER)


@dataclass(frozen=True)
class Settings:
    """What is measured: the N-body model of Table 1 on complete graphs with one invariant edge feature."""

    num_graphs: int = 128
    num_points: int = 5
    num_layers: int = 4
    num_degrees: int = 4
    channels: int = 8
    channels_div: int = 4
    num_heads: int = 2
    radial_hidden: int = 32
    device: str = "cpu"
    repetitions: int = 20
    warmup: int = 3
    threads: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """A contender's figures: seconds, bytes (None where not measured), and the size of its work."""

    name: str
    time: StepTime
    peak_memory: int | None
    parameters: int
    weights_per_edge: int
    difference: float | None


def random_graph(settings: Settings, dtype: torch.dtype = torch.float32) -> Graph:
    """Complete graphs with normal positions and features and a charge product ±1 on every edge."""
    source = torch.Generator().manual_seed(settings.seed)
    batch = torch.arange(settings.num_graphs).repeat_interleave(settings.num_points)
    edge_index = fully_connected(batch)
    charge = torch.randint(0, 2, (len(batch), 1, 1), generator=source, dtype=dtype) * 2 - 1
    positions, velocities = torch.randn(2, len(batch), 3, generator=source, dtype=dtype)
    return Graph(
        positions=positions,
        features={0: charge, 1: torch.stack((positions, velocities), dim=1)},
        edge_index=edge_index,
        batch=batch,
        num_graphs=settings.num_graphs,
        edge_scalars=(charge[edge_index[0]] * charge[edge_index[1]])[:, 0],
    ).to(settings.device)


def build_model(settings: Settings, name: str) -> SE3Transformer:
    """Our model with the kernel of that name; the same weights for every kernel."""
    config = SE3TransformerModel(
        num_layers=settings.num_layers,
        num_degrees=settings.num_degrees,
        channels=settings.channels,
        channels_div=settings.channels_div,
        num_heads=settings.num_heads,
        radial_hidden=settings.radial_hidden,
        self_interaction="attentive",
        skip="cat",
        norm="bias",
        share_radial="none",
        fuse_key_value=not name.endswith(SEPARATE),
        kernel=name.removesuffix(SEPARATE).removesuffix("-low").removesuffix("-speed"),
        memory=next((memory for ending, memory in MEMORY.items() if name.endswith(ending)), "auto"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = SE3Transformer.from_config(
            config, fiber_in=FIBER_IN, fiber_out=FIBER_OUT, num_edge_scalars=1, horizon=1.0
        )
    return model.to(settings.device)


def build_step(settings: Settings, name: str) -> Step:
    """A contender's step on its own copy of the batch."""
    graph = random_graph(settings)
    if name == PEER:
        return Step(
            *peer.build_peer(
                graph,
                FIBER_OUT,
                depth=settings.num_layers - 2,
                num_degrees=settings.num_degrees,
                channels=settings.channels,
                num_heads=settings.num_heads,
                head_channels=max(1, settings.channels // settings.channels_div // settings.num_heads),
                radial_hidden=settings.radial_hidden,
            )
        )
    model = build_model(settings, name)
    return Step(model, lambda: torch.cat([value.flatten() for value in model(graph).values()]).square().mean())


def difference_from_reference(settings: Settings, name: str) -> float:
    """Largest difference of a kernel's output from the reference kernel's over the latter's largest value, float64."""
    small = dataclasses.replace(settings, num_graphs=min(8, settings.num_graphs))
    graph = random_graph(small, torch.float64)
    model = build_model(small, name).double()
    suffix = SEPARATE if name.endswith(SEPARATE) else ""
    reference = build_model(small, f"reference{suffix}").double()
    reference.load_state_dict(model.state_dict())
    with torch.no_grad():
        actual, expected = model(graph), reference(graph)
    gap = max(float((actual[degree] - expected[degree]).abs().max()) for degree in expected)
    return gap / max(float(value.abs().max()) for value in expected.values())


def run(settings: Settings, names: Sequence[str], *, with_memory: bool = True) -> list[Result]:
    """Check, time and weigh the contenders.

    Args:
        settings: what is measured.
        names: contenders, some of ``CONTENDERS``.
        with_memory: measure peak memory too, each contender in a process of its own.

    Raises:
        UserError: for an unknown contender, or the peer when its package is missing.
        ValueError: when a kernel does not agree with the reference kernel.
    """
    _check(settings, names)
    ours = [name for name in names if name != PEER]
    differences = {name: difference_from_reference(settings, name) for name in ours}
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise ValueError(f"kernel {name}: differs from the reference kernel by {difference:.1e}, relative, float64")
    steps = {name: build_step(settings, name) for name in names}
    times = time_steps(steps, repetitions=settings.repetitions, warmup=settings.warmup, device=settings.device)
    return [
        Result(
            name=name,
            time=times[name],
            peak_memory=_peak_memory_elsewhere(settings, name) if with_memory else None,
            parameters=sum(parameter.numel() for parameter in step.module.parameters()),
            weights_per_edge=_weights_per_edge(step.module, name),
            difference=differences.get(name),
        )
        for name, step in steps.items()
    ]


def to_rich(results: Sequence[Result], settings: Settings) -> Table:
    """The figures as a terminal table of 80 columns; ratios are over the first contender."""
    table = Table(
        title="Training step of the SE(3)-Transformer, ms",
        caption="\n".join(_notes(results, settings)),
        title_justify="left",
        caption_justify="left",
        caption_style="",
        box=SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("", no_wrap=True)
    for column in ("step", "quartiles", "forw.", "backw.", "ratio", "MiB", "param.", "φ/edge"):
        table.add_column(column, justify="right")
    for result in results:
        memory = "–" if result.peak_memory is None else f"{result.peak_memory / 2**20:.0f}"
        table.add_row(
            "se3-transformer-pytorch" if result.name == PEER else result.name,
            _ms(result.time.total.median),
            f"{_ms(result.time.total.low)}–{_ms(result.time.total.high)}",
            _ms(result.time.forward.median),
            _ms(result.time.backward.median),
            f"{result.time.total.median / results[0].time.total.median:.2f}",
            memory,
            f"{result.parameters:,}",
            f"{result.weights_per_edge:,}",
        )
    return table


def to_json(results: Sequence[Result], settings: Settings) -> str:
    """Settings, machine, versions and all figures (seconds, bytes)."""
    content = {
        "benchmark": "step",
        "settings": dataclasses.asdict(settings),
        "machine": _machine(settings),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "results": [dataclasses.asdict(result) for result in results],
    }
    return json.dumps(content, indent=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the benchmark; returns the exit status."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    names, path, memory_of = options.pop("contenders"), options.pop("json"), options.pop("memory_of")
    with_memory = options.pop("memory")
    settings = Settings(**options)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if memory_of is not None:
        sys.stdout.write(f"{peak_memory(build_step(settings, memory_of), settings.device)}\n")
        return 0
    console = Console()
    try:
        results = run(settings, names or available(), with_memory=with_memory)
    except UserError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False)
        return 2
    console.print(to_rich(results, settings))
    if path is not None:
        path.write_text(to_json(results, settings) + "\n", encoding="utf-8")
    return 0


def available() -> list[str]:
    """All contenders of this machine: the default kernel first, the peer if it is installed."""
    first = SE3TransformerModel().kernel
    rest = [name for name in CONTENDERS if name not in (first, PEER)]
    return [first, *rest, *([PEER] if peer.is_installed() else [])]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="step", description="Time one training step of the SE(3)-Transformer.")
    for field in dataclasses.fields(Settings):
        kind: Any = str if field.name == "device" else int
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=kind, default=field.default, help=f"default: {field.default}")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help=f"some of: {', '.join(CONTENDERS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave peak memory out")
    parser.add_argument("--memory-of", metavar="NAME", help=argparse.SUPPRESS)
    return parser


def _check(settings: Settings, names: Sequence[str]) -> None:
    for name in names:
        if name not in CONTENDERS:
            raise UserError(f"contender {name!r} is not known; {did_you_mean(name, CONTENDERS)}")
    if PEER in names and not peer.is_installed():
        raise UserError(f"contender 'peer' needs the package {peer.PACKAGE}; install it: pip install 'se3t[bench]'")
    if PEER in names and settings.num_layers < 3:
        raise UserError(f"num_layers={settings.num_layers}: the peer has convolutions as outer layers, give 3 or more")
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {settings.device!r}: torch sees no CUDA device; use --device cpu, or run se3t doctor")


def _peak_memory_elsewhere(settings: Settings, name: str) -> int:
    command = [sys.executable, "-m", "se3t.bench.step", "--memory-of", name]
    for key, value in dataclasses.asdict(settings).items():
        command += [] if value is None else [f"--{key.replace('_', '-')}", str(value)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout.split()[-1])


def _weights_per_edge(module: torch.nn.Module, name: str) -> int:
    if name == PEER:
        return peer.weights_per_edge(module)
    radials = [part for part in module.modules() if isinstance(part, RadialNetwork)]
    return sum(weight[0].numel() for radial in radials for weight in radial.weight.values())


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 0.1 else f"{1e3 * seconds:.0f}"


def _machine(settings: Settings) -> str:
    if settings.device.startswith("cuda"):
        return torch.cuda.get_device_name(settings.device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _notes(results: Sequence[Result], settings: Settings) -> list[str]:
    edges = settings.num_graphs * settings.num_points * (settings.num_points - 1)
    differences = [result.difference for result in results if result.difference is not None]
    notes = [
        f"{_machine(settings)}, torch {torch.__version__}, float32, median of {settings.repetitions} turns.",
        f"{settings.num_layers} layers, types 0–{settings.num_degrees - 1}, {settings.channels} channels, div "
        f"{settings.channels_div}, {settings.num_heads} heads, {settings.num_graphs} x {settings.num_points} points, "
        f"{edges:,} edges.",
        "ratio: step time over that of the first line. MiB: peak of a step, each in a process of its own.",
        "φ/edge: radial numbers of an edge; ours are made once for both directions of a pair, the peer's for each.",
    ]
    if differences:
        notes.append(f"Equal outputs: every kernel within {max(differences):.1e} of the reference kernel (float64).")
    if any(result.name.endswith(SEPARATE) for result in results):
        notes.append(
            f"{SEPARATE}: keys and values with a radial network each, as in the peer; by default they share it."
        )
    if any(result.name.endswith(tuple(MEMORY)) for result in results):
        notes.append("-low: radial weights are made a few edges at a time, and again for the gradients; -speed: kept.")
    if any(result.name == PEER for result in results):
        notes += _PEER_NOTES
    return notes


_PEER_NOTES = [
    "Peer, equal: data, a basis in every step, layers with kernels (its attention stands between two convolutions), "
    "degrees, channels, heads, key and value channels, width of the radial networks (rebuilt from 128).",
    "Peer, not equal: a feed-forward part in each block, no attentive self-interaction, softmax for each degree apart, "
    "GELU for ReLU; it is another model, whose outputs are not compared.",
]


if __name__ == "__main__":
    sys.exit(main())
