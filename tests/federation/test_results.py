"""Results as records: the file's fields in their order, files of earlier versions, damaged ones."""

import dataclasses
import json

import pytest
from tests.federation.scenario import results_of, small

from fedmosaic.errors import RunError, WireError
from fedmosaic.evaluation import Measurement, Summary
from fedmosaic.federation import RunFolder
from fedmosaic.federation.history import RunHistory
from fedmosaic.federation.results import ExchangeCosts, ExchangedScores, InitialScores, PrivacyAccount, PrivacySpent

KEYS = [
    *("scenario", "method", "engine", "seed", "rounds", "protocol", "seconds", "train_seconds", "evaluation_seconds"),
    *("flops", "messages", "bytes_up", "bytes_down", "total_bytes_up", "total_bytes_down", "self", "others", "unseen"),
    *("privacy", "initial", "final_exchange", "missing"),
]


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", small())


@pytest.fixture
def results():
    own = Summary(0.5, 0.4, [0.5, None], {"task": 0.5}, {"task": (0.25, 0.75)})
    account = PrivacyAccount("private", 2.0, 1e-5, {3: PrivacySpent(2.0, 1e-5, 0.5)})
    return dataclasses.replace(results_of(small()), self_=own, privacy=account, initial=InitialScores(0.25))


def test_what_was_written_is_read_again_and_fields_keep_their_order(folder, results):
    folder.write_results(results)
    assert folder.results() == results
    table = json.loads((folder.path / "results.json").read_text())
    assert list(table) == KEYS
    assert list(table["self"]) == ["last", "auc", "per_client", "per_task", "per_task_ci95"]
    assert table["privacy"]["per_client"] == {"3": {"epsilon": 2.0, "delta": 1e-5, "noise_multiplier": 0.5}}
    assert table["initial"] == {"self": 0.25, "others": None}
    assert table["final_exchange"] is None


def test_scores_after_the_last_exchange_are_read_again(folder, results):
    exchanged = ExchangedScores(True, results.self_, None, ExchangeCosts(2e9, 3, 10.0, 30))
    written = dataclasses.replace(results, exchanged=exchanged)
    folder.write_results(written)
    assert folder.results() == written
    table = json.loads((folder.path / "results.json").read_text())["final_exchange"]
    assert list(table) == ["changed", "self", "others", "unseen", "costs"]
    assert table["costs"]["total_bytes_down"] == 30


def test_files_of_earlier_versions_are_read(folder, results):
    table = results.as_json()
    for key in ("messages", "total_bytes_up", "total_bytes_down", "privacy", "unseen", "final_exchange"):
        del table[key]
    (folder.path / "results.json").write_text(json.dumps(table | {"from_a_later_version": 1}))
    none = {"messages": None, "total_bytes_up": None, "total_bytes_down": None}
    costs = dataclasses.replace(results.costs, **none)
    assert folder.results() == dataclasses.replace(results, costs=costs, privacy=None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"flops": "many"}, r"flops = 'many'"),
        ({"self": {"last": 0.5}}, r"'self\.auc' is missing"),
        ({"rounds": None}, r"rounds = None"),
        ({"privacy": {"epsilon": 1.0}}, r"'privacy\.guarantee' is missing"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_the_entry(folder, results, change, told):
    (folder.path / "results.json").write_text(json.dumps(results.as_json() | change))
    with pytest.raises(RunError, match=rf"^\S+results\.json is damaged \(.*{told}[^\n]*\); remove it[^\n]*$"):
        folder.results()


def test_a_history_is_the_same_after_a_checkpoint(folder):
    history = RunHistory({0: ["a"], 1: ["b"]})
    history.history.append(Measurement(0, {0: {"a": 0.1, "b": 0.2}, 1: {"b": 1 / 3}}))
    done = {"loss": 0.1, "steps": 2, "flops": 1e9, "seconds": 0.3, "privacy.epsilon": 1.0, "privacy.delta": 1e-5}
    history.add_training(1, 2, done, up=10, down=20)
    history.add_training(0, 2, done | {"steps": 0}, up=10, down=20)
    history.round = 2
    folder.save_checkpoint(2, history.as_json(), {})
    table, _ = folder.latest_checkpoint()
    assert RunHistory.from_json(history.tasks, table, path=folder.checkpoints) == dataclasses.replace(history)
    del table["until"], table["privacy"], table["stepless"]  # a checkpoint of an earlier version
    old = RunHistory.from_json(history.tasks, table, path=folder.checkpoints)
    assert old == dataclasses.replace(history, until=2, privacy={}, stepless={})
    with pytest.raises(RunError, match=r"checkpoints is damaged \(.*flops"):
        RunHistory.from_json(history.tasks, {**table, "flops": "x"}, path=folder.checkpoints)


def test_a_round_without_a_step_has_no_loss_and_counts_as_one_that_was_trained():
    history = RunHistory({0: ["a"], 1: ["b"]})
    for client, steps in ((0, 0), (1, 2)):
        done = {"loss": 0.0, "steps": steps, "flops": 1e9, "seconds": 0.3}
        history.add_training(client, 1, done, up=10, down=20)
        assert history.last_trained(client, before=2) == 1
    history.history.append(Measurement(1, {0: {"a": 0.1}, 1: {"b": 0.2}}))
    assert [row["loss"] for row in history.rows()] == [None, 0.0]
    assert history.messages == 2


def test_an_account_of_privacy_without_epsilon_is_refused():
    done = {"loss": 0.1, "steps": 2, "flops": 1e9, "seconds": 0.3, "privacy.rho": 1.0}
    with pytest.raises(WireError, match="client 1 keeps account of rho; expected epsilon, delta"):
        RunHistory({1: ["b"]}).add_training(1, 1, done, up=10, down=20)
