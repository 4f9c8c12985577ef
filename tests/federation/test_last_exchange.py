"""One more download after the last round: whole runs on the real models, and clients that only add numbers."""

import dataclasses
import json

import pytest
import torch
from flwr.app import Message
from tests.federation.scenario import SMALL
from tests.federation.test_membership import Clients, expected, serve, upload
from tests.federation.test_participation import settings as members

import fedmosaic as fm
from fedmosaic.api.moments import moments
from fedmosaic.config import RunSettings, resolve
from fedmosaic.errors import RunError, SettingsError, WireError
from fedmosaic.evaluation import Summary
from fedmosaic.experiments.rescoring import self_and_others
from fedmosaic.federation import Assets, ClientRuntime, RunFolder, client_app, engines, wire
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.continuation import continued, go_on, is_done
from fedmosaic.federation.final_model import final_model
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.participation import participants
from fedmosaic.federation.results import ExchangedScores
from fedmosaic.io import load_tensors
from fedmosaic.methods.fedavg import FedAvg

pytestmark = pytest.mark.slow  # whole runs

PAIR = SMALL.model_copy(update={"clients": SMALL.clients[:2]})
TIMES = dict.fromkeys(("seconds", "train_seconds", "evaluation_seconds"))


def settings(method="fedavg", *, rounds=1, **changes) -> RunSettings:
    return resolve(PAIR, method=method, rounds=rounds, overrides=["training.steps=1"], **changes)


def run(path, chosen):
    folder = RunFolder.create(path, chosen)
    engines.run(chosen, folder)
    return folder


def outcome(folder):
    """Results without times."""
    return json.dumps(folder.results().as_json() | TIMES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("exchange") / "run", settings())


def test_a_client_answers_with_the_mean_of_the_last_uploads(finished):
    runtime = ClientRuntime(Assets(finished.settings), finished.client_folder, after_exchange=True)
    trained = [runtime.states.store(client).load(1).slots["shared"] for client in (0, 1)]
    for client in (0, 1):
        slot = final_model(runtime, client).adapter.slot_tensors("shared")
        for name, tensor in slot.items():
            torch.testing.assert_close(tensor, torch.stack([each[name] for each in trained]).mean(0))
    found = finished.results().exchanged
    assert found.changed
    assert self_and_others(runtime, rounds=1) == pytest.approx((found.self_.last, found.others.last))


def test_without_asking_clients_answer_as_training_has_left_them(finished):
    runtime = ClientRuntime(Assets(finished.settings), finished.client_folder)
    trained = runtime.states.store(0).load(1).slots["shared"]
    for name, tensor in final_model(runtime, 0).adapter.slot_tensors("shared").items():
        assert torch.equal(tensor, trained[name])


def test_nothing_else_of_the_run_changes(finished, tmp_path):
    without = run(tmp_path / "without", settings(final_exchange=False))
    assert without.results().exchanged is None
    assert not list(without.client_folder.rglob("exchanged-*"))
    for name in ("scores.json", "rounds.csv"):
        assert (without.path / name).read_bytes() == (finished.path / name).read_bytes()
    alone = dataclasses.replace(finished.results(), exchanged=None).as_json()
    assert alone | TIMES == without.results().as_json() | TIMES


def test_what_it_costs_is_counted_apart(finished):
    results = finished.results()
    costs = results.exchanged.costs
    assert (results.costs.messages, costs.messages) == (2, 2)
    assert results.costs.total_bytes_down == 0  # of one round, which begins with nothing
    assert costs.total_bytes_down == results.costs.total_bytes_up  # a mean is as large as what it is the mean of
    assert costs.bytes_down == costs.total_bytes_down / 2
    assert costs.flops == 0


def test_a_server_that_distils_spends_flops_that_are_not_the_runs(tmp_path):
    results = run(tmp_path / "run", settings("feddistill")).results()
    assert results.exchanged.costs.flops > 0
    assert (
        results.costs.flops == run(tmp_path / "off", settings("feddistill", final_exchange=False)).results().costs.flops
    )


