"""Compiles the Triton kernels for a GPU of compute capability 8.0, which needs none: ``python -m nn.triton_compile``.

Prints, for every case, the bytes of shared memory and whether the matrix units are used, as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import triton.language as tl
from triton import compile as build
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from se3t.nn.kernels import triton_programs, triton_tiles
from se3t.nn.kernels.tilings import Tiling, default
from se3t.nn.kernels.triton_plan import Blocks, plan

TABLES = ("tiles", "items", "blocks", "slots", "ranges")
POINTERS = ("left", "right", "hidden", "layer")
CASES = (("bf16", "ieee"), ("fp32", "tf32"), ("fp32", "ieee"), ("fp64", "ieee"))
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}


WIDE = {"bf16": 256, "fp32": 128, "fp64": 128}
"""Hidden units for which shared memory is looked at, too."""


def compiled(kernel: Any, dtype: str, precision: str, units: int = 32) -> tuple[int, bool]:
    """Shared memory, and whether there are products of matrices; as launched for 64 columns of reciprocal pairs."""
    blocks = Blocks((32, 32), (64,), ((0,), (0,)))
    case = triton_tiles._case(kernel.__name__, blocks, 4, units, DTYPES[dtype], precision)
    tiling: Tiling = default(case)
    made = plan(blocks, tiling.columns, triton_tiles.DEPTHS, torch.device("cpu"))
    constants = triton_tiles._constants(made, tiling, 4, units, DTYPES[dtype], precision)
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages", "enable_fp_fusion")}
    assert constants["SUM"] == (tl.float64 if dtype == "fp64" else tl.float32)
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in POINTERS:
            signature[name] = f"*{dtype}"
        elif name == "out":
            signature[name] = "*fp64" if dtype == "fp64" else "*fp32"
        else:
            signature[name] = "*i64" if name in TABLES else "i32"
    aligned = [name for name in kernel.arg_names if signature[name].startswith("*")]
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    built = build(
        ASTSource(kernel, signature, constants, attributes), target=GPUTarget("cuda", 80, 32), options=options
    )
    return built.metadata.shared, "mma" in built.asm["ptx"]


def main() -> None:
    out = {}
    for dtype, precision in CASES:
        for kernel in (triton_programs.contract, triton_programs.hidden_gradients, triton_programs.layer_gradients):
            out[f"{kernel.__name__} {dtype} {precision}"] = compiled(kernel, dtype, precision)
    for dtype, units in WIDE.items():
        for kernel in (triton_programs.contract, triton_programs.hidden_gradients):
            precision = "tf32" if dtype == "fp32" else "ieee"
            case = f"{kernel.__name__} {dtype} {precision} {units}"
            out[case] = compiled(kernel, dtype, precision, units)
    sys.stdout.write(json.dumps(out))


if __name__ == "__main__":
    main()
