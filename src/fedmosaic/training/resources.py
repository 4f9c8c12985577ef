"""The resources of a run that clients and methods may use."""

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
        """The run's settings."""
        ...

    @property
    def pool(self) -> ModelPool:
        """The base models, loaded on first use."""
        ...

    def public(self, count: int, round_: int) -> Sequence[Sample]:
        """Return public samples: in one round the same on the server and on all clients, others in each round.

        Args:
            count: how many.
            round_: from 1.

        Raises:
            SettingsError: the benchmark has none.
        """
        ...
