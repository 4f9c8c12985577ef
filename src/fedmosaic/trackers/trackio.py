"""Trackio: a local database, shown by ``trackio show``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fedmosaic.federation.callbacks import RunStart
from fedmosaic.trackers.base import Parameter, Pixels, Tracker, kept_id, library, title

_PROJECT = "fedmosaic"


class Trackio(Tracker):
    """Logs to a Trackio run, which goes on when the run does; ``TRACKIO_*`` variables are Trackio's own."""

    name = "trackio"

    def __init__(self) -> None:
        self._library = library("trackio", extra=self.name)
        self._run: Any = None
        self._project = os.environ.get("TRACKIO_PROJECT", _PROJECT)

    def open(self, run: RunStart, parameters: Mapping[str, Parameter]) -> None:
        """Begin the run, or take it up again: Trackio knows runs by name. See :meth:`Tracker.open`."""
        self._run = self._library.init(
            project=self._project,
            name=f"{title(run.settings)}-{kept_id(run.folder, self.name)}",
            config=dict(parameters),
            resume="allow",
            embed=False,
        )

    def scalars(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        """Log numbers, with the axis that they are over. See :meth:`Tracker.scalars`."""
        self._run.log({**values, axis: at}, step=at)

    def image(self, name: str, pixels: Pixels, *, at: int) -> None:
        """Log an image. See :meth:`Tracker.image`."""
        self._run.log({name: self._library.Image(pixels)}, step=at)

    def close(self, *, done: bool) -> None:
        """End the run. See :meth:`Tracker.close`."""
        self._run.finish()

    @property
    def view(self) -> str:
        """The command that shows it."""
        return f'trackio show --project "{self._project}"'
