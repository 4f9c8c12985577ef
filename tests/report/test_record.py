from __future__ import annotations

import numpy as np
import pytest

from fedmosaic.errors import RunError, SettingsError
from fedmosaic.report.record import read_run


def test_a_folder_without_settings_is_no_run(tmp_path):
    with pytest.raises(SettingsError, match="is not a run folder"):
        read_run(tmp_path)


def test_settings_that_are_not_toml_are_named(make_run):
    folder = make_run()
    (folder / "settings.toml").write_text("rounds = = 3")
    with pytest.raises(SettingsError, match=r"settings\.toml is damaged"):
        read_run(folder)


def test_values_are_those_of_the_file_and_gaps_stay_gaps(make_run):
    folder = make_run(clients=2)
    (folder / "rounds.csv").write_text(
        "round,client,loss,self,others\n0,0,,0.25,0.5\n0,1,,0.75,0.5\n1,0,1.5,0.5,\n1,1,2.5,1.0,\n"
    )
    record = read_run(folder)
    assert record.values["self"] == {0: {0: 0.25, 1: 0.75}, 1: {0: 0.5, 1: 1.0}}
    assert record.values["others"] == {0: {0: 0.5, 1: 0.5}}
    assert record.curve("loss", None) == [(1, 2.0)]
    assert record.last_round("others") is None
    assert record.last_round("self") == 1


def test_a_loss_that_is_not_finite_is_left_out_and_named(make_run):
    folder = make_run(clients=2)
    (folder / "rounds.csv").write_text("round,client,loss,self,others\n1,0,nan,0.5,\n1,1,inf,0.5,\n2,0,3.0,0.5,\n")
    record = read_run(folder)
    assert record.not_finite == [(1, 0), (1, 1)]
    assert record.values["loss"] == {2: {0: 3.0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("round,client,loss,self,others\n0,0,,half,\n", r"rounds\.csv, line 2.*'half'"),
        ("round,client,loss,self,others\n0,0,,0.5,\n1,9,,0.5,\n", r"rounds\.csv, line 3: unknown client 9"),
        ("client,self\n0,0.5\n", r"line 2.*expected the columns"),
    ],
)
def test_a_damaged_table_is_named_with_its_line(make_run, text, message):
    folder = make_run()
    (folder / "rounds.csv").write_text(text)
    with pytest.raises(RunError, match=message):
        read_run(folder)


@pytest.mark.parametrize("name", ["results", "environment"])
@pytest.mark.parametrize("text", ["{", "[]", "[" * 10**5])
def test_damaged_results_are_named(make_run, text, name):
    folder = make_run()
    (folder / f"{name}.json").write_text(text)
    with pytest.raises(RunError, match=rf"{name}\.json is damaged"):
        read_run(folder)


def test_damaged_relevance_is_named(make_run):
    folder = make_run()
    (folder / "relevance" / "round-0002.npz").write_bytes(b"PK not really")
    with pytest.raises(RunError, match=r"round-0002\.npz is damaged"):
        read_run(folder)


def test_a_matrix_of_another_number_of_clients_is_refused(make_run):
    folder = make_run(clients=4)
    np.savez(folder / "relevance" / "round-0002.npz", weights=np.zeros((3, 3)))
    with pytest.raises(RunError, match=r"round 2: 'weights' has the shape \(3, 3\); the scenario has 4 clients"):
        read_run(folder)


def test_the_round_of_an_unfinished_run_comes_from_its_events(make_run):
    folder = make_run(rounds=8, upto=5)
    (folder / "rounds.csv").unlink()
    assert read_run(folder).round == 5


def test_a_line_cut_off_in_the_middle_is_no_event(make_run):
    folder = make_run()
    before = len(read_run(folder).events)
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"time": 1.0, "ev')
    assert len(read_run(folder).events) == before
