"""``norm-bound``: no upload pulls harder than an honest one could.

Deviations from a reference r are cut to a length rho (norm bounding: Sun et al., 2019, arXiv 1911.07963):

    G = r + sum_j w_j min(1, rho / ||L_j - r||) (L_j - r),     rho = the (n - f)-th smallest of the n ||L_j - r||

In a receiver's own mixture r is what it uploaded itself (ClippedGossip: He et al., 2022, arXiv 2202.01545); in a mean
for all it is the upload with the smallest sum of distances to the others. If no more than f of n peers are hostile, rho
is at most the largest distance of an honest one, and G is no farther from r than rho.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedmosaic.methods.aggregators.base import Aggregator


class NormBound(Aggregator):
    """Long deviations are shortened; what they lose in weight, the reference gains."""

    name = "norm-bound"

    def reweighed(self, weights: Tensor, distances: Callable[[], Tensor], itself: Tensor | None) -> Tensor:
        """Shorten the deviations of whole uploads. See :meth:`Aggregator.reweighed`."""
        between = distances()
        references = between.sum(1).argmin().expand(len(weights)) if itself is None else itself
        bounded = torch.zeros_like(weights)
        for row, reference in enumerate(references.tolist()):
            peers = weights[row].nonzero()[:, 0]
            if len(peers):
                lengths = between[reference, peers]
                bound = lengths.sort().values[len(peers) - self.hostile(len(peers)) - 1]
                factors = torch.where(lengths <= bound, 1.0, bound / lengths)
                bounded[row, peers] = weights[row, peers] * factors.to(weights)
                bounded[row, reference] += 1 - bounded[row].sum()
        return bounded
