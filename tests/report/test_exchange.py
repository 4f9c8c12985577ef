"""Both answers of a run, after local training and after the last exchange, in pages, tables and comparisons."""

import io

import pytest
from rich.console import Console

from fedmosaic.cli.compare import comparison_table
from fedmosaic.experiments.comparison import compare, write_comparison
from fedmosaic.experiments.sweep import Plan
from fedmosaic.federation import RunFolder
from fedmosaic.report import comparison_page, final_table, write_report
from fedmosaic.report.exchange import costs, line
from fedmosaic.report.record import read_run
from fedmosaic.report.rows import final_rows, mean_row


def test_rows_have_both_and_gains_are_those_after_training(make_run):
    record = read_run(make_run(exchange=0.05))
    for row in (*final_rows(record), mean_row(record)):
        for gain in (row.self_, row.others):
            assert gain.exchanged == pytest.approx(gain.final + 0.05)
            assert gain.over_start == gain.final - gain.start


def test_a_mean_is_over_the_clients_that_are_there(make_run):
    record = read_run(make_run(exchange=0.05, leaves={1: 3}))
    rows = {row.client: row for row in final_rows(record)}
    assert rows[1].self_.exchanged is None
    assert mean_row(record).self_.exchanged == pytest.approx(mean_row(record).self_.final + 0.05)


def test_the_line_under_the_table_says_what_came_of_it(make_run):
    path = make_run(exchange=0.05)
    own, others = mean_row(read_run(path)).self_.exchanged, mean_row(read_run(path)).others.exchanged
    said = f"after the last exchange, without training on it: Self {100 * own:.1f} %, Others {100 * others:.1f} %"
    assert said in str(final_table(path).caption)
    assert costs(read_run(path)) == "320 kB down in all"


def test_a_method_that_it_does_not_change_says_so(make_run):
    path = make_run(exchange=0.0)
    assert "unchanged" in str(final_table(path).caption)
    assert costs(read_run(path)) == ""
    page = write_report(path).read_text()
    assert "unchanged, no answer depends on what it would bring" in page
    assert "The last exchange is not among these costs" not in page


def test_the_page_shows_a_column_and_what_it_cost(make_run):
    page = write_report(make_run(exchange=0.05)).read_text()
    assert page.count('class="number">exchange</th>') == 2
    assert "The last exchange is not among these costs: 320 kB down in all." in page


def test_without_an_exchange_nothing_is_said(make_run):
    for path in (make_run("old"), make_run("unfinished", exchange=0.05, upto=3)):
        assert line(read_run(path)) == ""
        assert "exchange</th>" not in write_report(path).read_text()


@pytest.fixture
def plans(make_run):
    """After training fedmosaic is ahead, after the exchange feddat is."""
    laid = []
    for method, gain, exchange in (("fedmosaic", 0.4, 0.0), ("sft", 0.2, 0.0), ("feddat", 0.3, 0.3)):
        for seed in (0, 1):
            path = make_run(f"{method}-{seed}", method=method, gain=gain, seed=seed, exchange=exchange)
            laid.append(Plan(method, seed, RunFolder(path).settings, path))
    return laid


def test_a_comparison_has_both_scores_and_both_paired_differences(plans, tmp_path):
    comparison = compare(plans, budget="steps")
    rows = {row["method"]: row for row in comparison["rows"]}
    assert rows["sft"]["self_exchanged"] == pytest.approx(rows["sft"]["self_last"])
    assert rows["feddat"]["others_exchanged"]["mean"] == pytest.approx(rows["feddat"]["others_last"]["mean"] + 0.3)
    assert rows["fedmosaic"]["against_rivals"]["self"]["mean"] > 0
    lost = rows["fedmosaic"]["against_rivals_exchanged"]["self"]
    assert lost["rival"] == "feddat"
    wanted = rows["fedmosaic"]["self_exchanged"]["mean"] - rows["feddat"]["self_exchanged"]["mean"]
    assert lost["mean"] == pytest.approx(wanted)
    assert lost["high"] < 0
    write_comparison(tmp_path, comparison)
    header, *lines = (tmp_path / "comparison.csv").read_text().splitlines()
    assert {len(each.split(",")) for each in (header, *lines)} == {len(header.split(","))}
    at = header.split(",").index("others_exchanged_mean")
    assert float(lines[2].split(",")[at]) == pytest.approx(rows["feddat"]["others_exchanged"]["mean"])
    page = comparison_page(comparison, plans, tmp_path / "page.html").read_text()
    assert f"{100 * rows['feddat']['self_exchanged']['mean']:.1f}" in page
    assert "Self, after exchange" in page


def test_the_terminals_table_has_a_line_for_each_answer_of_a_method(plans):
    out = io.StringIO()
    Console(file=out, width=200).print(comparison_table(compare(plans, budget="steps")))
    lines = [line for line in out.getvalue().splitlines() if "│" in line]
    assert "feddat" in lines[-2]
    assert "after last exchange" in lines[-1]
    trained, exchanged = (float(line.split("│")[2].split()[0]) for line in lines[-2:])
    assert exchanged == pytest.approx(trained + 30)


def test_runs_of_an_earlier_version_have_no_such_columns(make_run, tmp_path):
    path = make_run("old")
    laid = [Plan("fedmosaic", 0, RunFolder(path).settings, path)]
    comparison = compare(laid, budget="steps")
    assert comparison["rows"][0]["self_exchanged"] is None
    assert comparison["rows"][0]["against_rivals_exchanged"] == {"self": None, "others": None}
    assert "exchange" not in comparison_page(comparison, laid, tmp_path / "page.html").read_text()
