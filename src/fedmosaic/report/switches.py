"""When a client goes on to its next task."""

from __future__ import annotations

from fedmosaic.data.stream import tasks_by_round
from fedmosaic.report.record import RunRecord


def switches(record: RunRecord, client: int) -> list[int]:
    """Return the rounds in which a client begins with another task than in the round before; its first is none.

    Args:
        record: the run.
        client: its id.
    """
    settings, spec = record.settings, record.settings.scenario.client(client)
    rounds = spec.rounds(settings.horizon)
    if settings.scenario.protocol == "static" or not rounds:
        return []
    plan = tasks_by_round(spec.tasks, settings.scenario.protocol, len(rounds))
    return [rounds.start + i for i in range(1, len(plan)) if plan[i] != plan[i - 1]]


def common_switches(record: RunRecord) -> list[int]:
    """Return the rounds in which all clients go on to their next task; empty where they do so at different times.

    Args:
        record: the run.
    """
    each = {tuple(switches(record, client)) for client in record.clients}
    return list(each.pop()) if len(each) == 1 else []
