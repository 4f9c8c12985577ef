"""Opening a finished run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from fedmosaic.config import RunSettings
from fedmosaic.data.images import ImageSource
from fedmosaic.errors import SettingsError
from fedmosaic.federation import Assets, ClientRuntime, RunFolder


def finished_run(
    path: Path,
    *,
    images: ImageSource | None = None,
    cache: Path | None = None,
    change: Callable[[RunSettings], RunSettings] | None = None,
) -> tuple[ClientRuntime, RunSettings]:
    """Return the runtime and the settings of a finished run, whose clients' states are in its folder.

    Args:
        path: the run's folder.
        images: where images come from, if not from the run's benchmark, which is then never opened.
        cache: where image features are kept, if not in the user's cache folder.
        change: makes the settings that count now of the run's.

    Raises:
        SettingsError: it is no run folder, or the run is not done.
        RunError: its results are damaged.
    """
    folder = RunFolder(path)
    settings = folder.settings
    if folder.results() is None:
        raise SettingsError(f"the run in {path} is not done; finish it with: fedmosaic run --resume --out {path}")
    torch.set_num_threads(settings.threads)
    settings = settings if change is None else change(settings)
    return ClientRuntime(Assets(settings, images=images, cache=cache), folder.client_folder), settings
