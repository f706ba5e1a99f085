"""Roofs of the machine: floating-point operations and bytes per second."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.counting import Work
from se3t.bench.report import Column, Row
from se3t.bench.timing import Call, clock_of
from se3t.precision import matmul_precision, require_device

ROOF = (Column("gflops", "GFLOP/s", "number"), Column("share_of_roof", "of roof", "share"))
_PRODUCT = {"cpu": 2048, "cuda": 8192}  # side of the square matrices
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}  # far beyond any cache
_QUICK_SIDE, _QUICK_BYTES = 1024, 2**26
_ROUNDS = 7


@dataclass(frozen=True)
class Peaks:
    """What simple and large operations reach.

    Attributes:
        flop: floating-point operations per second of a large matrix product, in the precision asked for.
        bandwidth: bytes per second, read or written, of a large copy.
        side: side of the matrices.
    """

    flop: float
    bandwidth: float
    side: int

    def roof(self, flop: int, num_bytes: int) -> float:
        """Seconds that the tighter of the two roofs allows."""
        return max(flop / self.flop, num_bytes / self.bandwidth)


def measure_peaks(device: str, quick: bool = False, precision: str = "32") -> Peaks:
    """Time a matrix product and a copy; the fastest of seven counts, for a roof is what can be reached at all.

    Args:
        device: where.
        quick: small operations, whose result is a rough one.
        precision: of the product, see :mod:`se3t.precision`.

    Raises:
        UserError: for a precision that the device does not have.
    """
    require_device(precision, torch.device(device))
    kind = torch.device(device).type
    side = _QUICK_SIDE if quick else _PRODUCT[kind]
    count = (_QUICK_BYTES if quick else _COPY_BYTES[kind]) // 4
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    product = torch.empty_like(left)
    source, target = torch.ones(count, device=device), torch.zeros(count, device=device)
    work = (Call(lambda: torch.mm(left, right, out=product)), Call(lambda: target.copy_(source)))
    with matmul_precision(precision):
        product_time, copy_time = (_fastest(one, device) for one in work)
    return Peaks(2 * side**3 / product_time, 8 * count / copy_time, side)


def _fastest(work: Call, device: str) -> float:
    return min(work.run(clock_of(device))[0] for _ in range(_ROUNDS))


def share_of_roof(work: Work, seconds: float, peaks: Peaks) -> Row:
    """Fields of the columns ``ROOF`` for work that took some time."""
    return {"gflops": work.flop / seconds / 1e9, "share_of_roof": peaks.roof(work.flop, work.bytes) / seconds}
