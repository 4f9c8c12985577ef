"""How much a client may train in one round, and a meter of what it did."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

from fedmosaic.config import RunSettings


@dataclass(frozen=True)
class Budget:
    """One round's allowance."""

    steps: int
    """Batches that the client sees."""


def steps_of(settings: RunSettings, client: int, round_: int) -> int:
    """Return how many steps a client takes in a round in which it trains.

    Where ``training.steps`` is no whole number, rounds with the next smaller and the next larger one are spread evenly
    over the run, and the clients' longer rounds over each other: up to any round, two clients that trained in all of
    them are at most one step apart, and N clients in R rounds take floor(N R steps) together (Hermite's identity).
    """
    steps, clients = Fraction(str(settings.training.steps)), settings.scenario.clients
    lead = Fraction([each.id for each in clients].index(client), len(clients))
    return math.floor(steps * round_ + lead) - math.floor(steps * (round_ - 1) + lead)


@dataclass
class Meter:
    """What one client did in one round."""

    steps: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    privacy: dict[str, float] = field(default_factory=dict)
    """What the uploads up to now tell about a sample, e.g. ``epsilon`` and ``delta``; empty: nothing is guaranteed."""

    @property
    def loss(self) -> float:
        """Mean training loss over the round's steps."""
        return self.loss_sum / max(self.steps, 1)
