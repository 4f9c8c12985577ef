"""What the uploads of a run tell about a single sample, in the words of the method and the numbers of its clients."""

from __future__ import annotations

from fedmosaic.federation.event_log import PrivacyTold
from fedmosaic.federation.results import PrivacyAccount
from fedmosaic.report.record import RunRecord
from fedmosaic.report.text import MISSING


def promise(record: RunRecord) -> str:
    """Return what the method promises, e.g. ``no guarantee: ...``; empty if it says nothing.

    Args:
        record: the run.
    """
    account = _account(record)
    return account.guarantee if account else ""


def line(record: RunRecord) -> str:
    """Return the promise and the largest epsilon of all clients in one line; empty if the method says nothing.

    Args:
        record: the run.
    """
    account = _account(record)
    if account is None or account.epsilon is None:
        return promise(record)
    return f"epsilon {account.epsilon:.3g} at delta {account.delta:g}: {account.guarantee}"


def rows(record: RunRecord) -> list[tuple[int, str, str, str]]:
    """Return (client, epsilon, delta, noise multiplier) of each client that keeps account.

    Args:
        record: the run.
    """
    account = _account(record)
    return [
        (client, _number(told.epsilon), _number(told.delta), _number(told.noise_multiplier))
        for client, told in sorted(account.per_client.items() if account else ())
    ]


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}"


def _account(record: RunRecord) -> PrivacyAccount | None:
    """From the results, or of a run that is not done from its latest event."""
    if record.results is not None:
        return record.results.privacy
    told = [line.what for line in record.events if isinstance(line.what, PrivacyTold)]
    return told[-1].account if told else None
