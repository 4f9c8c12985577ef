"""Every client on every task: final scores, and what they are more or less than at the start and alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fedmosaic.evaluation.summary import SampleScores
from fedmosaic.report.record import RunRecord
from fedmosaic.report.text import percent

_MOST_CLIENTS = 24
_MOST_TASKS = 120
"""Clients and tasks that the page has room for; ``scores.json`` has them all."""


@dataclass(frozen=True)
class MatrixCell:
    """One client on one task; fractions in [0, 1], None if not measured.

    Attributes:
        own: whether it is one of the client's own tasks.
        start, local, final: of the base model, after local-only training, after the method.
        over_local: whether a difference is one to local-only training, else to the start; the same in all cells.
    """

    own: bool
    start: float | None
    local: float | None
    final: float | None
    over_local: bool

    @property
    def gained(self) -> float | None:
        """Final minus local only, or minus the start."""
        before = self.local if self.over_local else self.start
        return None if self.final is None or before is None else self.final - before

    @property
    def before(self) -> str:
        """Start and local only in words."""
        parts = (("start", self.start), ("local only", self.local))
        return ", ".join(f"{name} {percent(value)} %" for name, value in parts if value is not None)


def matrix(record: RunRecord) -> tuple[list[int], list[tuple[str, list[MatrixCell]]]]:
    """Return the clients shown, and (task, a cell for each of them) for all tasks; no tasks if the run is not done.

    Args:
        record: the run.
    """
    clients = record.clients[:_MOST_CLIENTS]
    final = record.samples.get("final")
    if final is None:
        return clients, []
    start, local = record.samples.get("start"), record.alone
    own = {client: record.settings.scenario.client(client).tasks for client in clients}
    return clients, [
        (
            task,
            [
                MatrixCell(
                    own=task in own[k],
                    start=_mean(start, k, task),
                    local=_mean(local, k, task),
                    final=_mean(final, k, task),
                    over_local=local is not None,
                )
                for k in clients
            ],
        )
        for task in record.settings.scenario.task_names[:_MOST_TASKS]
    ]


def means_over(scores: SampleScores | None, task: str, clients: Sequence[int]) -> float | None:
    """Return the mean of a task's score over those clients that were scored on it; None if none was.

    Args:
        scores: of single samples.
        task: its name.
        clients: whose.
    """
    known = [value for client in clients if (value := _mean(scores, client, task)) is not None]
    return statistics.fmean(known) if known else None


def _mean(scores: SampleScores | None, client: int, task: str) -> float | None:
    found = (scores or {}).get(client, {}).get(task)
    return statistics.fmean(found) if found else None
