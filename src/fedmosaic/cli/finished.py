"""Opening a finished run again."""

from __future__ import annotations

from pathlib import Path

from fedmosaic.api.opening import open_finished
from fedmosaic.config import RunSettings
from fedmosaic.data.images import ImageSource
from fedmosaic.federation import ClientRuntime


def finished_run(
    path: Path, *, images: ImageSource | None = None, cache: Path | None = None
) -> tuple[ClientRuntime, RunSettings]:
    """Return a finished run and its settings; see :func:`~fedmosaic.api.opening.open_finished`."""
    runtime = open_finished(path, images=images, cache=cache)
    return runtime, runtime.assets.settings
