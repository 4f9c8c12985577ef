"""Rules that sort each value over the clients and drop the extremes. Not a rule by itself."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from fedmosaic.methods.aggregators.base import Aggregator

_TILE_VALUES = 2**20


class SortedValues(Aggregator):
    """Of every single value the f largest and the f smallest are dropped, whatever their weights.

    What is left lies between honest values if no more than f of the peers are hostile. So does any average of it.
    """

    @abstractmethod
    def middle(self, weights: Tensor, values: Tensor) -> Tensor:
        """Combine what is left.

        Args:
            weights: (N, V), zero for what was dropped; the largest of each column is 1.
            values: (N, V), ascending in each column; finite.

        Returns:
            (V,).
        """

    def mixed(self, weights: Tensor, values: Tensor, *, most: int = 0) -> Tensor:
        """Drop the extremes and combine the rest, for each receiver. See :meth:`Aggregator.mixed`."""
        mixtures = values.new_zeros(len(weights), values.shape[1])
        width = max(1, _TILE_VALUES // len(values))
        for start in range(0, values.shape[1], width):
            tile, order = values[:, start : start + width].sort(dim=0, stable=True)
            for row, own in enumerate(weights):
                if own.any():
                    left = self._left(own[order])
                    finite = torch.where(left > 0, tile, 0.0)
                    mixtures[row, start : start + width] = self.middle(left / left.amax(0), finite)
        return mixtures

    def _left(self, weights: Tensor) -> Tensor:
        """Return the weights of sorted values (N, V), zero for the extremes; each column has the same n peers."""
        place = (weights > 0).cumsum(0)
        peers = int(place[-1, 0])
        hostile = self.hostile(peers)
        return torch.where((place > hostile) & (place <= peers - hostile), weights, 0.0)
