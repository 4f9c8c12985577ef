"""What the run cost: traffic, time, compute."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from fedmosaic.events import Trained
from fedmosaic.federation.event_log import Memory, Resumed
from fedmosaic.report.record import RunRecord
from fedmosaic.report.text import MISSING, duration, flops, size


def cost_rows(record: RunRecord) -> list[tuple[str, list[str]]]:
    """Return (what, [this run's, the reference's if there is one]) for the table of costs.

    Args:
        record: the run.
    """
    columns = [_costs(each) for each in (record, record.reference) if each is not None]
    return [(what, [column[what] for column in columns]) for what in columns[0]]


def times_reference(record: RunRecord) -> str:
    """Return training FLOPs as a multiple of the reference's, or an empty text.

    Args:
        record: the run.
    """
    mine, other = record.costs, record.as_long.costs if record.as_long else None
    return f"{mine.flops / other.flops:.2f} times local only" if mine and other and other.flops else ""


def elapsed(record: RunRecord) -> float | None:
    """Return wall-clock seconds; of a run that is not done, from its first to its latest event.

    Args:
        record: the run.
    """
    if record.costs is not None:
        return record.costs.seconds
    times = _times(record)
    return times[-1] - times[0] if times else None


def started(record: RunRecord) -> str:
    """Return when the run was started.

    Args:
        record: the run.
    """
    times = _times(record)
    return datetime.fromtimestamp(times[0], UTC).strftime("%Y-%m-%d %H:%M UTC") if times else MISSING


def resumed(record: RunRecord) -> list[int]:
    """Return rounds after which the run was interrupted and taken up again.

    Args:
        record: the run.
    """
    return [line.what.round for line in record.events if isinstance(line.what, Resumed)]


def messages(record: RunRecord) -> int:
    """Return how many uploads there were so far, which is also the number of downloads.

    Args:
        record: the run.
    """
    counted = record.costs.messages if record.costs else None
    return record.messages(record.round) if counted is None else counted


def _costs(record: RunRecord) -> dict[str, str]:
    costs = record.costs
    sent = (costs.bytes_up + costs.bytes_down) * messages(record) if costs else None
    return {
        "Upload of one client in one round": size(costs.bytes_up if costs else None),
        "Download of one client in one round": size(costs.bytes_down if costs else None),
        "All traffic of the run": size(sent),
        "Wall time": duration(elapsed(record)),
        "Training time, all clients": duration(costs.train_seconds if costs else None),
        "Evaluation time, all clients": duration(costs.evaluation_seconds if costs else None),
        "Training compute, all clients": flops(costs.flops if costs else None),
        "Training speed": _speed(record),
        "Most memory held": most_memory([record]),
    }


def tokens_per_second(records: Sequence[RunRecord]) -> float | None:
    """Return how many tokens clients have trained on in a second of their training; None where they were not counted.

    Args:
        records: of runs.
    """
    told = [line.what for record in records for line in record.events if isinstance(line.what, Trained)]
    counted = [(each.tokens, each.seconds) for each in told if each.tokens is not None and each.seconds > 0]
    return sum(tokens for tokens, _ in counted) / sum(seconds for _, seconds in counted) if counted else None


def most_memory(records: Sequence[RunRecord]) -> str:
    """Return the most memory that the process of any of some runs had held when the run ended.

    Args:
        records: of runs.
    """
    told = [line.what for record in records for line in record.events if isinstance(line.what, Memory)]
    process, device = (max(filter(None, found), default=None) for found in (
        [each.process for each in told], [each.device for each in told]
    ))  # fmt: skip
    return size(process) + (f", {size(device)} on the device" if device else "")


def _speed(record: RunRecord) -> str:
    """Tokens, where they were counted, and FLOPs a second while clients train."""
    costs = record.costs
    if costs is None or not costs.train_seconds:
        return MISSING
    tokens = tokens_per_second([record])
    begin = "" if tokens is None else f"{tokens:,.0f} tokens/s, "
    return f"{begin}{flops(costs.flops / costs.train_seconds)}/s"


def _times(record: RunRecord) -> list[float]:
    return sorted(line.time for line in record.events)
