"""Weights & Biases: online, or offline with ``WANDB_MODE=offline``; its files are in the run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fedmosaic.federation.callbacks import RunStart
from fedmosaic.trackers.base import ROUND, Parameter, Pixels, Tracker, kept_id, library, title

_PROJECT = "fedmosaic"


class WandB(Tracker):
    """Logs to a W&B run, which goes on when the run does; ``WANDB_*`` variables are W&B's own."""

    name = "wandb"

    def __init__(self) -> None:
        self._library = library("wandb", extra=self.name)
        self._run: Any = None
        self._axes: dict[str, str] = {}

    def open(self, run: RunStart, parameters: Mapping[str, Parameter]) -> None:
        """Begin the run, or take it up again. See :meth:`Tracker.open`."""
        self._run = self._library.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=title(run.settings),
            config=dict(parameters),
            dir=str(run.folder),
            id=kept_id(run.folder, self.name),
            resume="allow",
            reinit="create_new",
        )

    def scalars(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        """Log numbers over their own axis: W&B's would mix steps and rounds. See :meth:`Tracker.scalars`."""
        for name in values:
            if self._axes.setdefault(name, "") != axis:
                self._run.define_metric(name, step_metric=axis)
                self._axes[name] = axis
        self._run.log({**values, axis: at})

    def image(self, name: str, pixels: Pixels, *, at: int) -> None:
        """Log an image. See :meth:`Tracker.image`."""
        self._run.log({name: self._library.Image(pixels), ROUND: at})

    def close(self, *, done: bool) -> None:
        """End the run. See :meth:`Tracker.close`."""
        self._run.finish(exit_code=0 if done else 1)
