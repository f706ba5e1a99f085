"""Which samples a step sees: a function of (seed, step) alone, so that a resumed run sees what an uninterrupted one
sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from se3t.errors import UserError


def derived_seed(*words: int) -> int:
    """A seed that depends on all ``words``, such as (seed, epoch), with no relation between neighbouring words."""
    high, low = np.random.SeedSequence(words).generate_state(2, np.uint32).tolist()
    return (high << 31) ^ low


_BLOCK = 64


def step_seed(seed: int, step: int) -> int:
    """The :func:`derived_seed` of a step, computed in blocks: one alone costs as much as a small operation."""
    block, place = divmod(step, _BLOCK)
    return _step_seeds(seed, block)[place]


@lru_cache(maxsize=2)
def _step_seeds(seed: int, block: int) -> list[int]:
    return [derived_seed(seed, step) for step in range(block * _BLOCK, (block + 1) * _BLOCK)]


def epoch_order(size: int, seed: int, epoch: int) -> Int[Tensor, " size"]:
    """The order in which epoch number ``epoch`` visits ``size`` samples: a permutation drawn from (seed, epoch)."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(derived_seed(seed, epoch)))


class StepFeed:
    """Endless batches of sample numbers. Step s takes places sB … (s+1)B − 1 of the concatenated epochs: no sample is
    dropped.

    Args:
        size: number of samples.
        batch_size: B, all processes together.
        seed: seed of the run.
        first_step: step of the first batch that iterating yields.
        rank: number of this process; it takes its share of every batch, contiguous.
        world_size: number of processes.
        device: where the sample numbers are wanted.

    Raises:
        UserError: when a batch cannot be divided among the processes, or there are no samples.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        *,
        first_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if size < 1:
            raise UserError("the training split is empty: expected at least one sample; prepare data with more of them")
        if batch_size % world_size:
            raise UserError(
                f"trainer.batch_size={batch_size} cannot be divided among trainer.devices={world_size}; "
                "choose a multiple"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.first_step, self.rank, self.world_size = first_step, rank, world_size
        self.device = torch.device(device)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> Int[Tensor, " share"]:
        """Sample numbers of this process in a step."""
        share = self.batch_size // self.world_size
        place, end = step * self.batch_size + self.rank * share, step * self.batch_size + (self.rank + 1) * share
        parts = []
        while place < end:
            epoch, offset = divmod(place, self.size)
            count = min(end - place, self.size - offset)
            parts.append(self._order_of(epoch)[offset : offset + count])
            place += count
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[Tensor]:
        step = self.first_step
        while True:
            yield self.batch(step)
            step += 1

    def _order_of(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self.size, self.seed, epoch).to(self.device)
        return self._order
