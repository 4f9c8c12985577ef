"""The server's rounds when not everybody trains: against a naive replay, with clients that only add numbers."""

import json

import pytest
import torch
from flwr.app import Message
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.federation.test_participation import runs, settings

from fedmosaic.errors import RunError
from fedmosaic.federation import RunFolder, wire
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.participation import present, schedule
from fedmosaic.federation.server import Server

pytestmark = pytest.mark.slow  # whole runs

A, P = "layer.0.q_proj.A", "block.0.q_proj.P"
SKETCH = 3


class Clients:
    """Stand-ins behind the engine: client c uploads numbers that are unlike any other client's or round's."""

    def __init__(self, run, *, fails_at=None):
        self.ids = [client.id for client in run.scenario.clients]
        self.trained: dict[tuple[int, int], dict[str, torch.Tensor]] = {}
        self.measured: set[tuple[int, int]] = set()
        self.sent = 0
        self.received = 0
        self.calls, self.fails_at = 0, fails_at
        self.alignment = lambda client: "the same"

    def __call__(self, message: Message, context) -> Message:
        self.calls += 1
        if self.calls == self.fails_at:
            raise InterruptedError
        client = self.ids[int(context.node_config["partition-id"])]
        kind, content = message.metadata.message_type, message.content
        if kind == "query.hello":
            shapes = {name: list(tensor.shape) for name, tensor in upload(client, 1).items()}
            meta = {"client": client, "architecture": architecture(client), "model": "m", "upload": json.dumps(shapes)}
            meta |= {"proxy": "", "own-tasks-only": False, "download": json.dumps(shapes)}
            meta["alignment"] = self.alignment(client)
            return Message(wire.pack(meta), reply_to=message)
        round_, run = content["meta"]["round"], content["meta"]["run"]
        about = {"client": client, "round": round_, "run": run}
        if kind == "query.ready":
            return Message(wire.pack({**about, "ready": True}), reply_to=message)
        if kind == "train":
            shapes = {name: tuple(tensor.shape) for name, tensor in upload(client, round_).items()}
            self.trained[round_, client] = wire.unpack(content, shapes, sender="the server")
            reply = wire.pack(about, upload(client, round_))
            self.received += wire.size(content)
            self.sent += wire.size(reply)
            done = {"loss": 1.0, "steps": 1, "samples": 4, "flops": 1.0, "seconds": 0.0, "evaluation_seconds": 0.0}
            wire.add_metrics(reply, done)
            self.measured.add((round_, client))
            return Message(wire.add_scores(reply, {"trend@lines": [client / 100]}), reply_to=message)
        self.measured.add((round_, client))
        reply = wire.add_metrics(wire.pack(about), {"seconds": 0.0})
        return Message(wire.add_scores(reply, {"trend@lines": [client / 100]}), reply_to=message)


def architecture(client: int) -> str:
    return ("llama", "gemma")[client % 2]


def upload(client: int, round_: int) -> dict[str, torch.Tensor]:
    value = float(client + 1 + 1000 * round_)
    sketch = torch.randn(SKETCH, generator=torch.Generator().manual_seed(client * 100 + round_))
    return {P: torch.full((2, 2), value), A: torch.full((2, 3 + client % 2), value), "sketch": sketch}


def serve(run, path, clients, *, resume=False):
    folder = RunFolder.resume(path, run) if resume else RunFolder.create(path, run)
    nodes = [{"partition-id": position} for position in range(len(run.scenario.clients))]
    grid = InProcessGrid(clients, node_configs=nodes, run_config={})
    return folder, Server(grid, run, folder).run()


def known(run, round_):
    """Client -> round of its last upload that counts in a round, straight from the words of the settings."""
    last = {}
    for before in range(1, round_):
        last |= dict.fromkeys(schedule(run)[before], before)
    staleness = run.participation.staleness
    return {client: made for client, made in sorted(last.items()) if staleness == 0 or made + staleness >= round_}


