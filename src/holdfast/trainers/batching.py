"""Rows of like length in one batch: little padding, and still another order each epoch."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

POOL = 50  # groups that are sorted together
JITTER = 0.1  # of a length: a small data set makes other batches each epoch


class LengthGroupedSampler(Sampler[int]):
    """Row numbers, `group` rows of like length after one another, the groups in random order.

    transformers' sampler of that name walks from the longest rows to the shortest, and fills a whole optimiser step
    with rows of one length. Here the groups are what the devices forward at the same time, and an optimiser step
    that accumulates several of them mixes lengths. The order depends on seed and epoch alone, so a run that is
    resumed goes on in the same order.

    Args:
        lengths: tokens of each row.
        group: rows that are forwarded at the same time, over all devices; the last group may be smaller.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int):
        self.lengths = torch.tensor(lengths, dtype=torch.float32)
        self.group = group
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self.epoch)
        order = torch.randperm(len(self), generator=generator)
        jitter = 1 + JITTER * torch.rand(len(self), generator=generator)
        by_length = torch.cat([pool[self._longest_first(pool, jitter)] for pool in order.split(POOL * self.group)])
        groups = list(by_length.split(self.group))
        last = [groups.pop()] if groups and len(groups[-1]) < self.group else []
        shuffled = torch.randperm(len(groups), generator=generator).tolist()
        for rows in [*(groups[index] for index in shuffled), *last]:
            yield from rows.tolist()

    def _longest_first(self, pool: torch.Tensor, jitter: torch.Tensor) -> torch.Tensor:
        return (self.lengths[pool] * jitter[pool]).argsort(descending=True)
