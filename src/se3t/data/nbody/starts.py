"""What a training step draws for each of its trajectories: a function of (draw, trajectory) alone.

So it depends neither on the other trajectories of the batch nor on the number of processes, and is made on the device
of the data, which a captured step needs.
"""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIERS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


def random_bits(draw: int | Int[Tensor, ""], index: Int[Tensor, " sample"]) -> Int[Tensor, " sample"]:
    """64 random bits for each trajectory: output ``index`` of the generator SplitMix64 with the seed ``draw``.

    Args:
        draw: seed of the step.
        index: numbers of the trajectories.

    Source: Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators.
    """
    bits = draw + (index + 1) * _GOLDEN  # modulo 2^64
    for shift, multiplier in _MULTIPLIERS:
        bits = (bits ^ _shifted(bits, shift)) * multiplier
    return bits ^ _shifted(bits, 31)


def random_starts(bits: Int[Tensor, " sample"], num_starts: int) -> Int[Tensor, " sample"]:
    """A start frame below ``num_starts`` from the upper 32 bits."""
    return (_shifted(bits, 32) * num_starts) >> 32


def random_signs(bits: Int[Tensor, " sample"]) -> Int[Tensor, " sample"]:
    """+1 or −1 from the lowest bit."""
    return 1 - 2 * (bits & 1)


def _shifted(bits: Tensor, places: int) -> Tensor:
    # To the right with zeros from the left: torch knows signed integers only.
    return (bits >> places) & ((1 << (64 - places)) - 1)
