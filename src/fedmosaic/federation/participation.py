"""Who trains in which round: a pure function of the run's settings, so that server and clients agree without asking."""

from __future__ import annotations

from fedmosaic import seeding
from fedmosaic.config import RunSettings

Schedule = dict[int, tuple[int, ...]]
"""Round -> ids of the clients that train in it, ascending."""


def schedule(settings: RunSettings) -> Schedule:
    """Return who trains in each round of a run.

    Args:
        settings: of the run.
    """
    return {round_: participants(settings, round_) for round_ in range(1, settings.rounds + 1)}


def participants(settings: RunSettings, round_: int) -> tuple[int, ...]:
    """Return the ids of the clients that train in a round, ascending.

    Of those that take part in the round (they have joined and not left), ``participation.fraction`` is drawn uniformly
    without replacement, independently of other rounds: the nearest whole number, and at least one.

    Args:
        settings: of the run.
        round_: from 1.
    """
    ids = present(settings, round_)
    count = max(1, round(settings.participation.fraction * len(ids)))
    if count == len(ids):
        return ids
    chosen = seeding.rng(settings.seed, "participants", round_).choice(ids, size=count, replace=False)
    return tuple(sorted(int(client) for client in chosen))


def present(settings: RunSettings, round_: int) -> tuple[int, ...]:
    """Return the ids of the clients that take part in a round, ascending.

    Args:
        settings: of the run.
        round_: from 1; 0, before the first, has all clients.
    """
    clients = settings.scenario.clients
    return tuple(sorted(each.id for each in clients if round_ == 0 or round_ in each.rounds(settings.rounds)))


def oldest_that_counts(settings: RunSettings, round_: int) -> int:
    """Return the earliest round whose uploads are used in ``round_``.

    Args:
        settings: of the run.
        round_: from 1.
    """
    staleness = settings.participation.staleness
    return round_ - staleness if staleness else 0
