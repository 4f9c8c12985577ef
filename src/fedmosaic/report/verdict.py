"""The run in a sentence or two."""

from __future__ import annotations

from fedmosaic.federation.event_log import Failed, Interrupted
from fedmosaic.report.record import Metric, RunRecord
from fedmosaic.report.rows import Gain, final_rows, mean_row, whom, wins
from fedmosaic.report.text import direction, percent, plural, points
from fedmosaic.report.worth import chance, change


def status(record: RunRecord) -> str:
    """Return how far the run is.

    Args:
        record: the run.
    """
    rounds = record.settings.rounds
    if record.results is not None:
        return f"finished, {plural(rounds, 'round')}"
    so_far = f"not finished: {record.round} of {plural(rounds, 'round')} so far"
    last = record.events[-1].what if record.events else None
    if isinstance(last, Failed):
        return f"{so_far}; it had to stop: {last.error}"
    return f"{so_far}; interrupted" if isinstance(last, Interrupted) else so_far


def sentences(record: RunRecord) -> list[str]:
    """Return one sentence on Self and one on Others, as far as measured.

    Args:
        record: the run.
    """
    mean, rows = mean_row(record), final_rows(record)
    found = [
        _sentence(record, "self", "their own tasks (Self)", mean.self_, wins(rows, "self_")),
        _sentence(record, "others", "the other clients' tasks (Others)", mean.others, wins(rows, "others")),
    ]
    return [text for text in found if text] or ["Nothing has been measured after training yet."]


def _sentence(record: RunRecord, metric: Metric, tasks: str, gain: Gain, won: tuple[int, int]) -> str:
    if gain.final is None:
        return ""
    compared = []
    if gain.over_start is not None:
        compared.append(f"{_more(gain.over_start)} the base models at the start")
    if gain.over_local is not None:
        higher = f"higher for {won[0]} of {plural(won[1], 'client')}"
        sure = change(record, metric, gain.clients, against="local")
        said = f"; {chance(sure)}" if sure else ""
        compared.append(f"{_more(gain.over_local)} local-only training ({higher}{said})")
    over = whom(record, gain.clients)
    models = f"the models of {over}" if over else "the models"
    text = f"On {tasks} {models} score {percent(gain.final)} % after round {record.last_round(metric)}"
    return f"{text}: {' and '.join(compared)}." if compared else f"{text}."


def _more(difference: float) -> str:
    way = direction(difference)
    if way == "same":
        return "as much as"
    return f"{points(abs(difference)).lstrip('+')} points {'more' if way == 'up' else 'less'} than"
