"""How much a client may train in one round, and a meter of what it did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Budget:
    """One round's allowance."""

    steps: int
    """Batches that the client sees."""


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
