"""The final table: what each client's model scored at the start, after local-only training, after the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from fedmosaic.report.record import Metric, RunRecord
from fedmosaic.report.text import plural

_MOST_NAMED = 8


@dataclass(frozen=True)
class Gain:
    """One of Self and Others of one client, or of the mean over clients; fractions in [0, 1], None if not measured.

    All three are over the same clients and the same tasks.

    Attributes:
        start: of the base models.
        local: after local-only training.
        final: after the method.
        clients: ascending.
        exchanged: after the last exchange; only of a run that is done.
    """

    start: float | None
    local: float | None
    final: float | None
    clients: tuple[int, ...]
    exchanged: float | None = None

    @property
    def over_start(self) -> float | None:
        """After the method minus at the start."""
        return _difference(self.final, self.start)

    @property
    def over_local(self) -> float | None:
        """After the method minus after local-only training."""
        return _difference(self.final, self.local)


@dataclass(frozen=True)
class FinalRow:
    """One row.

    Attributes:
        client: its id; None for the mean over clients.
        model: short name of its base model.
        tasks: its own.
        self_: on its own tasks.
        others: on the other clients' tasks.
    """

    client: int | None
    model: str
    tasks: tuple[str, ...]
    self_: Gain
    others: Gain


def final_rows(record: RunRecord) -> list[FinalRow]:
    """Return one row for each client, ascending by id.

    Args:
        record: the run.
    """
    rows = []
    for client in record.clients:
        spec = record.settings.scenario.client(client)
        rows.append(FinalRow(client, short_model(spec.model), spec.tasks, *_gains(record, (client,), (client,))))
    return rows


def mean_row(record: RunRecord) -> FinalRow:
    """Return the means over the clients that are there at the end: nobody who has left counts at the start either.

    Args:
        record: the run.
    """
    return FinalRow(None, "", (), *_gains(record, record.members("self"), record.members("others")))


def whom(record: RunRecord, clients: Sequence[int]) -> str:
    """Return which clients a mean is over, if not all: ``1 of 3 clients (2)``, ``20 of 100 clients``; else nothing.

    Args:
        record: the run.
        clients: that the mean is over.
    """
    count = len(record.clients)
    if len(clients) in (0, count):
        return ""
    named = f" ({', '.join(map(str, clients))})" if len(clients) <= _MOST_NAMED else ""
    return f"{len(clients)} of {plural(count, 'client')}{named}"


def means_over(record: RunRecord, mean: FinalRow) -> str:
    """Return which clients the mean row is over, in a few words; empty if all.

    Args:
        record: the run.
        mean: the row of means.
    """
    gains = {"Self": mean.self_, "Others": mean.others}
    parts = {name: whom(record, gain.clients) or "all clients" for name, gain in gains.items() if gain.clients}
    if set(parts.values()) <= {"all clients"}:
        return ""
    same = len(set(parts.values())) == 1
    said = parts["Self"] if same else "; ".join(f"{name}: {part}" for name, part in parts.items())
    return f"mean: {said}, those with a score at the end"


def wins(rows: list[FinalRow], metric: Literal["self_", "others"]) -> tuple[int, int]:
    """Return (clients that end higher than after local-only training, clients for which both were measured).

    Args:
        rows: of single clients.
        metric: Self or Others.
    """
    gains = [gain for row in rows if (gain := getattr(row, metric).over_local) is not None]
    return sum(gain > 0 for gain in gains), len(gains)


def short_model(name: str) -> str:
    """Return the last part of a checkpoint path or hub name; embedded models' names stay as they are.

    Args:
        name: of a base model.
    """
    return PurePath(name).name or name


def _gains(record: RunRecord, own: tuple[int, ...], others: tuple[int, ...]) -> tuple[Gain, Gain]:
    return _gain(record, "self", own), _gain(record, "others", others)


def _gain(record: RunRecord, metric: Metric, clients: tuple[int, ...]) -> Gain:
    last = record.last_round(metric)
    # The reference counts only at the very round after which the method was measured: a run that is not done, or a
    # reference that is not, would otherwise be compared at unequal budgets.
    local = record.reference.mean(metric, last, clients) if record.reference else None
    final, exchanged = record.mean(metric, last, clients), record.exchanged_mean(metric, clients)
    return Gain(record.mean(metric, 0, clients), local, final, clients, exchanged)


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
