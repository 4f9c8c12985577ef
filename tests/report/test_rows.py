from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import pytest

from fedmosaic.report.record import read_run
from fedmosaic.report.rows import final_rows, mean_row, short_model, wins


def from_file(folder: Path, column: str, round_: int) -> dict[int, float]:
    """client -> value, straight from the file."""
    with (folder / "rounds.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if int(row["round"]) == round_]
    return {int(row["client"]): float(row[column]) for row in rows if row[column]}


def test_rows_are_the_files_numbers(make_run):
    folder = make_run(clients=4, rounds=8)
    make_run("run/reference", clients=4, rounds=8, method="sft", gain=0.2, relevance=False)
    rows = final_rows(read_run(folder))
    assert [row.client for row in rows] == [0, 1, 2, 3]
    assert [row.tasks for row in rows][:2] == [("task-0a", "task-0b"), ("task-1a", "task-1b")]
    for name, column in (("self_", "self"), ("others", "others")):
        for row in rows:
            gain = getattr(row, name)
            assert gain.start == from_file(folder, column, 0)[row.client]
            assert gain.final == from_file(folder, column, 8)[row.client]
            assert gain.local == from_file(folder / "reference", column, 8)[row.client]
            assert gain.over_start == gain.final - gain.start
            assert gain.over_local == gain.final - gain.local


def test_means_are_those_of_the_results(make_run):
    folder = make_run()
    results = json.loads((folder / "results.json").read_text())
    mean = mean_row(read_run(folder))
    assert mean.self_.final == pytest.approx(results["self"]["last"], abs=1e-12)
    assert mean.others.final == pytest.approx(results["others"]["last"], abs=1e-12)
    assert mean.self_.start == pytest.approx(results["initial"]["self"], abs=1e-4)  # rounded in the file
    assert mean.self_.local is None
    assert mean.self_.over_local is None


def test_an_unfinished_run_is_compared_at_equal_rounds(make_run):
    folder = make_run(rounds=8, upto=5)
    make_run("run/reference", rounds=8, method="sft", relevance=False)
    mean = mean_row(read_run(folder))
    assert mean.self_.final == pytest.approx(statistics.fmean(from_file(folder, "self", 5).values()))
    assert mean.self_.local == pytest.approx(statistics.fmean(from_file(folder / "reference", "self", 5).values()))


def test_a_reference_that_is_behind_is_not_compared(make_run):
    folder = make_run(rounds=8)
    make_run("run/reference", rounds=8, upto=6, method="sft", relevance=False)
    record = read_run(folder)
    assert mean_row(record).self_.local is None
    assert wins(final_rows(record), "self_") == (0, 0)


def test_others_that_are_measured_less_often_use_their_own_last_round(make_run):
    folder = make_run(rounds=8, upto=5, others_every=4)
    mean = mean_row(read_run(folder))
    assert mean.self_.final == pytest.approx(statistics.fmean(from_file(folder, "self", 5).values()))
    assert mean.others.final == pytest.approx(statistics.fmean(from_file(folder, "others", 4).values()))


def test_a_single_client_has_no_others(make_run):
    row = mean_row(read_run(make_run(clients=1)))
    assert row.self_.final is not None
    assert (row.others.start, row.others.final, row.others.over_start) == (None, None, None)


def test_before_the_first_measurement_there_is_nothing(make_run):
    folder = make_run(upto=0)
    (folder / "rounds.csv").unlink()
    assert mean_row(read_run(folder)).self_.start is None


def test_wins_count_clients_above_the_reference(make_run):
    folder = make_run(clients=4)
    make_run("run/reference", clients=4, method="sft", gain=0.29, relevance=False)
    final, local = from_file(folder, "self", 8), from_file(folder / "reference", "self", 8)
    expected = sum(final[client] > local[client] for client in final)
    assert wins(final_rows(read_run(folder)), "self_") == (expected, 4)


@pytest.mark.parametrize(
    ("name", "short"),
    [("tiny-llama", "tiny-llama"), ("/models/Llama-1B", "Llama-1B"), ("meta-llama/Llama-1B/", "Llama-1B"), ("/", "/")],
)
def test_short_model(name, short):
    assert short_model(name) == short
