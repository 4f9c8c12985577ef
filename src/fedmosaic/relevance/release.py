"""One client's releases: which samples the probe reads, what leaves the client, and the privacy spent so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedmosaic.data.sample import Sample
from fedmosaic.errors import RunError
from fedmosaic.relevance.privacy import NO_EXPOSURE, Exposure, PrivacySettings, spent_epsilon
from fedmosaic.relevance.probe import Probe
from fedmosaic.relevance.sanitise import clipped_mean, poisson_sample, subkey, unclipped_mean

Sanitise = Literal["private", "clip", "paper"]

GUARANTEES: dict[Sanitise, str] = {
    "private": "sketches are differentially private per sample (zero-out); adapters are not covered",
    "clip": "no guarantee: sketches are clipped but carry no noise",
    "paper": "no guarantee: sketches carry the paper's noise without clipping",
}
"""What each way of sanitising guarantees, as reports state it."""


@dataclass(frozen=True)
class ProbeBatch:
    """The samples of a round that the probe may read.

    Attributes:
        samples: the candidates.
        rate: the probability with which each is read.
        again: whether a candidate may have been one in an earlier round.
    """

    samples: Sequence[Sample]
    rate: float
    again: bool

    def after(self, before: Exposure) -> Exposure:
        """Return the exposure of the most exposed sample after this batch.

        Args:
            before: the exposure so far.
        """
        releases = before.releases + 1 if self.again else 1
        return Exposure(releases, max(before.rate, self.rate))


@dataclass(frozen=True, kw_only=True)
class Releases:
    """Sanitises one client's probe gradients and accounts for the privacy that they cost.

    Attributes:
        probe: computes the sketches.
        sanitise: ``private``, ``clip`` or ``paper``; see :data:`GUARANTEES`.
        clip: largest norm of one sample's sketch.
        paper_noise: standard deviation of the paper's noise on each sample's sketch.
        privacy: the budget.
        planned: exposure at the end of the run; the noise is calibrated to it.
        key: secret of the noise and of the choice of samples.
        client: its id, for error messages.
        by_samples: whether noise and choice follow from the candidates, too, not from the round alone: where a round is
            redone over others, the same noise on two sums would cancel.
    """

    probe: Probe
    sanitise: Sanitise
    clip: float
    paper_noise: float
    privacy: PrivacySettings
    planned: Exposure
    key: bytes
    client: int
    by_samples: bool = False

    def __call__(self, batch: ProbeBatch, memory: dict[str, Tensor], *, round_: int) -> Tensor | None:
        """Return the sanitised sketch of a batch, or None if nothing may leave the client.

        Args:
            batch: this round's candidates.
            memory: the client's; holds its exposure, which is updated.
            round_: counts from 1; equal arguments give equal releases.

        Returns:
            (size,), or None.

        Raises:
            RunError: the budget is spent, and the run is to stop then.
        """
        if not batch.samples:
            return None
        key = subkey(self.key, "sketch", round_, *(map(_named, batch.samples) if self.by_samples else ()))
        noise_key, choice_key = subkey(key, "noise"), subkey(key, "choice")
        if self.sanitise == "paper":
            return unclipped_mean(self.probe(batch.samples), noise=self.paper_noise, key=noise_key)
        if self.sanitise == "private" and not self._may(batch, memory, round_):
            return None
        taken = [batch.samples[i] for i in poisson_sample(choice_key, len(batch.samples), batch.rate)]
        return clipped_mean(
            self.probe(taken),
            clip=self.clip,
            noise_multiplier=self.noise_multiplier if self.sanitise == "private" else 0.0,
            count=len(batch.samples) * batch.rate,
            key=noise_key,
        )

    @property
    def noise_multiplier(self) -> float:
        """Sigma of every release of the run."""
        return self.privacy.noise_for(self.planned)

    def report(self, memory: dict[str, Tensor]) -> dict[str, float]:
        """Return what has been spent.

        Args:
            memory: the client's.

        Returns:
            ``epsilon``, ``delta`` and ``noise_multiplier``; empty where nothing is guaranteed.
        """
        if self.sanitise != "private":
            return {}
        sigma, delta = self.noise_multiplier, self.privacy.delta
        spent = spent_epsilon(exposure(memory), noise_multiplier=sigma, delta=delta)
        return {"epsilon": spent, "delta": delta, "noise_multiplier": sigma}

    def _may(self, batch: ProbeBatch, memory: dict[str, Tensor], round_: int) -> bool:
        """Return whether the budget allows a batch; if so, its exposure is recorded."""
        after = batch.after(exposure(memory))
        sigma, delta, limit = self.noise_multiplier, self.privacy.delta, self.privacy.limit
        cost = spent_epsilon(after, noise_multiplier=sigma, delta=delta)
        if cost > limit:
            if self.privacy.when_spent == "stop":
                raise RunError(
                    f"client {self.client}: its sketch of round {round_} would cost epsilon = {cost:.3g} at delta = "
                    f"{delta:g}; method.privacy.epsilon allows {limit:g}. Allow more, add noise "
                    "(method.privacy.noise_multiplier), or let it go silent (method.privacy.when_spent=silent)"
                )
            return False
        memory["exposure"] = torch.tensor([after.releases, after.rate], dtype=torch.float64)
        return True


def _named(sample: Sample) -> str:
    """All that a sample's sketch depends on, and its id, which is unique within its task only."""
    return repr((sample.id, sample.images, sample.prompt, sample.answer))


def exposure(memory: dict[str, Tensor]) -> Exposure:
    """Return the exposure that a client's memory holds.

    Args:
        memory: the client's.
    """
    if "exposure" not in memory:
        return NO_EXPOSURE
    releases, rate = memory["exposure"].tolist()
    return Exposure(int(releases), rate)