@pytest.mark.parametrize("method", ["ditto", "sft"])
def test_where_it_changes_nothing_nothing_is_sent_and_scores_are_those_after_training(tmp_path, monkeypatch, method):
    kinds, deliver = [], InProcessGrid._deliver

    def listening(self, message):
        kinds.append(message.metadata.message_type)
        return deliver(self, message)

    monkeypatch.setattr(InProcessGrid, "_deliver", listening)
    folder = run(tmp_path / "run", settings(method))
    results = folder.results()
    assert "evaluate.exchange" not in kinds
    assert results.exchanged == ExchangedScores(False, at_the_end(results.self_), at_the_end(results.others))
    assert not list(folder.client_folder.rglob("exchanged-*"))
    runtime = ClientRuntime(Assets(folder.settings), folder.client_folder, after_exchange=True)
    assert answers_as_trained(runtime, 0, round_=1)


def answers_as_trained(runtime, client, *, round_):
    """Whether a client answers with the state that its first round has left."""
    trained = runtime.states.store(client).load(1).tensors()
    state = runtime.states.answering(runtime.assets.settings.scenario.client(client), round_).tensors()
    return all(torch.equal(tensor, trained[key]) for key, tensor in state.items())


def at_the_end(summary: Summary) -> Summary:
    return dataclasses.replace(summary, auc=summary.last)


def test_a_run_killed_in_the_exchange_goes_on_to_the_same_result(finished, tmp_path, monkeypatch):
    deliver = InProcessGrid._deliver
    seen = 0

    def failing(self, message):
        nonlocal seen
        seen += message.metadata.message_type == "evaluate.exchange"
        if seen == 2:
            raise InterruptedError
        return deliver(self, message)

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(InProcessGrid, "_deliver", failing)
        run(tmp_path / "run", settings())
    folder = RunFolder.resume(tmp_path / "run", settings())
    assert folder.results() is None
    engines.run(folder.settings, folder)
    assert outcome(folder) == outcome(finished)
    for path in finished.client_folder.rglob("exchanged-*"):
        ours, theirs = load_tensors(folder.client_folder / path.relative_to(finished.client_folder)), load_tensors(path)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_run_that_goes_on_drops_it_and_makes_it_anew(tmp_path):
    first = run(tmp_path / "run", settings("fedmosaic", planned_rounds=2))
    before = first.results()
    longer = continued(first.settings, first.settings.model_copy(update={"rounds": 2}))
    engines.run(longer, go_on(first.path, longer))
    at_once = run(tmp_path / "at-once", settings("fedmosaic", rounds=2, planned_rounds=2))
    assert outcome(first) == outcome(at_once)
    aside = json.loads((first.path / "results.round-0001.json").read_text())
    assert aside["final_exchange"] == json.loads(json.dumps(before.exchanged.as_json()))
    for client in ("client-000", "client-001"):
        assert [path.name for path in (first.client_folder / client).glob("exchanged-*")] == [
            "exchanged-0002.safetensors"
        ]


def test_a_folder_of_an_earlier_version_is_read_and_is_done(finished, tmp_path):
    old = run(tmp_path / "run", settings("sft"))
    text = (old.path / "settings.toml").read_text()
    assert text.count("final_exchange = true\n") == 1
    (old.path / "settings.toml").write_text(text.replace("final_exchange = true\n", ""))
    table = json.loads((old.path / "results.json").read_text())
    del table["final_exchange"]
    (old.path / "results.json").write_text(json.dumps(table))
    assert old.settings.final_exchange
    assert is_done(old.path, settings("sft"))
    assert old.results().exchanged is None
    assert RunFolder.resume(old.path, settings("sft")).settings.digest == settings("sft").digest
    (old.path / "results.json").unlink()  # stopped by then: it goes on
    engines.run(old.settings, old)
    assert old.results().exchanged is not None


def test_a_download_that_was_not_announced_is_refused(finished):
    config = {"settings": finished.settings.to_toml(), "client-folder": str(finished.client_folder)}
    grid = InProcessGrid(client_app.make_app(), node_configs=[{"partition-id": 0}], run_config=config)
    content = wire.pack({"round": 1, "run": finished.settings.digest, "known": 1}, {"gate.evil": torch.zeros(2)})
    with pytest.raises(WireError, match=r"the server sent the tensor 'gate\.evil', which is not expected"):
        grid.push_messages([Message(content, 2, "evaluate.exchange", group_id="1")])


