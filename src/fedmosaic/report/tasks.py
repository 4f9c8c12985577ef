"""Final scores of single tasks, from ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedmosaic.report.record import RunRecord


@dataclass(frozen=True)
class TaskRow:
    """One task's final scores, means over the clients that count; fractions in [0, 1], None if not known."""

    task: str
    owners: tuple[int, ...]
    self_: float | None
    self_local: float | None
    others: float | None
    others_local: float | None
    unseen: float | None


def task_rows(record: RunRecord) -> list[TaskRow]:
    """One row for each task of ``results.json``, the clients' tasks in their order first; empty if not done."""
    if record.results is None:
        return []
    names = ("self", "others", "unseen")
    reference = record.as_long.results if record.as_long else None
    mine = {name: of_results(record.results, name).get("per_task", {}) for name in names}
    local = {name: of_results(reference, name).get("per_task", {}) for name in names}
    scenario = record.settings.scenario
    order = dict.fromkeys([*scenario.task_names, *sorted({task for scores in mine.values() for task in scores})])
    return [
        TaskRow(
            task,
            tuple(client.id for client in scenario.clients if task in client.tasks),
            mine["self"].get(task),
            local["self"].get(task),
            mine["others"].get(task),
            local["others"].get(task),
            mine["unseen"].get(task),
        )
        for task in order
    ]


def of_results(results: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    """One of self, others, unseen of ``results.json``; null there means that no client has such tasks."""
    return (results or {}).get(name) or {}
