"""How much a client may train in one round, and a meter of its work."""

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

    Args:
        settings: of the run.
        client: its id.
        round_: from 1.
    """
    steps, clients = Fraction(str(settings.training.steps)), settings.scenario.clients
    lead = Fraction([each.id for each in clients].index(client), len(clients))
    return math.floor(steps * round_ + lead) - math.floor(steps * (round_ - 1) + lead)


@dataclass
class Meter:
    """The work of one client in one round.

    Attributes:
        steps: optimiser steps.
        samples: that were trained on.
        tokens: of these samples as the model read them, prompts and images included, padding not.
        loss_sum: sum of the steps' training losses (nats).
        flops: floating-point operations of all passes.
        seconds: wall-clock time inside the client.
        privacy: the guarantee of the uploads so far for a sample, e.g. ``epsilon`` and ``delta``; empty: none.
    """

    steps: int = 0
    samples: int = 0
    tokens: int = 0
    loss_sum: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    privacy: dict[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float | None:
        """Mean training loss over the round's steps; None if there was none."""
        return self.loss_sum / self.steps if self.steps else None
