"""Runs that clients join and leave, or in which only some train: no difference between means over different clients."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics

import pytest
from rich.console import Console
from tests.report.test_page import page_of

from fedmosaic.cli.compare import comparison_table
from fedmosaic.experiments.comparison import compare
from fedmosaic.experiments.sweep import Plan
from fedmosaic.federation import RunFolder
from fedmosaic.federation.participation import present, schedule
from fedmosaic.report import comparison_page, final_table, headline
from fedmosaic.report.comparison import _bytes
from fedmosaic.report.record import read_run
from fedmosaic.report.rows import final_rows, mean_row
from fedmosaic.report.text import percent, points

MEMBERS = [
    {"leaves": {0: 1, 1: 1}},
    {"leaves": {2: 5}},
    {"joins": {1: 3}},
    {"joins": {0: 4, 2: 8}, "leaves": {1: 6}},
    {"leaves": {0: 7}, "joins": {1: 8}, "fraction": 0.5},
]


@pytest.fixture
def pair(make_run):
    """A run of three clients, two of which leave after round 1, beside its reference."""

    def make(**options):
        options = {"clients": 3, "rounds": 8, "relevance": False, **options}
        folder = make_run(**options)
        make_run("run/reference", **{**options, "method": "sft", "gain": 0.2, "upto": None})
        return folder

    return make


def scores(folder, column, round_):
    with (folder / "rounds.csv").open() as file:
        return {int(r["client"]): float(r[column]) for r in csv.DictReader(file) if int(r["round"]) == round_}


def mean_of(folder, column, round_, clients):
    return statistics.fmean(scores(folder, column, round_)[client] for client in clients)


@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize("upto", [None, 5])
def test_every_number_of_the_mean_row_is_over_the_clients_there_at_the_end(pair, members, upto):
    folder = pair(**members, upto=upto)
    last = upto or 8
    there = present(read_run(folder).settings, last)
    record = read_run(folder)
    mean, rows = mean_row(record), final_rows(record)
    for column, part in (("self", "self_"), ("others", "others")):
        gain = getattr(mean, part)
        assert gain.clients == there
        assert gain.start == pytest.approx(mean_of(folder, column, 0, there))
        assert gain.final == pytest.approx(mean_of(folder, column, last, there))
        assert gain.local == pytest.approx(mean_of(folder / "reference", column, last, there))
        single = [getattr(row, part) for row in rows if getattr(row, part).final is not None]
        assert gain.over_start == pytest.approx(statistics.fmean(each.over_start for each in single))
        assert gain.over_local == pytest.approx(statistics.fmean(each.over_local for each in single))


@pytest.mark.parametrize("members", MEMBERS)
def test_results_compare_the_same_clients(pair, members):
    folder = pair(**members)
    results = json.loads((folder / "results.json").read_text())
    there = present(read_run(folder).settings, 8)
    for part in ("self", "others"):
        own = {client: mean_of(folder, part, 8, [client]) - mean_of(folder, part, 0, [client]) for client in there}
        assert results[part]["last"] - results["initial"][part] == pytest.approx(statistics.fmean(own.values()))
        rounds = (2, 4, 6, 8)
        own_auc = [
            statistics.fmean(scores(folder, part, r)[client] for r in rounds if client in scores(folder, part, r))
            for client in there
        ]
        assert results[part]["auc"] == pytest.approx(statistics.fmean(own_auc))


def test_the_table_the_headline_and_the_page_say_whom_means_are_over(pair):
    folder = pair(leaves={0: 1, 1: 1})
    start, final = (mean_of(folder, "self", round_, [2]) for round_ in (0, 8))
    local = mean_of(folder / "reference", "self", 8, [2])
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=False).print(final_table(folder))
    (mean,) = [line.split() for line in out.getvalue().splitlines() if line.split()[:1] == ["mean"]]
    (alone,) = [line.split() for line in out.getvalue().splitlines() if line.split()[:1] == ["2"]]
    assert mean[1:5] == alone[-8:-4] == [percent(start), percent(local), percent(final), points(final - local)]
    assert "mean: 1 of 3 clients (2), those with a score at the end" in out.getvalue()
    assert f"Self {percent(start)} -> {percent(final)} %" in headline(folder)
    assert "(mean over 1 of 3 clients (2))" in headline(folder)
    page = page_of(folder)
    foot = page.tables[0][-1]
    assert foot[0] == "Mean over clients *"
    assert foot[1:6] == [percent(start), percent(local), percent(final), points(final - start), points(final - local)]
    assert "Mean: 1 of 3 clients (2), those with a score at the end" in page.text
    assert "the models of 1 of 3 clients (2) score" in page.text
    assert "all of these were there" in page.text


def test_runs_that_everybody_stays_in_say_nothing_of_it(pair):
    page = page_of(pair())
    assert page.tables[0][-1][0] == "Mean over clients"
    assert "those with a score" not in page.text
    assert "all of these were there" not in page.text


def test_the_curve_of_the_mean_has_the_same_clients_at_all_its_points(pair):
    record = read_run(pair(leaves={0: 2}, joins={1: 4}))
    clients = record.members("self")
    assert clients == (1, 2)
    curve = dict(record.curve("self", clients))
    assert sorted(curve) == [0, 4, 5, 6, 7, 8]  # client 1 was away in the rounds 1 to 3
    for round_, value in curve.items():
        assert value == pytest.approx(statistics.fmean(record.values["self"][round_][client] for client in clients))


def test_others_that_were_measured_in_other_company_say_so(make_run):
    folder = make_run(clients=3, rounds=8, upto=5, others_every=4, leaves={0: 4}, relevance=False)
    mean = mean_row(read_run(folder))
    assert (mean.self_.clients, mean.others.clients) == ((1, 2), (0, 1, 2))
    out = io.StringIO()
    Console(file=out, width=200).print(final_table(folder))
    assert "mean: Self: 2 of 3 clients (1, 2); Others: all clients" in out.getvalue()


def test_a_reference_of_another_length_is_not_set_beside_the_results(make_run):
    folder = make_run(clients=2, rounds=8)
    make_run("run/reference", clients=2, rounds=4, method="sft", gain=0.2, relevance=False)
    page = page_of(folder)
    assert "times local only" not in page.text
    table = next(table for table in page.tables if table[0][0] == "Task")
    assert [row[3] for row in table[2:]] == ["\u2013"] * 4


def test_a_seed_that_is_missing_is_said_and_not_the_best(make_run, tmp_path):
    laid = []
    for method, gain in (("sft", 0.2), ("fedmosaic", 0.5)):
        for seed in (0, 1):
            path = make_run(tmp_path / f"{method}-{seed}", method=method, gain=gain, seed=seed)
            laid.append(Plan(method, seed, RunFolder(path).settings, path))
    (laid[-1].path / "results.json").unlink()
    comparison = compare(laid, budget="steps")
    out = io.StringIO()
    Console(file=out, width=200).print(comparison_table(comparison))
    assert "fedmosaic (1 of 2 seeds)" in out.getvalue()
    html = comparison_page(comparison, laid, tmp_path / "page.html").read_text()
    row = re.search(r"<th scope=\"row\" class=\"variant\">fedmosaic\b.*?</tr>", html, re.DOTALL)
    assert "final" not in row[0]


# ---- traffic ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [{"fraction": 0.25}, {"fraction": 0.5, "leaves": {0: 3}}, {"joins": {3: 5}}])
def test_traffic_is_what_was_sent(make_run, members):
    folder = make_run(clients=4, rounds=8, **members)
    record = read_run(folder)
    sent = sum(len(ids) for ids in schedule(record.settings).values())
    assert sent < 32
    results = json.loads((folder / "results.json").read_text())
    assert results["messages"] == sent
    assert (results["bytes_up"], results["bytes_down"]) == (120_000, 80_000)  # of one message
    assert (results["total_bytes_up"], results["total_bytes_down"]) == (120_000 * sent, 80_000 * sent)
    page = page_of(folder)
    costs = next(table for table in page.tables if table[1][0].startswith("Upload"))
    assert costs[3] == ["All traffic of the run", f"{0.2 * sent:.2f} MB"]
    assert f"({sent} each way in all)" in page.text
    assert _bytes(record, 8) == pytest.approx(200_000 * sent / 4)  # what the comparison's page draws over
    assert _bytes(record, 2) == pytest.approx(200_000 * sum(len(schedule(record.settings)[r]) for r in (1, 2)) / 4)


def test_traffic_of_results_that_do_not_count_messages_follows_from_who_trained(make_run):
    folder = make_run(clients=4, rounds=8, fraction=0.25)
    results = json.loads((folder / "results.json").read_text())
    for key in ("messages", "total_bytes_up", "total_bytes_down"):
        del results[key]
    (folder / "results.json").write_text(json.dumps(results))
    costs = next(table for table in page_of(folder).tables if table[1][0].startswith("Upload"))
    assert costs[3][1] == "1.60 MB"
