"""``multi-krum`` (Blanchard et al., NeurIPS 2017, arXiv 1703.02757): only uploads with near neighbours count.

    score_j = sum of the n - f - 2 smallest ||L_j - L_l||² over the other peers l
    G       = the mean of the n - f peers with the smallest scores, by their weights

The paper's bound needs n >= 2f + 3. With fewer peers at least one neighbour is counted, as Flower does; and of one or
two peers nobody can be told apart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedmosaic.methods.aggregators.base import Aggregator


class MultiKrum(Aggregator):
    """Uploads far from most others are left out."""

    name = "multi-krum"

    def reweighed(self, weights: Tensor, distances: Callable[[], Tensor], itself: Tensor | None) -> Tensor:
        """Leave out f of each receiver's peers. See :meth:`Aggregator.reweighed`."""
        squares = distances().square()
        chosen = torch.zeros_like(weights)
        for row, given in enumerate(weights):
            peers = given.nonzero()[:, 0]
            hostile = self.hostile(len(peers))
            if hostile:
                peers = peers[krum_order(squares[peers][:, peers], hostile)]
            kept = peers[: len(peers) - hostile]
            chosen[row, kept] = given[kept] / given[kept].sum() if hostile else given[kept]
        return chosen


def krum_order(squares: Tensor, hostile: int) -> Tensor:
    """Return the clients from the one nearest to its nearest others to the farthest.

    Two that are each other's nearest have one score where only the nearest counts: of them the one nearer to all comes
    first, so that the order in which uploads arrive is of no consequence.

    Args:
        squares: (n, n) squared distances, n >= 2.
        hostile: f.

    Returns:
        (n,) positions.
    """
    nearer = squares.sum(1).argsort(stable=True)
    return nearer[krum_scores(squares, hostile)[nearer].argsort(stable=True)]


def krum_scores(squares: Tensor, hostile: int) -> Tensor:
    """Return how far each client is from its nearest others.

    Args:
        squares: (n, n) squared distances, n >= 2.
        hostile: f.

    Returns:
        (n,), the less the better.
    """
    nearest = max(1, len(squares) - hostile - 2)
    others = squares.clone().fill_diagonal_(torch.inf)
    return others.topk(nearest, dim=1, largest=False).values.sum(1)
