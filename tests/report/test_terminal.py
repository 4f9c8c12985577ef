from __future__ import annotations

import io

from rich.console import Console

from fedmosaic.report import final_table, headline
from fedmosaic.report.record import read_run
from fedmosaic.report.rows import final_rows, mean_row
from fedmosaic.report.text import percent, points


def printed(table, width):
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(table)
    return out.getvalue()


def test_the_table_holds_every_number_at_80_columns(make_run):
    folder = make_run(clients=4)
    make_run("run/reference", clients=4, method="sft", gain=0.2, relevance=False)
    lines = printed(final_table(folder), 80).splitlines()
    record = read_run(folder)
    for row in [*final_rows(record), mean_row(record)]:
        name = "mean" if row.client is None else str(row.client)
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        numbers = [
            shown
            for gain in (row.self_, row.others)
            for shown in (percent(gain.start), percent(gain.local), percent(gain.final), points(gain.over_local))
        ]
        assert line.split()[-8:] == numbers
        assert row.model in line


def test_without_a_reference_the_gain_is_over_the_start(make_run):
    folder = make_run(clients=2)
    mean = mean_row(read_run(folder))
    text = printed(final_table(folder), 100)
    assert "final minus start" in text
    assert "local" not in text
    assert points(mean.self_.over_start) in text


def test_a_single_client_has_no_others_columns(make_run):
    assert "Others" not in printed(final_table(make_run(clients=1)), 100)


def test_names_are_not_markup(make_run):
    folder = make_run(clients=2, tasks=1, task_prefix="[red]task[/nope]", name="[bold]x[/oops]", title="")
    text = printed(final_table(folder), 140)
    assert "[red]task[/nope]-0a" in text
    assert "[bold]x[/oops]" in text


def test_the_rounds_are_named_where_they_differ(make_run):
    text = printed(final_table(make_run(rounds=8, upto=5, others_every=4)), 140)
    text = " ".join(text.split())  # a title may wrap
    assert "fedmosaic, round 5 of 8 (Others: round 4)" in text


def test_headline(make_run):
    folder = make_run(clients=3)
    mean = mean_row(read_run(folder))
    line = headline(folder)
    assert "\n" not in line
    assert f"Self {percent(mean.self_.start)} -> {percent(mean.self_.final)} %" in line
    assert "Others" in line
    assert "Others" not in headline(make_run("alone", clients=1))
