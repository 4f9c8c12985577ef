"""The final table: what each client's model scored at the start, after local-only training, after the method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from fedmosaic.report.record import Metric, RunRecord


@dataclass(frozen=True)
class Gain:
    """One of Self and Others of one client, or of the mean over clients; fractions in [0, 1], None if not measured."""

    start: float | None
    local: float | None
    final: float | None

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
    """One row; ``client`` None is the mean over clients."""

    client: int | None
    model: str
    tasks: tuple[str, ...]
    self_: Gain
    others: Gain


def final_rows(record: RunRecord) -> list[FinalRow]:
    """One row for each client, ascending by id."""
    rows = []
    for client in record.clients:
        spec = record.settings.scenario.client(client)
        rows.append(FinalRow(client, short_model(spec.model), spec.tasks, *_gains(record, client)))
    return rows


def mean_row(record: RunRecord) -> FinalRow:
    """The means over the clients."""
    return FinalRow(None, "", (), *_gains(record, None))


def wins(rows: list[FinalRow], metric: Literal["self_", "others"]) -> tuple[int, int]:
    """(clients that end higher than after local-only training, clients for which both were measured)."""
    gains = [gain for row in rows if (gain := getattr(row, metric).over_local) is not None]
    return sum(gain > 0 for gain in gains), len(gains)


def short_model(name: str) -> str:
    """The last part of a checkpoint path or hub name; embedded models' names stay as they are."""
    return PurePath(name).name or name


def _gains(record: RunRecord, client: int | None) -> tuple[Gain, Gain]:
    return _gain(record, "self", client), _gain(record, "others", client)


def _gain(record: RunRecord, metric: Metric, client: int | None) -> Gain:
    last = record.last_round(metric)
    # The reference counts only at the very round after which the method was measured: a run that is not done, or a
    # reference that is not, would otherwise be compared at unequal budgets.
    local = record.reference.value(metric, last, client) if record.reference else None
    return Gain(record.value(metric, 0, client), local, record.value(metric, last, client))


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
