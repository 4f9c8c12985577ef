"""TensorBoard: files in the run folder, read by ``tensorboard --logdir``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmosaic.federation.callbacks import RunStart
from fedmosaic.trackers.base import Parameter, Pixels, Tracker, library

_METRICS = ("scores/self", "scores/others")  # beside the settings in TensorBoard's table of runs


class TensorBoard(Tracker):
    """Writes event files into the run folder's ``tensorboard``; a run that goes on adds another one there."""

    name = "tensorboard"

    def __init__(self) -> None:
        self._library = library("torch.utils.tensorboard", extra=self.name)
        self._writer: Any = None
        self._folder = Path()

    def open(self, run: RunStart, parameters: Mapping[str, Parameter]) -> None:
        """Begin a file, with the settings as hyper-parameters and as text. See :meth:`Tracker.open`."""
        self._folder = run.folder / "tensorboard"
        self._writer = self._library.SummaryWriter(str(self._folder))
        for summary in self._library.summary.hparams(dict(parameters), dict.fromkeys(_METRICS, 0.0)):
            self._writer.file_writer.add_summary(summary)
        self._writer.add_text("settings", f"```\n{run.settings.to_toml()}\n```")

    def scalars(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        """Add numbers; TensorBoard has one axis for each name. See :meth:`Tracker.scalars`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, at)

    def image(self, name: str, pixels: Pixels, *, at: int) -> None:
        """Add an image. See :meth:`Tracker.image`."""
        self._writer.add_image(name, pixels, at, dataformats="HWC")
        self._writer.flush()  # once a round

    def close(self, *, done: bool) -> None:
        """Write what is left. See :meth:`Tracker.close`."""
        self._writer.close()

    @property
    def view(self) -> str:
        """The command that shows it."""
        return f"tensorboard --logdir {self._folder.parent}"
