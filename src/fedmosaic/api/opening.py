"""Opening a finished run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from fedmosaic.api.objects import Objects
from fedmosaic.config import RunSettings
from fedmosaic.data.images import ImageSource
from fedmosaic.errors import SettingsError
from fedmosaic.federation import ClientRuntime, RunFolder


def open_finished(
    path: Path,
    objects: Objects | None = None,
    *,
    images: ImageSource | None = None,
    cache: Path | None = None,
    change: Callable[[RunSettings], RunSettings] = lambda settings: settings,
) -> ClientRuntime:
    """Return the runtime of a finished run, whose clients' states are in its folder.

    Args:
        path: the run's folder.
        objects: what the run was given as objects.
        images: where images come from, if not from the run's benchmark, which is then never opened.
        cache: where image features are kept, if not in the user's cache folder.
        change: makes the settings that count now of the run's.

    Raises:
        SettingsError: it is no run folder, the run is not done, or objects of it are missing.
        RunError: its results are damaged.
    """
    folder = RunFolder(path)
    settings = folder.settings
    if folder.results() is None:
        raise SettingsError(f"the run in {path} is not done; finish it with: fedmosaic run --resume --out {path}")
    given = objects or Objects()
    given.check(settings)
    torch.set_num_threads(settings.threads)
    return ClientRuntime(given.assets(change(settings), images=images, cache=cache), folder.client_folder)
