"""Who was missing from which exchange, and why, in rows of which each sums up equal ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedmosaic.report.record import RunRecord
from fedmosaic.report.text import plural


@dataclass(frozen=True)
class MissingRow:
    """Exchanges of one kind from which a client was missing for one reason.

    Attributes:
        client: its id.
        exchange: their kind.
        rounds: theirs, e.g. ``2, 5 to 9``.
        why: the reason.
    """

    client: int
    exchange: str
    rounds: str
    why: str


def rows(record: RunRecord) -> list[MissingRow]:
    """Return who was missing, by client, kind of exchange and reason.

    Args:
        record: the run.
    """
    found: dict[tuple[int, str, str], list[int]] = {}
    for each in sorted(record.missing, key=lambda each: (each.client, each.round)):
        found.setdefault((each.client, each.exchange, each.why), []).append(each.round)
    return [MissingRow(client, exchange, _ranges(rounds), why) for (client, exchange, why), rounds in found.items()]


def line(record: RunRecord) -> str:
    """Return how many clients were missing how often, and whom means leave out for it; empty if nobody was.

    Args:
        record: the run.
    """
    if not record.missing:
        return ""
    clients = sorted({each.client for each in record.missing})
    text = f"missing: {plural(len(clients), 'client')} in {plural(len(record.missing), 'exchange')}"
    if unmeasured := _unmeasured(record):
        text += f"; not measured at the end, and in no mean: {', '.join(map(str, unmeasured))}"
    return text


def _unmeasured(record: RunRecord) -> Sequence[int]:
    last = record.last_round("self")
    return sorted(each.client for each in record.missing if (each.exchange, each.round) == ("evaluation", last))


def _ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers with runs of three or more put together: ``2, 5 to 9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
