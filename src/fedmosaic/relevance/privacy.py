"""Privacy accounting: the (epsilon, delta) of a client's sanitised sketches over a run, per sample.

Mechanism: Gaussian, on the sum of sketches that are clipped to norm C each, with noise N(0, (sigma C)^2 I)
(:func:`fedmosaic.relevance.sanitise.clipped_mean`); the sum is divided by a number that does not depend on the samples.

Neighbours: two data sets of a client that differ in *one sample*, whose sketch is zero in one of them: "zero-out", the
neighbouring relation of DP-FTRL. How many samples there are, and when each arrives, is the same in both and is not
protected. The guarantee is for samples: if one person wrote m of them, it has m times the exposure. It covers the
sketches only, not the adapters that are uploaded with them.

Sampling: a sample's *exposure* is the number of releases that it can be in, and the rate at which it is in them.

* The probe reads what has newly arrived: every sample is in at most one release, with probability q independently of
  all others (Poisson sampling by the client's secret key; q = 1 while few samples arrive). One subsampled Gaussian, for
  however many rounds; they compose in parallel.
* The probe reads training batches: which these are is up to the stream, which favours some samples and draws them
  dependently. No amplification is claimed: every sample counts in every round (once), and T rounds are T Gaussians,
  that is one of sigma / sqrt(T).

Both are exact in closed form, by Google's dp-accounting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from scipy.optimize import brentq

DEFAULT_EPSILON = 10.0

Finite = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class PrivacySettings:
    """The privacy budget of one client's sketches."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    epsilon: Finite | None = None
    """What the run may spend. Default: 10, or no limit if ``noise_multiplier`` is given."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """Should be well below 1 / samples of a client."""
    noise_multiplier: Finite | None = None
    """sigma. Default: as little as ``epsilon`` allows if every round is used."""
    when_spent: Literal["silent", "stop"] = "silent"
    """What a client does whose next release would exceed ``epsilon``: upload its last sketch again for the rest of the
    run (a zero sketch, which is like nobody's, if there is none), or end the run with an error."""
    reproducible_noise: bool | None = None
    """Whether the noise follows from the run's seed, which the server knows and could use to subtract it: for research
    only. Otherwise it follows from a key that stays on the client's disk. Default: yes, except in deployment."""

    @property
    def limit(self) -> float:
        """The largest epsilon that may be spent."""
        if self.epsilon is not None:
            return self.epsilon
        return DEFAULT_EPSILON if self.noise_multiplier is None else math.inf

    def noise_for(self, planned: Exposure) -> float:
        """Return the noise multiplier sigma of a run.

        Args:
            planned: the largest exposure of a sample at the end of the run.

        Returns:
            sigma, in units of the clipping norm.
        """
        return self.noise_multiplier or calibrated_noise(planned, epsilon=self.limit, delta=self.delta)


DEFAULT_PRIVACY = PrivacySettings()


@dataclass(frozen=True)
class Exposure:
    """How often a sample can be in a release, at most.

    Attributes:
        releases: the number of releases that it can be in.
        rate: the probability of being in one; counts only if there is just one release.
    """

    releases: int = 1
    rate: float = 1.0

    @property
    def _sampling(self) -> float:
        return self.rate if self.releases == 1 else 1.0


NO_EXPOSURE = Exposure(releases=0, rate=0.0)


@lru_cache
def spent_epsilon(exposure: Exposure, *, noise_multiplier: float, delta: float) -> float:
    """Return the smallest epsilon for which the releases are (epsilon, delta)-differentially private.

    Args:
        exposure: of the most exposed sample.
        noise_multiplier: sigma of every release.
        delta: in (0, 1).
    """
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss  # noqa: PLC0415 - takes a second

    if exposure.releases == 0:
        return 0.0
    sigma = noise_multiplier / math.sqrt(exposure.releases)
    # Of the two directions (zero-out and back) this is the worse one at every epsilon > 0.
    loss = GaussianPrivacyLoss(sigma, sampling_prob=exposure._sampling)

    def delta_gap(epsilon: float) -> float:
        return float(loss.get_delta_for_epsilon(epsilon)) - delta

    if delta_gap(0.0) <= 0:
        return 0.0
    high = 1.0
    while delta_gap(high) > 0:
        high *= 2
    return float(brentq(delta_gap, 0.0, high, xtol=1e-9, rtol=1e-12))


@lru_cache
def calibrated_noise(exposure: Exposure, *, epsilon: float, delta: float) -> float:
    """Return the smallest noise multiplier with which the releases are (epsilon, delta)-differentially private.

    Args:
        exposure: of the most exposed sample.
        epsilon: > 0.
        delta: in (0, 1).
    """
    from dp_accounting.pld.common import DifferentialPrivacyParameters  # noqa: PLC0415 - takes a second
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss  # noqa: PLC0415

    wanted = DifferentialPrivacyParameters(epsilon, delta)
    loss = GaussianPrivacyLoss.from_privacy_guarantee(wanted, sampling_prob=exposure._sampling)
    return float(loss.standard_deviation) * math.sqrt(exposure.releases)
