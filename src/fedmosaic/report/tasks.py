"""Final scores of single tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedmosaic.evaluation import Summary
from fedmosaic.report.matrix import means_over
from fedmosaic.report.record import RunRecord


@dataclass(frozen=True)
class TaskRow:
    """One task's final scores, means over the clients that count; fractions in [0, 1], None if not known.

    Attributes:
        task: its name.
        owners: the clients that train on it.
        self_: of the owners' models.
        self_local: the same of the reference.
        self_start: the same of the base models.
        others: of the other clients' models.
        others_local: the same of the reference.
        others_start: the same of the base models.
        unseen: of all clients' models, of a task that nobody trained on.
    """

    task: str
    owners: tuple[int, ...]
    self_: float | None
    self_local: float | None
    self_start: float | None
    others: float | None
    others_local: float | None
    others_start: float | None
    unseen: float | None


def task_rows(record: RunRecord) -> list[TaskRow]:
    """Return one row for each task that was scored, the clients' tasks in their order first; empty if not done.

    Args:
        record: the run.
    """
    if record.results is None:
        return []
    mine, local = record.results, record.as_long.results if record.as_long else None
    own, others, unseen = _per_task(mine.self_), _per_task(mine.others), _per_task(mine.unseen)
    own_local, others_local = (_per_task(part) for part in ((local.self_, local.others) if local else (None, None)))
    scenario = record.settings.scenario
    start, there = record.samples.get("start"), record.members("self")
    order = dict.fromkeys([*scenario.task_names, *sorted({*own, *others, *unseen})])
    rows = []
    for task in order:
        owners = tuple(client.id for client in scenario.clients if task in client.tasks)
        foreign = [client for client in there if client not in owners]
        rows.append(
            TaskRow(
                task,
                owners,
                own.get(task),
                own_local.get(task),
                means_over(start, task, [client for client in there if client in owners]),
                others.get(task),
                others_local.get(task),
                means_over(start, task, foreign),
                unseen.get(task),
            )
        )
    return rows


def _per_task(part: Summary | None) -> Mapping[str, float]:
    """Score by task; empty where no client has such tasks."""
    return part.per_task if part else {}
