"""``mean``: the methods' published means and weighted sums. One attacker among the peers moves them anywhere."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from fedmosaic.methods.aggregators.base import Aggregator, Parts


class Mean(Aggregator):
    """No protection."""

    name = "mean"

    def averaged(self, clients: int, parts: Parts) -> Iterator[Tensor]:
        """The arithmetic mean. See :meth:`Aggregator.averaged`."""
        return (part.mean(0) for part in parts())

    def others_averaged(self, clients: int, parts: Parts) -> Iterator[Tensor]:
        """The arithmetic mean of the others. See :meth:`Aggregator.others_averaged`."""
        return (((part.double().sum(0) - part) / (clients - 1)).to(part.dtype) for part in parts())
