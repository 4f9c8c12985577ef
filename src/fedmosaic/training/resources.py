"""What a client and a method may use of the run that they are part of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fedmosaic.config import RunSettings
from fedmosaic.data.sample import Sample
from fedmosaic.training.model_pool import ModelPool


class Resources(Protocol):
    """A run's settings, base models and public samples; :class:`fedmosaic.federation.assets.Assets` are some."""

    @property
    def settings(self) -> RunSettings:
        """Of the run."""
        ...

    @property
    def pool(self) -> ModelPool:
        """The base models, loaded when they are first asked for."""
        ...

    def public(self, count: int, round_: int) -> Sequence[Sample]:
        """Return public samples: in one round the same on the server and on all clients, others in each round.

        Args:
            count: how many.
            round_: whose.

        Raises:
            SettingsError: the benchmark has none.
        """
        ...
