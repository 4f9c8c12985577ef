"""Opening a finished run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from fedmosaic.api.objects import Objects
from fedmosaic.api.placing import placed_again
from fedmosaic.config import RunSettings
from fedmosaic.data.images import ImageSource
from fedmosaic.errors import SettingsError
from fedmosaic.federation import ClientRuntime, RunFolder
from fedmosaic.federation.results import RunResults


def open_finished(
    path: Path,
    objects: Objects | None = None,
    *,
    images: ImageSource | None = None,
    cache: Path | None = None,
    after_exchange: bool = False,
    device: str | None = None,
    change: Callable[[RunSettings], RunSettings] = lambda settings: settings,
) -> ClientRuntime:
    """Return the runtime of a finished run, whose clients' states are in its folder.

    Args:
        path: the run's folder.
        objects: what the run was given as objects.
        images: where images come from, if not from the run's benchmark, which is then never opened.
        cache: where image features are kept, if not in the user's cache folder.
        after_exchange: whether clients answer as the last exchange has left them, not as local training has.
        device: where models compute; default: where they did, or what ``auto`` takes if that is not there.
        change: makes the settings that count now of the run's.

    Raises:
        SettingsError: it is no run folder, the run is not done or made no last exchange, objects of it are missing,
            or the device is not there.
        RunError: its results are damaged.
    """
    folder = RunFolder(path)
    settings = folder.settings
    results = finished_results(path)
    if after_exchange:
        check_exchanged(results, path)
    given = objects or Objects()
    given.check(settings)
    torch.set_num_threads(settings.threads)
    assets = given.assets(placed_again(change(settings), device), images=images, cache=cache)
    missing = unexchanged(results)
    return ClientRuntime(assets, folder.client_folder, after_exchange=after_exchange, unexchanged=missing)


def finished_results(path: Path) -> RunResults:
    """Return what came out of a run.

    Args:
        path: its folder.

    Raises:
        SettingsError: it is no run folder, or the run is not done.
        RunError: its results are damaged.
    """
    results = RunFolder(path).results()
    if results is None:
        raise SettingsError(f"the run in {path} is not done; finish it with: fedmosaic run --resume --out {path}")
    return results


def unexchanged(results: RunResults) -> frozenset[int]:
    """Return the ids of the clients that were missing in a run's last exchange.

    Args:
        results: of the run.
    """
    last = ("last exchange", results.rounds)
    return frozenset(each.client for each in results.missing if (each.exchange, each.round) == last)


def check_exchanged(results: RunResults, path: Path) -> None:
    """Make sure that a run made a last exchange.

    Args:
        results: of the run.
        path: its folder.

    Raises:
        SettingsError: it did not.
    """
    if results.exchanged is None:
        raise SettingsError(
            f"--after-exchange: the run in {path} ended without a last exchange, so its clients have one answer only; "
            "leave it out, or make a run with final_exchange=true"
        )