def expected(run, round_, client):
    """What FedMosaic sends: by hand."""
    last = known(run, round_)
    tensors = {other: upload(other, made) for other, made in last.items()}
    others = [other for other in last if other != client]
    download = {}
    for name in (P, A):
        peers = [other for other in others if name == P or architecture(other) == architecture(client)]
        if not peers:
            continue
        logits = torch.zeros(len(peers))
        if client in last:
            own = tensors[client]["sketch"]
            logits = torch.stack([torch.cosine_similarity(own, tensors[peer]["sketch"], dim=0) for peer in peers]) / 0.5
        weights = torch.softmax(logits, 0)
        download[name] = sum(weight * tensors[peer][name] for weight, peer in zip(weights, peers, strict=True))
    return download


@given(runs(most_clients=6, most_rounds=5))
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_server_does_what_a_naive_replay_of_the_rules_does(tmp_path_factory, run):
    clients = Clients(run)
    folder, progress = serve(run, tmp_path_factory.mktemp("run") / "run", clients)
    assert set(clients.trained) == {(round_, client) for round_, ids in schedule(run).items() for client in ids}
    for (round_, client), download in clients.trained.items():
        wanted = expected(run, round_, client)
        assert download.keys() == wanted.keys()
        for name in wanted:
            torch.testing.assert_close(download[name], wanted[name])
    there = {(round_, client) for round_ in range(run.rounds + 1) for client in present(run, round_)}
    assert clients.measured == there
    assert progress.messages == len(clients.trained)
    results = progress.results(run, folder.scores())
    assert results.costs.bytes_up == pytest.approx(clients.sent / len(clients.trained))
    assert results.costs.bytes_down == pytest.approx(clients.received / len(clients.trained))
    losses = {(r["round"], r["client"]) for r in progress.rows() if r["loss"] is not None}
    assert losses == set(clients.trained) & there


@given(runs(most_clients=5, most_rounds=5), st.integers(1, 40))
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_stopped_anywhere_goes_on_as_if_it_had_not_been(tmp_path_factory, run, call):
    path = tmp_path_factory.mktemp("run")
    whole = Clients(run)
    folder, progress = serve(run, path / "whole", whole)
    first = Clients(run, fails_at=call)
    try:
        serve(run, path / "stopped", first)
        return  # fewer calls than that
    except InterruptedError:
        pass
    second = Clients(run)
    again, resumed = serve(run, path / "stopped", second, resume=True)
    for turn, download in (first.trained | second.trained).items():
        assert all(torch.equal(download[name], tensor) for name, tensor in whole.trained[turn].items())
    assert {**first.trained, **second.trained}.keys() == whole.trained.keys()
    times = dict.fromkeys(("seconds", "train_seconds", "evaluation_seconds"))
    results = [each.results(run, folder.scores()).as_json() | times for each in (progress, resumed)]
    assert results[0] == results[1]
    assert resumed.rows() == progress.rows()
    for name in ("rounds.csv", "scores.json"):
        assert (again.path / name).read_bytes() == (folder.path / name).read_bytes()


def test_matrices_of_some_clients_are_kept_as_matrices_of_all(tmp_path):
    run = settings({0: (1, 0), 3: (2, 0), 5: (1, 0)}, rounds=3)
    folder, _ = serve(run, tmp_path / "run", Clients(run))
    first, second = folder.relevance()[1], folder.relevance()[2]
    for matrix in first.values():
        known_pairs = ~torch.isnan(torch.from_numpy(matrix))
        assert known_pairs.tolist() == [[True, False, True], [False, False, False], [True, False, True]]
    assert first["weights"][0].tolist()[::2] == [0.0, 1.0]
    assert not torch.isnan(torch.from_numpy(second["weights"])).any()


def test_clients_whose_bases_do_not_belong_together_are_refused(tmp_path):
    run = settings(dict.fromkeys(range(3), (1, 0)))
    clients = Clients(run)
    clients.alignment = lambda client: ("", "made-elsewhere")[client == 2]
    with pytest.raises(RunError, match=r"client 2 uses the alignment made-elsewhere, client 0 none; .*to all sites"):
        serve(run, tmp_path / "run", clients)
    assert clients.trained == {}
