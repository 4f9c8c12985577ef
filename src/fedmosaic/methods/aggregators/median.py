"""``median`` (Yin et al., ICML 2018, arXiv 1803.01498): each value's median.

With weights: where half of the weight lies on either side, among the peers left when the f largest and the f smallest
values are dropped. If that is anywhere between two values, it is the middle of these. With equal weights f is of no
consequence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedmosaic.methods.aggregators.sorted_values import SortedValues

_ROUNDING = 1e-6


class Median(SortedValues):
    """The median of what is left."""

    name = "median"

    def middle(self, weights: Tensor, values: Tensor) -> Tensor:
        """The weighted median. See :meth:`SortedValues.middle`."""
        below = weights.double().cumsum(0)
        half = below[-1] / 2
        return (_first(below >= half * (1 - _ROUNDING), values) + _first(below > half * (1 + _ROUNDING), values)) / 2


def _first(reached: Tensor, values: Tensor) -> Tensor:
    """Return the first value of each column for which a condition holds; it holds for the last one."""
    return values.gather(0, reached.to(torch.uint8).argmax(0, keepdim=True))[0]