def test_a_client_that_missed_it_is_left_out_and_says_so_when_asked(tmp_path, monkeypatch):
    receive = FedAvg.receive_final

    def failing(self, client, download):
        if client.id == 1:
            raise OSError("no space left")
        receive(self, client, download)

    monkeypatch.setattr(FedAvg, "receive_final", failing)
    folder = run(tmp_path / "run", settings(participation={"min_clients": 1}))
    told, finished = folder.results().exchanged, fm.load_run(folder.path)
    found = finished.evaluate(after_exchange=True)
    assert {client: score is None for client, score in found.per_client.items()} == {0: False, 1: True}
    own, *others = (found.per_client_task[0][task] for task in PAIR.task_names)
    assert (own, *others) == pytest.approx((told.self_.last, told.others.last))
    assert [each.name for each in moments(finished, 0)] == ["start", "final", "exchanged"]
    assert [each.name for each in moments(finished, 1)] == ["start", "final"]
    for ask in (lambda client: client.load(), lambda client: client.export(tmp_path / "out")):
        with pytest.raises(SettingsError, match=r"--after-exchange: client 1 was missing.*leave it out"):
            ask(finished.client(1, after_exchange=True))


def test_a_state_after_the_exchange_that_is_missing_is_named(finished, tmp_path):
    runtime = ClientRuntime(Assets(finished.settings), tmp_path, after_exchange=True)
    with pytest.raises(RunError, match="exchanged-0001"):
        runtime.states.answering(finished.settings.scenario.client(0), 1)


# ---- who receives what, with stand-ins ---------------------------------------------------------------------------


class Exchanging(Clients):
    """Keeps what it received last, and answers the exchange with other scores."""

    def __init__(self, run):
        super().__init__(run)
        self.exchanged = {}

    def __call__(self, message, context):
        if message.metadata.message_type != "evaluate.exchange":
            return super().__call__(message, context)
        client = self.ids[int(context.node_config["partition-id"])]
        shapes = {name: tuple(tensor.shape) for name, tensor in upload(client, 1).items()}
        self.exchanged[client] = wire.unpack(message.content, shapes, sender="the server")
        return super().__call__(message, context)


@pytest.mark.parametrize("staleness", [0, 1])
def test_who_is_there_receives_what_the_next_round_would_begin_with(tmp_path, staleness):
    """Also who was not drawn for the last round; who has left receives nothing; who has no upload is welcomed."""
    chosen = members(
        {0: (1, 0), 1: (1, 2), 2: (3, 0), 4: (1, 0), 5: (1, 0)}, rounds=3, fraction=0.5, staleness=staleness, seed=3
    )
    clients = Exchanging(chosen)
    serve(chosen, tmp_path / "run", clients)
    there = {0, 2, 4, 5}
    assert set(clients.exchanged) == there
    assert set(participants(chosen, 3)) < there
    as_if = chosen.model_copy(update={"rounds": 4})  # the replay looks up to the round before
    for client, download in clients.exchanged.items():
        wanted = expected(as_if, 4, client)
        assert download.keys() == wanted.keys()
        for name, tensor in wanted.items():
            torch.testing.assert_close(download[name], tensor)


def test_who_receives_nothing_answers_with_what_it_has(finished):
    """A client that left before the end, and one for which the server has nothing."""
    changes = {0: {"leaves": 1}}
    clients = [client.model_copy(update=changes.get(client.id, {})) for client in PAIR.clients]
    left = resolve(PAIR.model_copy(update={"clients": tuple(clients)}), method="fedavg", rounds=2)
    runtime = ClientRuntime(Assets(left), finished.client_folder, after_exchange=True)
    assert answers_as_trained(runtime, 0, round_=2)
    client = ClientNode(ClientRuntime(Assets(finished.settings), finished.client_folder), 0).client_after(1)
    before = client.snapshot("shared")
    runtime.assets.method.receive_final(client, {})
    assert all(torch.equal(tensor, before[name]) for name, tensor in client.snapshot("shared").items())
