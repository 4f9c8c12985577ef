"""What the run cost: traffic, time, compute."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fedmosaic.report.record import RunRecord
from fedmosaic.report.text import MISSING, duration, flops, size


def cost_rows(record: RunRecord) -> list[tuple[str, list[str]]]:
    """(what, [this run's, the reference's if there is one]) for the table of costs."""
    columns = [_costs(each) for each in (record, record.reference) if each is not None]
    return [(what, [column[what] for column in columns]) for what in columns[0]]


def times_reference(record: RunRecord) -> str:
    """Training FLOPs as a multiple of the reference's, or an empty text."""
    if record.as_long is None:
        return ""
    mine, other = (_number(each.results, "flops") for each in (record, record.as_long))
    return f"{mine / other:.2f} times local only" if mine is not None and other else ""


def elapsed(record: RunRecord) -> float | None:
    """Wall-clock seconds; of a run that is not done, from its first to its latest event."""
    if record.results is not None:
        return _number(record.results, "seconds")
    times = _times(record)
    return times[-1] - times[0] if times else None


def started(record: RunRecord) -> str:
    """When the run was started."""
    times = _times(record)
    return datetime.fromtimestamp(times[0], UTC).strftime("%Y-%m-%d %H:%M UTC") if times else MISSING


def resumed(record: RunRecord) -> list[int]:
    """Rounds after which the run was interrupted and taken up again."""
    return [int(event["round"]) for event in record.events if event.get("event") == "resumed"]


def messages(record: RunRecord) -> int:
    """How many uploads there were so far, which is also the number of downloads."""
    counted = _number(record.results, "messages")
    return record.messages(record.round) if counted is None else round(counted)


def _costs(record: RunRecord) -> dict[str, str]:
    results = record.results
    up, down = _number(results, "bytes_up"), _number(results, "bytes_down")
    sent = None if up is None or down is None else (up + down) * messages(record)
    return {
        "Upload of one client in one round": size(up),
        "Download of one client in one round": size(down),
        "All traffic of the run": size(sent),
        "Wall time": duration(elapsed(record)),
        "Training time, all clients": duration(_number(results, "train_seconds")),
        "Evaluation time, all clients": duration(_number(results, "evaluation_seconds")),
        "Training compute, all clients": flops(_number(results, "flops")),
    }


def _number(table: Mapping[str, Any] | None, key: str) -> float | None:
    value = (table or {}).get(key)
    return float(value) if isinstance(value, int | float) else None


def _times(record: RunRecord) -> list[float]:
    return sorted(float(event["time"]) for event in record.events if isinstance(event.get("time"), int | float))
