"""What reports say of clients that were missing."""

import re

import pytest

from fedmosaic.federation.results import Missing
from fedmosaic.report import final_table, write_report
from fedmosaic.report.missing import line, rows
from fedmosaic.report.record import read_run
from fedmosaic.report.rows import mean_row

AWAY = [
    *(Missing(round_, 2, "training", "failed: <ValueError>") for round_ in (2, 4, 5, 6)),
    Missing(4, 2, "evaluation", "no answer within 10 s"),
    Missing(8, 1, "evaluation", "not there"),
]


@pytest.mark.parametrize("upto", [None, 7])
def test_equal_reasons_are_one_row(make_run, upto):
    record = read_run(make_run(missing=AWAY, upto=upto))
    last = [(1, "evaluation", "8", "not there")] if upto is None else []
    assert [(row.client, row.exchange, row.rounds, row.why) for row in rows(record)] == [
        *last,
        (2, "training", "2, 4 to 6", "failed: <ValueError>"),
        (2, "evaluation", "4", "no answer within 10 s"),
    ]


def test_who_was_not_measured_at_the_end_is_in_no_mean_and_is_named(make_run):
    path = make_run(missing=AWAY)
    record = read_run(path)
    assert line(record) == "missing: 2 clients in 6 exchanges; not measured at the end, and in no mean: 1"
    mean = mean_row(record)
    assert mean.self_.clients == (0, 2, 3)
    kept = record.results.self_.per_client
    assert kept[1] is None
    assert mean.self_.final == pytest.approx(sum(kept[client] for client in (0, 2, 3)) / 3)
    page = write_report(path).read_text(encoding="utf-8")
    section = re.search(r"<h2>Missing clients</h2>.*?</section>", page, re.DOTALL)[0]
    assert "<td>2, 4 to 6</td><td>failed: &lt;ValueError&gt;</td>" in section
    assert "3 of 4 clients (0, 2, 3)" in page
    caption = str(final_table(path).caption)
    assert "in no mean: 1" in caption


def test_messages_that_nobody_answered_are_not_counted(make_run):
    assert read_run(make_run("all")).messages(8) == 32
    assert read_run(make_run("away", missing=AWAY)).messages(5) == 17


def test_nothing_is_said_where_nobody_was_missing(make_run):
    path = make_run()
    assert line(read_run(path)) == ""
    assert "Missing clients" not in write_report(path).read_text(encoding="utf-8")
