"""Whole runs on the real models in which clients are absent, join and leave."""

import pytest
import torch
from tests.federation.scenario import SMALL

from fedmosaic.config import resolve
from fedmosaic.experiments.rescoring import examine
from fedmosaic.federation import Assets, ClientRuntime, RunFolder, engines
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.final_model import final_model
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.participation import schedule
from fedmosaic.io import load_tensors
from fedmosaic.report import final_table, write_report

pytestmark = pytest.mark.slow  # whole runs

TIMES = dict.fromkeys(("seconds", "train_seconds", "evaluation_seconds"))


def open_settings():
    """Client 0 leaves after round 2, client 2 joins in round 2, and half of those there train: 0 3, 0 2, 1 2."""
    changes = {0: {"leaves": 2}, 2: {"joins": 2}}
    clients = [client.model_copy(update=changes.get(client.id, {})) for client in SMALL.clients]
    scenario = SMALL.model_copy(update={"clients": tuple(clients)})
    overrides = ["participation.fraction=0.5", "evaluation.samples_per_task=2", "evaluation.milestones=1"]
    return resolve(scenario, overrides=overrides, seed=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = RunFolder.create(tmp_path_factory.mktemp("open") / "run", open_settings())
    engines.run(folder.settings, folder)
    return folder


def trained_rounds(settings, client):
    return [round_ for round_, ids in schedule(settings).items() if client in ids]


def test_clients_keep_the_states_of_the_rounds_that_they_trained_in(finished):
    for client in range(4):
        states = sorted((finished.client_folder / f"client-{client:03d}").glob("round-*"))
        rounds = [int(path.stem.removeprefix("round-")) for path in states]
        assert rounds == trained_rounds(finished.settings, client)[-2:]


def test_an_absent_client_is_what_its_last_training_made_it(finished):
    settings = finished.settings
    runtime = ClientRuntime(Assets(settings), finished.client_folder)
    for client in range(4):
        participant = ClientNode(runtime, client)
        trained = trained_rounds(settings, client)
        kept_from = trained[-2] if len(trained) > 2 else 1
        for round_ in range(kept_from, settings.rounds + 1):
            before = [each for each in trained if each <= round_]
            state = participant.client_after(round_).state()
            wanted = participant.store.load(before[-1]) if before else runtime.adapters.start(participant.spec)
            now = state.tensors()
            assert all(torch.equal(now[key], tensor) for key, tensor in wanted.tensors().items())
    summary, _ = examine(runtime, ["trend@lines"], rounds=settings.rounds)
    assert [score is None for score in summary.per_client] == [True, False, False, False]  # client 0 has left


def test_a_client_that_was_absent_at_the_end_can_take_its_model_away(finished):
    runtime = ClientRuntime(Assets(finished.settings), finished.client_folder)
    trained = {client: trained_rounds(finished.settings, client)[-1] for client in range(4)}
    assert min(trained.values()) < finished.settings.rounds
    for client, last in trained.items():
        kept = runtime.states.store(client).load(last)
        for name, tensor in final_model(runtime, client).adapter.slot_tensors("local").items():
            assert torch.equal(tensor, kept.slots["local"][name])


def test_results_and_report_cover_the_clients_that_are_there(finished):
    results = finished.results()
    assert [score is None for score in results.self_.per_client] == [True, False, False, False]
    assert 0 <= results.others.last <= 1
    assert write_report(finished.path).is_file()
    assert final_table(finished.path).row_count == 4


@pytest.mark.slow
@pytest.mark.parametrize("call", [13])
def test_a_stopped_open_run_goes_on_to_the_same_results(finished, tmp_path, monkeypatch, call):
    count, deliver = 0, InProcessGrid._deliver

    def failing(self, message):
        nonlocal count
        count += 1
        if count == call:
            raise InterruptedError
        return deliver(self, message)

    monkeypatch.setattr(InProcessGrid, "_deliver", failing)
    folder = RunFolder.create(tmp_path / "run", open_settings())
    with pytest.raises(InterruptedError):
        engines.run(folder.settings, folder)
    monkeypatch.setattr(InProcessGrid, "_deliver", deliver)
    engines.run(folder.settings, RunFolder.resume(folder.path, folder.settings))
    assert folder.results().as_json() | TIMES == finished.results().as_json() | TIMES
    for path in finished.client_folder.rglob("*.safetensors"):
        ours, theirs = load_tensors(folder.client_folder / path.relative_to(finished.client_folder)), load_tensors(path)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
