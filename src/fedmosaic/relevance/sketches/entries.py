"""Entries of the gradient itself: a random subset of them, the same ones on all clients (the paper's), or all."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmosaic import seeding


class EntrySketch:
    """Entries of the gradient, scaled so that inner products are kept on average.

    Args:
        d_out: length of the left factors.
        d_in: length of the right factors.
        ratio: share of the entries that are kept, at least one entry.
        seed: of the choice.
    """

    def __init__(self, *, d_out: int, d_in: int, ratio: float, seed: int) -> None:
        entries = d_out * d_in
        self.size = max(1, round(ratio * entries))
        order = torch.randperm(entries, generator=seeding.generator(seed, "subset", d_out, d_in))
        self._kept = order[: self.size].sort().values if self.size < entries else torch.arange(entries)
        self._scale = (entries / self.size) ** 0.5

    def __call__(self, left: Tensor, right: Tensor, rows: Tensor, count: int) -> Tensor:
        """See :class:`~fedmosaic.relevance.Sketch`; one gradient is formed at a time."""
        kept, sketches = self._kept.to(left.device), left.new_empty(count, self.size)
        for row in range(count):
            mine = rows == row
            sketches[row] = (left[mine].T @ right[mine]).flatten()[kept] * self._scale
        return sketches


class SubsetSketch(EntrySketch):
    """The ``subset``."""

    name = "subset"

    @classmethod
    def make(cls, *, d_out: int, d_in: int, size: int, ratio: float, seed: int) -> SubsetSketch:
        """See :func:`~fedmosaic.relevance.make_sketch`."""
        return cls(d_out=d_out, d_in=d_in, ratio=ratio, seed=seed)


class FullSketch(EntrySketch):
    """The whole gradient."""

    name = "full"

    @classmethod
    def make(cls, *, d_out: int, d_in: int, size: int, ratio: float, seed: int) -> FullSketch:
        """See :func:`~fedmosaic.relevance.make_sketch`."""
        return cls(d_out=d_out, d_in=d_in, ratio=1.0, seed=seed)
