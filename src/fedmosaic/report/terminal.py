"""The final table and the headline for the terminal."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from fedmosaic.report import exchange, missing, privacy
from fedmosaic.report.record import RunRecord, read_run
from fedmosaic.report.rows import FinalRow, Gain, final_rows, mean_row, means_over, whom
from fedmosaic.report.text import direction, percent, points

_OBEYED = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of characters that a terminal obeys instead of showing, or that cannot be written to it."""
_STYLES = {"up": "green", "down": "red", "same": ""}


def final_table(folder: Path) -> Table:
    """Return a table in percent, per client and mean: Self and Others at the start, after local training, at the end.

    Args:
        folder: a run folder; the run need not be done.

    Raises:
        SettingsError: not a run folder.
        RunError: a file in it is damaged.
    """
    record = read_run(folder)
    has_local = record.reference is not None
    mean = mean_row(record)
    # Edge and padding are left out so that two metrics fit into 80 columns; only the tasks give way.
    table = Table(title=_title(record), caption=_caption(record), show_footer=True, box=SIMPLE, padding=0)
    table.add_column("client", "mean", no_wrap=True)
    table.add_column("model", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("tasks")
    for name, gain in _metrics(record, mean):
        titles = ("start", "local", "final", "gain") if has_local else ("start", "final", "gain")
        for title, cell in zip(titles, _cells(gain, has_local), strict=True):
            table.add_column(f"{name}\n{title}", cell, justify="right", no_wrap=True)
    for row in final_rows(record):
        tasks = literal(", ".join(row.tasks))
        tasks.no_wrap, tasks.overflow = True, "ellipsis"
        cells = [cell for _, gain in _metrics(record, row) for cell in _cells(gain, has_local)]
        table.add_row(str(row.client), literal(row.model), tasks, *cells)
    return table


def literal(text: str) -> Text:
    """Return a text without markup, for names that come from files and users.

    In a plain string rich reads ``[brackets]`` and ``:colons:`` as markup, and a terminal obeys control characters;
    these become readable escapes.

    Args:
        text: any.
    """
    return Text("".join(_escaped(each) if unicodedata.category(each) in _OBEYED else each for each in text))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def headline(folder: Path) -> str:
    """Return one line: scenario, method, and Self and Others from the start to now.

    Args:
        folder: a run folder.

    Raises:
        SettingsError: not a run folder.
        RunError: a file in it is damaged.
    """
    record = read_run(folder)
    mean = mean_row(record)
    parts = [f"{record.settings.scenario.name}, {record.settings.method}, round {record.round}"]
    for name, gain in _metrics(record, mean):
        if gain.final is not None:
            local = f", local only {percent(gain.local)} %" if gain.local is not None else ""
            part = f" (mean over {over})" if (over := whom(record, gain.clients)) else ""
            parts.append(f"{name} {percent(gain.start)} -> {percent(gain.final)} %{local}{part}")
    return "; ".join(parts)


def _title(record: RunRecord) -> Text:
    last, others = record.last_round("self"), record.last_round("others")
    after = "nothing measured after training yet" if last is None else f"round {last} of {record.settings.rounds}"
    if others not in (None, last):
        after += f" (Others: round {others})"
    return literal(f"{record.settings.scenario.name}, {record.settings.method}, {after}: scores in %")


def _caption(record: RunRecord) -> Text:
    over = means_over(record, mean_row(record))
    lines = (_columns(record), exchange.line(record), over, missing.line(record), privacy.line(record))
    return Text("\n").join(literal(line) for line in lines if line)


def _columns(record: RunRecord) -> str:
    if record.reference is None:
        return "start: base models; gain: final minus start, in points"
    method = record.reference.settings.method
    return f"start: base models; local: {method}, equal steps, no exchange; gain: final minus local, in points"


def _cells(gain: Gain, has_local: bool) -> list[Text]:
    gained = gain.over_local if has_local else gain.over_start
    local = [Text(percent(gain.local))] if has_local else []
    final = Text(percent(gain.final), style="bold")
    return [Text(percent(gain.start)), *local, final, Text(points(gained), style=_STYLES[direction(gained)])]


def _metrics(record: RunRecord, row: FinalRow) -> list[tuple[str, Gain]]:
    """A single client has no others."""
    return [("Self", row.self_), ("Others", row.others)][: 2 if len(record.clients) > 1 else 1]
