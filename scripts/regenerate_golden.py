#!/usr/bin/env python
"""Write tests/golden/*.pt: reference values of small models in the names of the two released codes.

They are computed by this project's own reference kernel in float64. Run it on purpose, after a change that is meant to
change values: it prints the largest difference to the files that were there and, when one is more than rounding, writes
them anew and exits with status 1, so that a person reads it.

    scripts/regenerate_golden.py                            all files of tests/golden
    scripts/regenerate_golden.py nvidia_full --to /tmp      one of them, somewhere else
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from se3t.compat import authors, golden
from se3t.compat.mapping import Converted
from se3t.compat.nvidia import loading
from se3t.compat.nvidia.architecture import from_arguments
from se3t.files import write_atomically
from se3t.so3 import clebsch_gordan, random_rotation

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "golden"
ROUNDING = 1e-11  # between machines, in double precision; of gradients that are sums of many terms
HIDDEN = 4  # width of the radial networks: 32 in the released codes, less here for small files
NBODY = "experiments.nbody.nbody_models."
QM9 = "experiments.qm9.models."
SE3T: dict[str, Any] = {"num_heads": 2, "channels_div": 2, "norm": True, "use_layer_norm": True}

AUTHORS: dict[str, dict[str, Any]] = {
    "authors_nbody_se3t_cat": {
        "cls": f"{NBODY}SE3Transformer",
        "num_layers": 1,
        "num_channels": 4,
        "num_degrees": 3,
        "div": 2,
        "n_heads": 2,
        "si_m": "att",
        "si_e": "att",
        "x_ij": "cat",
    },
    "authors_nbody_se3t_add": {
        "cls": f"{NBODY}SE3Transformer",
        "num_layers": 2,
        "num_channels": 3,
        "num_degrees": 2,
        "div": 1.5,
        "n_heads": 1,
        "si_m": "1x1",
        "si_e": "att",
        "x_ij": "add",
    },
    "authors_nbody_tfn": {"cls": f"{NBODY}TFN", "num_layers": 3, "num_channels": 2, "num_degrees": 3},
    "authors_qm9_se3t_avg": {
        "cls": f"{QM9}SE3Transformer",
        "num_layers": 2,
        "num_channels": 4,
        "num_degrees": 2,
        "div": 2,
        "n_heads": 2,
        "atom_feature_size": 6,
        "edge_dim": 4,
        "pooling": "avg",
        "num_nlayers": 0,
    },
    "authors_qm9_tfn": {
        "cls": f"{QM9}TFN",
        "num_layers": 3,
        "num_channels": 3,
        "num_degrees": 2,
        "num_nlayers": 1,
        "atom_feature_size": 6,
        "edge_dim": 4,
    },
}
NVIDIA: dict[str, dict[str, Any]] = {
    "nvidia_partial": {
        "fiber_in": {1: 1},
        "fiber_hidden": (3, 4),
        "fiber_out": {1: 2},
        "fiber_edge": {0: 1},
        **SE3T,
        "num_layers": 2,
        "return_type": 1,
    },
    "nvidia_full": {
        "fiber_in": {0: 6},
        "fiber_hidden": (3, 4),
        "fiber_out": (3, 4),
        "fiber_edge": {0: 4},
        **SE3T,
        "num_layers": 2,
        "return_type": 0,
        "tensor_cores": True,
    },
    "nvidia_pairs_edge_vectors": {
        "fiber_in": {0: 1, 1: 1},
        "fiber_hidden": (2, 4),
        "fiber_out": {0: 3, 1: 2},
        "fiber_edge": {0: 1, 1: 1},
        **SE3T,
        "num_layers": 2,
        "return_type": None,
        "low_memory": True,
        "use_layer_norm": False,
    },
    "nvidia_by_input": {
        "fiber_in": {0: 1, 1: 3},
        "fiber_hidden": (2, 4),
        "fiber_out": {0: 3, 1: 2},
        "fiber_edge": {0: 1},
        **SE3T,
        "num_layers": 1,
        "return_type": 1,
        "norm": False,
    },
    "nvidia_pooled": {
        "fiber_in": {0: 6},
        "fiber_out": {0: 5},
        "fiber_edge": {0: 4},
        "num_degrees": 2,
        "num_channels": 4,
        **SE3T,
        "num_layers": 1,
        "output_dim": 2,
        "pooling": "max",
    },
}


def couplings() -> dict[tuple[int, int, int], Tensor]:
    """Q_J as the authors' code stores them, with signs as arbitrary as there."""
    source = torch.Generator().manual_seed(11)
    found = {}
    for degree_out in range(3):
        for degree_in in range(3):
            for degree in range(abs(degree_out - degree_in), degree_out + degree_in + 1):
                sign = 1 - 2 * int(torch.randint(0, 2, (), generator=source))
                found[degree, degree_in, degree_out] = sign * clebsch_gordan(degree_out, degree_in, degree).flatten(
                    0, 1
                )
    return found


def particles(source: torch.Generator) -> dict[str, Tensor]:
    """Two complete clouds of four charged particles; edges in no order."""
    pairs = [(a, b) for first in (0, 4) for a in range(first, first + 4) for b in range(first, first + 4) if a != b]
    edges = torch.tensor(pairs).T[:, torch.randperm(len(pairs), generator=source)]
    charges = 2.0 * torch.randint(0, 2, (8, 1), generator=source) - 1
    return {
        "positions": normal(source, 8, 3),
        "velocities": normal(source, 8, 1, 3),
        "charges": charges.double(),
        "edge_index": edges,
        "edge_attr": (charges[edges[0]] * charges[edges[1]]).double(),
        "batch": torch.tensor([0] * 4 + [1] * 4),
    }


