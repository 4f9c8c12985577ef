"""``trimmed-mean`` (Yin et al., ICML 2018, arXiv 1803.01498): each value's mean without its extremes.

G[v] = sum w_j L_j[v] / sum w_j     over the peers left when the f largest and the f smallest L_j[v] are dropped
"""

from __future__ import annotations

from torch import Tensor

from fedmosaic.methods.aggregators.sorted_values import SortedValues


class TrimmedMean(SortedValues):
    """The mean of what is left."""

    name = "trimmed-mean"

    def middle(self, weights: Tensor, values: Tensor) -> Tensor:
        """The weighted mean. See :meth:`SortedValues.middle`."""
        return (weights * values).sum(0) / weights.sum(0)
