"""How sure a mean is: bootstrap intervals over samples, t intervals over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def bootstrap_interval(scores: Sequence[float], *, seed: int, resamples: int = 1000) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of the mean.

    Args:
        scores: scores of single samples.
        seed: of the resampling.
        resamples: number of bootstrap samples.
    """
    return pooled_interval([scores], seed=seed, resamples=resamples)


def pooled_interval(groups: Sequence[Sequence[float]], *, seed: int, resamples: int = 1000) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of the mean of groups' means; samples are drawn within each group.

    Args:
        groups: scores of single samples of each group, at least one group.
        seed: of the resampling.
        resamples: number of bootstrap samples.
    """
    random = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for scores in groups:
        values = np.asarray(scores, dtype=np.float64)
        total += values[random.integers(len(values), size=(resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(total / len(groups), [0.025, 0.975])
    return float(low), float(high)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and half-width of the 95 % t interval over seeds; the half-width is NaN for a single value.

    Args:
        values: one for each seed, at least one.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    half = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, half
