"""The accounting against closed forms and numerical integration that share no code with it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.integrate import quad
from scipy.stats import norm

from fedmosaic.relevance import Exposure, PrivacySettings, calibrated_noise, spent_epsilon
from fedmosaic.relevance.privacy import NO_EXPOSURE

DELTA = 1e-5


def gaussian_delta(epsilon, sigma):
    """Balle & Wang, ICML 2018, theorem 8: delta of the Gaussian mechanism of sensitivity 1."""
    a, b = 1 / (2 * sigma), epsilon * sigma
    return norm.cdf(a - b) - math.exp(epsilon) * norm.cdf(-a - b)


def subsampled_delta(epsilon, sigma, rate):
    """Hockey-stick divergence of (1 - q) N(0, sigma^2) + q N(1, sigma^2) from N(0, sigma^2), by integration."""

    def excess(x):
        zero = norm.pdf(x, 0, sigma)
        return max((1 - rate) * zero + rate * norm.pdf(x, 1, sigma) - math.exp(epsilon) * zero, 0.0)

    # The density ratio crosses exp(epsilon) once; the integrand is zero below it.
    start = sigma**2 * math.log1p(math.expm1(epsilon) / rate) + 0.5
    return quad(excess, start, start + 12 * sigma, epsabs=1e-14, limit=200)[0]


@given(st.floats(0.3, 8), st.integers(1, 200))
@settings(max_examples=30, deadline=None)
def test_t_releases_are_one_gaussian_with_sigma_over_the_root_of_t(sigma, releases):
    sigma *= math.sqrt(releases)
    epsilon = spent_epsilon(Exposure(releases), noise_multiplier=sigma, delta=DELTA)
    assert gaussian_delta(epsilon, sigma / math.sqrt(releases)) == pytest.approx(DELTA, rel=1e-4)


@pytest.mark.parametrize(("sigma", "rate"), [(0.6, 0.5), (1.0, 0.25), (2.0, 0.05)])
def test_one_subsampled_release_equals_the_integral(sigma, rate):
    epsilon = spent_epsilon(Exposure(rate=rate), noise_multiplier=sigma, delta=DELTA)
    assert subsampled_delta(epsilon, sigma, rate) == pytest.approx(DELTA, rel=1e-3)
    assert epsilon < spent_epsilon(Exposure(), noise_multiplier=sigma, delta=DELTA)


def test_the_numerical_accountant_of_the_same_library_agrees():
    import dp_accounting
    from dp_accounting import pld

    accountant = pld.PLDAccountant()
    accountant.compose(dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(4.0), 20))
    mine = spent_epsilon(Exposure(20), noise_multiplier=4.0, delta=DELTA)
    assert mine == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-4)


def test_amplification_is_not_claimed_for_more_than_one_release():
    assert spent_epsilon(Exposure(3, 0.1), noise_multiplier=2.0, delta=DELTA) == spent_epsilon(
        Exposure(3, 1.0), noise_multiplier=2.0, delta=DELTA
    )


@pytest.mark.parametrize("exposure", [Exposure(), Exposure(20), Exposure(rate=0.3)])
@pytest.mark.parametrize("epsilon", [0.5, 3.0, 10.0])
def test_calibrated_noise_spends_the_whole_budget_and_not_more(exposure, epsilon):
    sigma = calibrated_noise(exposure, epsilon=epsilon, delta=DELTA)
    spent = spent_epsilon(exposure, noise_multiplier=sigma, delta=DELTA)
    assert spent <= epsilon
    assert spent == pytest.approx(epsilon, rel=1e-3)


def test_nothing_released_costs_nothing_and_much_noise_next_to_nothing():
    assert spent_epsilon(NO_EXPOSURE, noise_multiplier=1.0, delta=DELTA) == 0
    assert spent_epsilon(Exposure(), noise_multiplier=1e6, delta=DELTA) == 0


def test_the_mechanism_really_tells_two_neighbours_apart_no_better_than_stated():
    """The best test between a sample's presence and absence, run on the mechanism's own output."""
    sigma, draws = 1.0, 40_000
    epsilon = spent_epsilon(Exposure(), noise_multiplier=sigma, delta=DELTA)
    random = np.random.default_rng(0)
    without, present = (mean + sigma * random.normal(size=draws) for mean in (0.0, 1.0))
    for threshold in np.linspace(-1, 3, 9):
        power, false_alarm = (present > threshold).mean(), (without > threshold).mean()
        assert power <= math.exp(epsilon) * false_alarm + DELTA + 3 / math.sqrt(draws)


def test_settings_say_where_the_noise_comes_from():
    planned = Exposure(rate=1.0)
    assert PrivacySettings().limit == 10
    assert PrivacySettings(noise_multiplier=0.3).limit == math.inf
    assert PrivacySettings(noise_multiplier=0.3).noise_for(planned) == 0.3
    assert PrivacySettings(epsilon=2.0).noise_for(planned) == calibrated_noise(planned, epsilon=2.0, delta=DELTA)


@pytest.mark.parametrize(
    "wrong",
    [{"epsilon": 0}, {"epsilon": math.inf}, {"delta": 1.0}, {"noise_multiplier": 0}, {"when_spent": "x"}, {"eps": 1}],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(PrivacySettings).validate_python(wrong)
