"""Is one method better than another: differences paired by seed and task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """Mean of the paired differences and its 95 % interval.

    Attributes:
        mean: of the differences of scores, in [-1, 1].
        low: lower end of the interval.
        high: upper end of the interval.
    """

    mean: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0

    def in_points(self) -> str:
        """Return a difference of accuracies in points, with a star if significant: ``-3.6* [-4.9, -2.4]``."""
        mean, low, high = (100 * each for each in (self.mean, self.low, self.high))
        return f"{mean:+.1f}{'*' if self.significant else ''} [{low:+.1f}, {high:+.1f}]"


def paired_difference(
    mine: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], *, seed: int = 0
) -> Difference:
    """Return the mean difference of two methods' scores over seeds and tasks, with a bootstrap interval.

    Seeds and tasks are drawn anew independently of each other, both with all their pairs ("pigeonhole" bootstrap, Owen
    2007): a task that is easy for one method is so for all seeds, and a seed is lucky for many tasks. With a single
    seed only the tasks are drawn.

    Args:
        mine: one method's scores; task -> score for each seed.
        theirs: the other's, for the same seeds in the same order.
        seed: of the bootstrap.

    Raises:
        ValueError: the seeds or tasks of the two are not the same.
    """
    tasks = sorted(mine[0]) if mine else []
    if len(mine) != len(theirs) or not tasks or any(sorted(scores) != tasks for scores in (*mine, *theirs)):
        raise ValueError(
            f"cannot pair {len(mine)} x {[len(m) for m in mine]} with {len(theirs)} x {[len(t) for t in theirs]}"
            " scores: expected the same seeds and tasks"
        )
    table = np.array([[a[task] - b[task] for task in tasks] for a, b in zip(mine, theirs, strict=True)])
    random = np.random.default_rng(seed)
    rows = random.integers(len(table), size=(_RESAMPLES, len(table)))
    columns = random.integers(len(tasks), size=(_RESAMPLES, len(tasks)))
    means = table[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(table.mean()), float(low), float(high))
