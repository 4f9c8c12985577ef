"""Experiment trackers: a run's losses, scores and costs in W&B, MLflow, TensorBoard or Trackio.

A tracker is one file here, or an entry point of another package (``fedmosaic.trackers``). What is not asked for is not
imported, nor are the trackers' libraries.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedmosaic.registry import TRACKERS
from fedmosaic.trackers.base import Tracker

__all__ = ["Tracker", "make_trackers"]


def make_trackers(names: Sequence[str]) -> list[Tracker]:
    """Return new trackers, each once; their libraries are imported now, before anything is written.

    Args:
        names: of the trackers.

    Raises:
        SettingsError: there is no such tracker, or its library is not installed.
    """
    return [TRACKERS.load(name)() for name in dict.fromkeys(names)]
