"""Who gained and who lost, whom each client learned from, and what that changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmosaic.report.record import RunRecord
from fedmosaic.report.rows import short_model
from fedmosaic.report.worth import MOST_CLIENTS, Change, change

_MOST = 3
_FAVOURED = 1.25
"""How many times an even split a weight is, on average, from which on a client learned more from another one."""


@dataclass(frozen=True)
class Teacher:
    """A client that another one learned from.

    Attributes:
        client: its id.
        weight: its mean share, over the rounds, of what the other received.
        model: short name of its base model.
        tasks: its own.
    """

    client: int
    weight: float
    model: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class HelpRow:
    """What the others did for one client.

    Attributes:
        client: its id.
        model: short name of its base model.
        self_, others: after the method, against local-only training.
        exchanged_self, exchanged_others: after the last download was taken up untrained, against before.
        teachers: those from which it received clearly more than an even split, the most first.
    """

    client: int
    model: str
    self_: Change | None
    others: Change | None
    exchanged_self: Change | None
    exchanged_others: Change | None
    teachers: list[Teacher]


def help_rows(record: RunRecord) -> list[HelpRow]:
    """Return one row for each of the first clients; empty if nothing of it is known, or there is one client only.

    Args:
        record: the run.
    """
    if len(record.clients) < 2:
        return []
    rows = [_row(record, client) for client in record.clients[:MOST_CLIENTS]]
    known = ("self_", "others", "exchanged_self", "exchanged_others")
    measured = any(getattr(row, name) is not None for row in rows for name in known)
    return rows if measured or record.relevance else []


def even_split(record: RunRecord) -> float:
    """Return the weight that each other client would have if all had the same.

    Args:
        record: the run.
    """
    return 1 / max(len(record.clients) - 1, 1)


def _row(record: RunRecord, client: int) -> HelpRow:
    model = short_model(record.settings.scenario.client(client).model)
    there = (client,)
    return HelpRow(
        client,
        model,
        change(record, "self", there, against="local"),
        change(record, "others", there, against="local"),
        change(record, "self", there, against="training"),
        change(record, "others", there, against="training"),
        _teachers(record, client),
    )


def _teachers(record: RunRecord, client: int) -> list[Teacher]:
    weights = [arrays["weights"][record.clients.index(client)] for arrays in record.relevance.values()]
    known = [each for each in weights if np.isfinite(each).any()]
    if not known:
        return []
    means = np.nan_to_num(np.stack(known)).mean(axis=0)  # of a client without an upload nothing was received
    order = sorted(range(len(means)), key=lambda i: -means[i])
    chosen = [i for i in order if record.clients[i] != client and means[i] > _FAVOURED * even_split(record)]
    specs = [record.settings.scenario.client(record.clients[i]) for i in chosen[:_MOST]]
    return [
        Teacher(spec.id, float(means[i]), short_model(spec.model), spec.tasks)
        for i, spec in zip(chosen, specs, strict=False)
    ]
