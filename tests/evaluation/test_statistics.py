import numpy as np
import pytest
from scipy import stats

from fedmosaic.evaluation.statistics import bootstrap_interval, mean_interval, pooled_interval


def test_bootstrap_agrees_with_scipys():
    scores = np.random.default_rng(0).binomial(1, 0.7, 60).astype(float)
    low, high = bootstrap_interval(scores, seed=0, resamples=5000)
    reference = stats.bootstrap((scores,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.02)
    assert low < scores.mean() < high


def test_interval_of_equal_scores_is_a_point():
    assert bootstrap_interval([1.0] * 10, seed=0) == (1.0, 1.0)


def test_mean_interval_equals_scipys_t_interval():
    values = [0.61, 0.64, 0.70]
    mean, half = mean_interval(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert np.isnan(mean_interval([0.5])[1])


def test_samples_are_drawn_within_each_group():
    assert pooled_interval([[0.0] * 5, [1.0] * 2], seed=0) == (0.5, 0.5)
    low, high = pooled_interval([[0.0, 1.0], [1.0, 1.0, 1.0]], seed=0)
    assert (low, high) == (0.5, 1.0)
