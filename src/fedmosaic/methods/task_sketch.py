"""A client's sketch of its task (RELA): the probe's gradient on its samples, sanitised, as a running mean.

    s_k <- (1 - a) s_k + a * sanitise(sketch of the probe's gradient on the client's samples)

Shared by the methods that weigh clients by it; docs/method-facts.md#relevance has the facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from fedmosaic import seeding
from fedmosaic.config import RunSettings
from fedmosaic.data.sample import Sample
from fedmosaic.errors import SettingsError
from fedmosaic.methods.base import MethodSettings
from fedmosaic.models import BaseModel
from fedmosaic.relevance import (
    DEFAULT_PRIVACY,
    Exposure,
    PrivacySettings,
    Probe,
    ProbeBatch,
    Releases,
    Sanitise,
    SketchKind,
    make_sketch,
    probe_target,
    spent_epsilon,
)
from fedmosaic.training import Client

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class SketchSettings(MethodSettings):
    """Of a method whose clients sketch their tasks."""

    ema: Annotated[float, Field(gt=0, le=1)] = 0.5
    """a: weight of this round's sketch."""
    probe_on: Literal["arrivals", "batches"] = "arrivals"
    """What the probe reads: the samples that are new in a round, or training batches."""
    probe_samples: Count = 32
    """Of ``arrivals``: how many are read in a round, on average; all, if there are fewer."""
    probe_every: Count = 10
    """Of ``batches``: the first one of a round and every so many after it."""
    sketch: SketchKind = "projection"
    """How the probe's gradient is compressed."""
    sketch_size: Count = 1024
    """Length of a ``projection``."""
    subset_ratio: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of the gradient's entries in a ``subset``."""
    sanitise: Sanitise = "private"
    """How sketches are sanitised: clipping and calibrated noise, clipping alone, or the paper's noise."""
    clip: Positive = 0.1
    """Largest norm of one sample's sketch."""
    paper_noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    """Of ``sanitise = "paper"``: standard deviation of the noise on each sample's unclipped sketch. No guarantee."""
    privacy: PrivacySettings = DEFAULT_PRIVACY
    """The privacy budget, of ``sanitise = "private"``."""


def check_budget(own: SketchSettings, settings: RunSettings) -> None:
    """Refuse a run that would be stopped by its privacy budget before its last round.

    Args:
        own: the method's.
        settings: of the run.

    Raises:
        SettingsError: names both numbers of rounds.
    """
    privacy = own.privacy
    spends = own.sanitise == "private" and own.probe_on == "batches"
    if not spends or privacy.when_spent != "stop" or settings.rounds <= settings.horizon:
        return
    sigma = privacy.noise_for(Exposure(settings.horizon))
    cost = spent_epsilon(Exposure(settings.rounds), noise_multiplier=sigma, delta=privacy.delta)
    if cost > privacy.limit:
        raise SettingsError(
            f"{settings.rounds} rounds of sketches would cost epsilon = {cost:.3g}: their noise is planned for "
            f"{settings.horizon} rounds and {privacy.limit:g}, and method.privacy.when_spent=stop would end the run"
        )


class TaskSketch:
    """Makes the clients' sketches.

    Args:
        settings: of the method.
        model: the frozen model that is the probe; equal on all clients.
        seed: of the run.

    Attributes:
        probe: the model and how its gradient is compressed.
        size: length of a sketch.
    """

    def __init__(self, settings: SketchSettings, model: BaseModel, *, seed: int) -> None:
        self.settings = settings
        where = probe_target(model.decoder)
        sketch = make_sketch(
            settings.sketch,
            d_out=where.out_features,
            d_in=where.in_features,
            size=settings.sketch_size,
            ratio=settings.subset_ratio,
            seed=seed,
        )
        self.probe = Probe(model, sketch)
        self.size = sketch.size

    def update(self, client: Client, batches: Sequence[Sequence[Sample]]) -> None:
        """Mix a round's release into the running sketch; without one it stays as it is, zero at first.

        Args:
            client: whose memory holds the sketch, as ``sketch``.
            batches: the samples that it has trained on in the round.
        """
        probed = [sample for batch in batches[:: self.settings.probe_every] for sample in batch]
        flops, releases = self.probe.flops, self._releases(client)
        seen = releases(self._batch(client, probed), client.memory, round_=client.round)
        before = client.memory.get("sketch", torch.zeros(self.size) if seen is None else seen)
        client.memory["sketch"] = before if seen is None else torch.lerp(before, seen, self.settings.ema)
        client.meter.privacy = releases.report(client.memory)
        client.meter.flops += self.probe.flops - flops

    def _batch(self, client: Client, probed: Sequence[Sample]) -> ProbeBatch:
        """Return what is new since the probe's last pass, or each sample of the probed batches once."""
        if self.settings.probe_on == "batches":
            return ProbeBatch(list({id(sample): sample for sample in probed}.values()), rate=1.0, again=True)
        last = client.memory.get("probed", torch.tensor(0))
        client.memory["probed"] = torch.tensor(client.round)
        new = client.samples_since(int(last))
        return ProbeBatch(new, rate=self._rate(len(new)), again=False)

    def _rate(self, count: int) -> float:
        return min(1.0, self.settings.probe_samples / max(count, 1))

    def _releases(self, client: Client) -> Releases:
        settings, run = self.settings, client.settings
        batches = settings.probe_on == "batches"
        reproducible = settings.privacy.reproducible_noise
        if reproducible is None:
            reproducible = run.engine != "deployment"
        key = seeding.derive(run.seed, "sketch noise", client.id).to_bytes(8) if reproducible else client.secret()
        return Releases(
            probe=self.probe,
            sanitise=settings.sanitise,
            clip=settings.clip,
            paper_noise=settings.paper_noise,
            privacy=settings.privacy,
            planned=Exposure(run.horizon) if batches else Exposure(rate=max(map(self._rate, client.arrival_counts))),
            key=key,
            client=client.id,
            by_samples=not reproducible,  # else the noise is no secret anyway, and runs keep their numbers
        )