def molecules(source: torch.Generator) -> dict[str, Tensor]:
    """Two graphs with few edges, both ways; the last node has none."""
    bonds = torch.tensor([(0, 1), (1, 2), (2, 0), (2, 3), (4, 5), (5, 6), (6, 7)]).T
    edges = torch.cat([bonds, bonds.flip(0)], dim=1)
    kind = torch.nn.functional.one_hot(torch.randint(0, 4, (bonds.shape[1],), generator=source), 4).double()
    order = torch.randperm(edges.shape[1], generator=source)
    return {
        "positions": normal(source, 9, 3),
        "features": normal(source, 9, 6, 1),
        "edge_index": edges[:, order],
        "edge_attr": torch.cat([kind, kind])[order],
        "batch": torch.tensor([0] * 4 + [1] * 5),
    }


def normal(source: torch.Generator, *shape: int) -> Tensor:
    """Random numbers that float32 holds as well, so that both precisions start from the same values."""
    return torch.randn(*shape, generator=source).double()


def build(name: str, q: dict[tuple[int, int, int], Tensor]) -> Converted:
    """The model of a flavour, with random weights that float32 holds."""
    if name in AUTHORS:
        return authors.build(AUTHORS[name], q, kernel="reference", radial_hidden=HIDDEN)
    architecture = replace(from_arguments({"return_type": 0, "pooling": None, **NVIDIA[name]}), radial_hidden=HIDDEN)
    signs = loading.kernel_signs(loading.coefficient_signs())
    weights, arguments, model = loading.equal_model(architecture, signs, "reference")
    return Converted(model, weights, "se3_transformer", arguments)


def make(name: str) -> dict[str, Any]:
    """Content of one file."""
    source = torch.Generator().manual_seed(3)
    torch.manual_seed(5)
    q = couplings()
    converted = build(name, q)
    with torch.no_grad():
        for parameter in converted.model.parameters():  # every term matters, also those that start at zero
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model = converted.model.double()
    is_nbody = "nbody" in name or name in ("nvidia_partial", "nvidia_pairs_edge_vectors", "nvidia_by_input")
    content: dict[str, Any] = {
        "config": AUTHORS[name] if name in AUTHORS else NVIDIA[name],
        "state_dict": converted.state_dict(),
        "inputs": particles(source) if is_nbody else molecules(source),
        "made_by": "se3t, kernel 'reference'",
    }
    if name == "nvidia_by_input":
        content["inputs"]["node_1"] = normal(source, 8, 3, 3)
    content |= {"Q_J": q} if name in AUTHORS else {"e3nn": "0.3.3"}
    graph = golden.graph_of(content["inputs"], model, name)
    found: dict[str, Any] = {}
    for theirs, ours in converted.weights.layers.items():
        hook = lambda module, inputs, out, theirs=theirs: found.__setitem__(theirs, plain(out))  # noqa: E731
        model.get_submodule(ours).register_forward_hook(hook)
    out = model(graph)
    content |= {"output": plain(out), "layer_outputs": dict(found)}
    rotation = random_rotation(generator=source, dtype=torch.float64)
    shift = torch.tensor(golden.SHIFT, dtype=torch.float64)
    content |= {"R": rotation, "output_rotated": plain(model(graph.rotate(rotation)))}
    content |= {"output_translated": plain(model(graph.translate(shift)))}
    content["probe"] = {str(degree): normal(source, *value.shape) for degree, value in out.items()}
    sum((value * content["probe"][str(degree)]).sum() for degree, value in out.items()).backward()
    grads = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}
    content["grads"] = converted.weights.to_theirs(grads)
    return content


def plain(value: Any) -> Any:
    """Features as a mapping of strings; a tensor as it is."""
    return (
        value.detach() if isinstance(value, Tensor) else {str(degree): part.detach() for degree, part in value.items()}
    )


def difference(old: Any, new: Any) -> float:
    """Largest difference of two contents, infinite where they hold different things."""
    if isinstance(new, dict):
        if not isinstance(old, dict) or set(old) != set(new):
            return float("inf")
        return max((difference(old[key], new[key]) for key in new), default=0.0)
    if isinstance(new, Tensor):
        same = isinstance(old, Tensor) and old.shape == new.shape and old.dtype == new.dtype
        return (
            float((old.double() - new.double()).abs().max()) if same and new.numel() else 0.0 if same else float("inf")
        )
    return 0.0 if old == new else float("inf")


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    write_atomically(path, lambda file: torch.save(content, file))


def gap_to(path: Path, content: dict[str, Any]) -> float | None:
    """Largest difference to a file that is there; None where there is none."""
    return difference(torch.load(path, weights_only=True), content) if path.exists() else None


def main(words: list[str] | None = None) -> int:
    """Write the files.

    Returns:
        1 when a file changed or is new, else 0.
    """
    names = [*AUTHORS, *NVIDIA]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which (default: all): {', '.join(names)}")
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder (default: tests/golden)")
    given = parser.parse_args(words)
    unknown = set(given.names) - set(names)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: unknown; expected some of {', '.join(names)}")
    changed = False
    for name in given.names or names:
        path, content = given.to / f"{name}.pt", make(name)
        gap = gap_to(path, content)
        print(f"{path.name}: {'new' if gap is None else f'largest difference {gap:.1e}'}", flush=True)
        if gap is None or gap > ROUNDING:
            save(path, content)
            changed = True
    if changed:
        print("files were written: check the differences, then commit them if they are intended")
    return int(changed)


if __name__ == "__main__":
    sys.exit(main())
