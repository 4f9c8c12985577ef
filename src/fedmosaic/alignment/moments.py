"""Joint second moments of the features of several architectures, gathered batch by batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class JointMoments:
    """Weighted first and second moments of concatenated features.

    One row holds what every architecture's module computes at one matched position. Memory is (sum of widths)² numbers
    in float64, however many rows are added; products are taken in the rows' own precision.

    Args:
        widths: number of features of each view (architecture).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        self.widths = tuple(widths)
        self.count = 0
        self.weight = 0.0
        total = sum(self.widths)
        self._first = torch.zeros(total, dtype=torch.float64)
        self._second = torch.zeros(total, total, dtype=torch.float64)

    def add(self, features: Sequence[Tensor], weights: Tensor | None = None) -> None:
        """Add rows.

        Args:
            features: (n, width) of each architecture; row i of all of them belongs together.
            weights: (n,) weight of each row, 1 by default.
        """
        rows = torch.cat([feature.to("cpu") for feature in features], dim=1)
        weights = rows.new_ones(len(rows)) if weights is None else weights.to(rows)
        self.count += len(rows)
        self.weight += float(weights.sum(dtype=torch.float64))
        self._first += weights.double() @ rows.double()
        scaled = rows * weights.sqrt()[:, None]
        self._second += scaled.T @ scaled

    def mean(self, view: int) -> Tensor:
        """Return the mean of one view's features, (width,).

        Args:
            view: its number.
        """
        return self._first[self._slice(view)] / self.weight

    def covariance(self, *, centred: bool = True) -> Tensor:
        """Return the covariance of all features.

        Args:
            centred: whether the mean is subtracted; else it is the second moment around zero.

        Returns:
            (total, total) in float64, where total is the sum of the widths.
        """
        second = self._second / self.weight
        if not centred:
            return second
        mean = self._first / self.weight
        return second - torch.outer(mean, mean)

    def block(self, one: int, other: int, *, centred: bool = True) -> Tensor:
        """Return the covariance between two views' features.

        Args:
            one: number of the view in the rows.
            other: number of the view in the columns.
            centred: whether the means are subtracted; else it is the second moment around zero.

        Returns:
            (width of one, width of other) in float64.
        """
        here, there = self._slice(one), self._slice(other)
        second = self._second[here, there] / self.weight
        return second - torch.outer(self.mean(one), self.mean(other)) if centred else second

    def _slice(self, view: int) -> slice:
        start = sum(self.widths[:view])
        return slice(start, start + self.widths[view])
