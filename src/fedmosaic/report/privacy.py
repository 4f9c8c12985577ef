"""What the uploads of a run tell about a single sample, in the words of the method and the numbers of its clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.report.record import RunRecord
from fedmosaic.report.text import MISSING


def promise(record: RunRecord) -> str:
    """What the method promises, e.g. ``no guarantee: ...``; empty if it says nothing."""
    return str(_told(record).get("guarantee", ""))


def line(record: RunRecord) -> str:
    """The promise and the largest epsilon of all clients in one line; empty if the method says nothing."""
    told = _told(record)
    if told.get("epsilon") is None:
        return promise(record)
    return f"epsilon {told['epsilon']:.3g} at delta {told['delta']:g}: {promise(record)}"


def rows(record: RunRecord) -> list[tuple[int, str, str, str]]:
    """(client, epsilon, delta, noise multiplier) of each client that keeps account."""
    clients = _told(record).get("per_client", {})
    return [
        (client, _number(told, "epsilon"), _number(told, "delta"), _number(told, "noise_multiplier"))
        for client, told in sorted((int(client), told) for client, told in clients.items())
    ]


def _number(table: Mapping[str, Any], key: str) -> str:
    return f"{table[key]:.3g}" if key in table else MISSING


def _told(record: RunRecord) -> Mapping[str, Any]:
    """From the results, or of a run that is not done from its latest event."""
    if record.results is not None:
        return record.results.get("privacy") or {}
    events = [event for event in record.events if event.get("event") == "privacy"]
    return events[-1] if events else {}
