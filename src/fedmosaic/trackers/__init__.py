"""Experiment trackers: a run's losses, scores and costs in W&B, MLflow, TensorBoard or Trackio.

A tracker is one file here, named like the tracker, or an entry point of another package (``fedmosaic.trackers``). What
is not asked for is not imported, nor are the trackers' libraries.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TypeGuard

from fedmosaic.errors import SettingsError
from fedmosaic.nearest import hint
from fedmosaic.trackers.base import Tracker

__all__ = ["Tracker", "known_trackers", "make_trackers", "tracker_class"]

_GROUP = "fedmosaic.trackers"
_NOT_TRACKERS = {"base"}


def known_trackers() -> list[str]:
    """Return the names of all trackers; nothing is imported."""
    return sorted({*_files(), *(entry.name for entry in entry_points(group=_GROUP))})


def tracker_class(name: str) -> type[Tracker]:
    """Return the tracker of a name.

    Args:
        name: of a file here or of an entry point.

    Raises:
        SettingsError: there is none (with the nearest name), or an entry point is not a tracker.
    """
    if name in _files():
        module = importlib.import_module(f"{__name__}.{name}")
        return next(kind for kind in vars(module).values() if _is_tracker(kind) and kind.name == name)
    for entry in entry_points(group=_GROUP, name=name):
        kind = entry.load()
        if not _is_tracker(kind):
            raise SettingsError(f"entry point {entry.name!r} ({entry.value}) is not a fedmosaic Tracker class")
        return kind
    known = known_trackers()
    raise SettingsError(f"unknown tracker {name!r}; {hint(name, known)}known: {', '.join(known)}")


def make_trackers(names: Sequence[str]) -> list[Tracker]:
    """Return new trackers, each once; their libraries are imported now, before anything is written.

    Args:
        names: of the trackers.

    Raises:
        SettingsError: there is no such tracker, or its library is not installed.
    """
    return [tracker_class(name)() for name in dict.fromkeys(names)]


def _files() -> set[str]:
    return {each.name for each in pkgutil.iter_modules(__path__)} - _NOT_TRACKERS


def _is_tracker(value: object) -> TypeGuard[type[Tracker]]:
    return isinstance(value, type) and issubclass(value, Tracker) and value is not Tracker
