"""Clients that fail, hang, die and come back, answer late, twice or for another round: who is missing, what counts."""

import json

import pytest
import torch
from tests.federation.test_membership import Clients, upload
from tests.federation.test_participation import settings
from tests.federation.unreliable import FIRST_NODE, FakeTime, Unreliable

from fedmosaic.config.settings import varied
from fedmosaic.errors import RunError, SettingsError, WireError
from fedmosaic.federation import RunFolder, server_app
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.event_log import read
from fedmosaic.federation.results import Missing
from fedmosaic.federation.server import Server

FOUR = dict.fromkeys(range(4), (1, 0))


def rules(run, **changes):
    return run.model_copy(update={"participation": run.participation.model_copy(update=changes)})


def tolerant(members=None, *, rounds=3, least=2, deadline=10.0, **more):
    return rules(settings(members or FOUR, rounds=rounds, **more), min_clients=least, deadline=deadline)


class Heard(Callback):
    def __init__(self):
        self.missing, self.warnings, self.measured = [], [], []

    def on_missing(self, record):
        self.missing.append(record)

    def on_warning(self, record):
        self.warnings.append(record.text)

    def on_measure(self, record):
        self.measured.append(record)


def serve(run, path, script=lambda *_: "", *, clients=None, online=None, nodes=None, resume=False):
    """Serve a run on an unreliable engine; returns everything that there is to look at."""
    clients, time, heard = clients or Clients(run), FakeTime(), Heard()
    grid = Unreliable(clients, time, at(nodes or len(run.scenario.clients)), script, online)
    folder = RunFolder.resume(path, run) if resume else RunFolder.create(path, run)
    return folder, Server(grid, run, folder, heard, clock=time.clock).run(), clients, heard, grid


def of(client):
    return client + FIRST_NODE


def at(count):
    return [{"partition-id": position} for position in range(count)]


def on(kind, rounds, client, happens):
    """A script for one client."""
    rounds = [rounds] if isinstance(rounds, int) else list(rounds)
    return lambda k, r, node: happens if (k, node) == (kind, of(client)) and r in rounds else ""


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        ("raise", "failed: ValueError"),
        ("dead", "failed: Node Unavailable"),
        ("hang", "no answer within 10 s"),
        ("late", "no answer within 10 s"),
        ("old", "refused: client 2 answered for round 1; expected 2"),
        ("other", "refused: node 99 has answered in its place"),
    ],
)
def test_a_round_goes_on_without_a_client_and_its_last_upload_counts(tmp_path, happens, why):
    run = tolerant(rounds=4)
    folder, progress, clients, heard, _ = serve(run, tmp_path / "run", on("train", 2, 2, happens))
    (missing,) = progress.missing
    assert (missing.round, missing.client, missing.exchange) == (2, 2, "training")
    assert missing.why.startswith(why)
    assert heard.missing == [missing]
    # Round 3 is made from the others' uploads of round 2 and client 2's of round 1: with sketches as weights.
    made = {0: 2, 1: 2, 2: 1, 3: 2}
    uploads = {client: upload(client, round_) for client, round_ in made.items()}
    for client in FOUR:
        peers = [other for other in FOUR if other != client]
        cosines = [torch.cosine_similarity(uploads[client]["sketch"], uploads[p]["sketch"], dim=0) for p in peers]
        weights = torch.softmax(torch.stack(cosines) / 0.5, 0)
        wanted = sum(w * uploads[peer]["block.0.q_proj.P"] for w, peer in zip(weights, peers, strict=True))
        torch.testing.assert_close(clients.trained[3, client]["block.0.q_proj.P"], wanted)
    assert progress.losses[2] == [1.0, None, 1.0, 1.0]
    results = progress.results(run, folder.scores())
    assert results.costs.messages == 15  # 4 x 4, but for the one whose answer did not count
    assert results.as_json()["missing"] == [vars(missing)]
    assert results.self_.per_client.count(None) == 0


def _infinite_loss(content):
    content["metrics"]["loss"] = float("inf")


def _too_few_samples(content):
    content["metrics"]["samples"] = -1


def _no_tensors(content):
    del content["tensors"]


@pytest.mark.parametrize("harm", [_infinite_loss, _too_few_samples, _no_tensors])
def test_a_refused_upload_is_not_used_and_the_run_goes_on(tmp_path, harm):
    def tamper(reply):
        meta = reply.content["meta"]
        if "tensors" in reply.content and (meta["round"], meta["client"]) == (2, 1):
            harm(reply.content)

    run = tolerant(rounds=3)
    clients, time = Clients(run), FakeTime()
    grid = Unreliable(clients, time, at(4), tamper=tamper)
    folder = RunFolder.create(tmp_path / "run", run)
    progress = Server(grid, run, folder, clock=time.clock).run()
    (missing,) = progress.missing
    assert (missing.round, missing.client, missing.exchange) == (2, 1, "training")
    assert missing.why.startswith("refused: client 1 sent ")
    assert sorted(path.name for path in (folder.path / "uploads" / "client-00001").iterdir()) == [
        "round-0001.safetensors",  # of the checkpoint before, which had this one as its last
        "round-0003.safetensors",
    ]


def test_an_answer_that_comes_twice_counts_once(tmp_path):
    twice = lambda kind, round_, node: "twice"  # noqa: E731
    folder, progress, *_ = serve(tolerant(), tmp_path / "run", twice)
    plain_folder, plain, *_ = serve(tolerant(), tmp_path / "plain")
    assert progress.missing == []
    times = dict.fromkeys(("seconds", "train_seconds", "evaluation_seconds"))
    results = [
        each.results(tolerant(), where.scores()).as_json() | times
        for each, where in ((progress, folder), (plain, plain_folder))
    ]
    assert results[0] == results[1]


def test_everything_may_go_wrong_where_one_answer_is_enough(tmp_path):
    def script(kind, round_, node):
        return "" if node == of(0) or kind == "query.hello" else ("raise", "hang", "late")[node - of(1)]

    _, progress, clients, _, grid = serve(tolerant(least=1), tmp_path / "run", script)
    exchanges = ["evaluation"] + ["training", "evaluation"] * 3 + ["last exchange"]
    assert len(progress.missing) == 3 * len(exchanges)
    assert [set(each.scores) for each in progress.history] == [{0}] * 4
    # Nobody else's upload has counted: client 0 hears only of itself, that is nothing.
    assert all(not clients.trained[round_, 0] for round_ in (1, 2, 3))
    assert grid.time.seconds < 10 * len(exchanges) + len(exchanges)


def test_a_client_that_dies_and_comes_back_is_told_what_the_server_knows_of_it(tmp_path):
    told = {}

    class Listening(Clients):
        def __call__(self, message, context):
            if message.metadata.message_type == "train":
                client = self.ids[int(context.node_config["partition-id"])]
                told[message.content["meta"]["round"], client] = message.content["meta"]["known"]
            return super().__call__(message, context)

    run = tolerant(rounds=5)
    away = lambda kind, round_, node: "dead" if node == of(1) and round_ in (3, 4) else ""  # noqa: E731
    _, progress, _, heard, _ = serve(run, tmp_path / "run", away, clients=Listening(run))
    assert [(each.round, each.exchange) for each in progress.missing] == [
        (3, "training"), (3, "evaluation"), (4, "training"), (4, "evaluation"),
    ]  # fmt: skip
    assert [told.get((round_, 1)) for round_ in range(1, 6)] == [0, 1, None, None, 2]
    assert [told[round_, 0] for round_ in range(1, 6)] == [0, 1, 2, 3, 4]
    assert [record.clients for record in heard.measured] == [(0, 1, 2, 3)] * 3 + [(0, 2, 3)] * 2 + [(0, 1, 2, 3)]


def test_staleness_forgets_a_client_that_stays_away(tmp_path):
    run = rules(tolerant(rounds=4), staleness=1)
    _, _, clients, *_ = serve(run, tmp_path / "run", on("train", (2, 3), 1, "hang"))
    mean = sum(upload(c, 3)["block.0.q_proj.P"] for c in (0, 2, 3)) / 3
    torch.testing.assert_close(clients.trained[4, 1]["block.0.q_proj.P"], mean)  # as a newcomer


@pytest.mark.parametrize("least", [0, 3])
def test_too_few_end_the_run_which_goes_on_to_the_same_results_when_they_are_back(tmp_path, least):
    run = tolerant(rounds=3, least=least)
    gone = lambda kind, round_, node: "dead" if (round_, kind) == (2, "train") and node in (of(1), of(3)) else ""  # noqa: E731
    with pytest.raises(RunError) as error:
        serve(run, tmp_path / "run", gone)
    said = str(error.value)
    assert said.startswith(f"round 2, training: {least or 4} of 4 client(s) must answer")
    assert "client 1: failed: Node Unavailable" in said
    assert ("min_clients" in said) == (least == 0)
    folder, progress, *_ = serve(run, tmp_path / "run", resume=True)
    assert progress.missing == []
    _, whole, *_ = serve(run, tmp_path / "whole")
    assert progress.rows() == whole.rows()
    assert (folder.path / "scores.json").read_text() == (tmp_path / "whole" / "scores.json").read_text()


def test_where_all_are_needed_a_refused_answer_ends_the_run_with_its_reason(tmp_path):
    with pytest.raises(WireError, match="client 2 answered for"):
        serve(rules(tolerant(), min_clients=0), tmp_path / "run", on("train", 2, 2, "old"))


def test_means_are_over_those_that_were_measured_and_results_say_who_was_not(tmp_path):
    run = tolerant()
    away = lambda kind, round_, node: "hang" if (node, round_) == (of(3), 3) and kind != "evaluate.exchange" else ""  # noqa: E731
    folder, progress, _, heard, _ = serve(run, tmp_path / "run", away)
    results = progress.results(run, folder.scores())
    assert results.self_.per_client == [0.0, 0.01, 0.02, None]
    assert results.self_.last == pytest.approx(0.01)
    assert results.initial.self_ == pytest.approx(0.01)  # over the same clients
    why = "no answer within 10 s"
    assert results.missing == (Missing(3, 3, "training", why), Missing(3, 3, "evaluation", why))
    assert heard.measured[-1].clients == (0, 1, 2)
    folder.write_results(results)
    assert folder.results() == results  # as it is read again


def test_base_models_that_were_not_all_measured_have_no_mean(tmp_path):
    run = tolerant()
    folder, progress, *_ = serve(run, tmp_path / "run", on("evaluate", 0, 3, "hang"))
    assert progress.results(run, folder.scores()).initial.self_ is None


def test_events_and_checkpoints_keep_who_was_missing(tmp_path):
    run = tolerant()
    clients, time = Clients(run), FakeTime()
    folder = RunFolder.create(tmp_path / "run", run)
    grid = Unreliable(clients, time, at(4), on("train", 1, 0, "raise"))
    server_app.serve(grid, run, folder)
    wanted = Missing(1, 0, "training", "failed: ValueError")
    assert [line.what for line in read(folder.event_log) if isinstance(line.what, Missing)] == [wanted]
    kept = json.loads((folder.checkpoints / "round-0003" / "progress.json").read_text())
    assert kept["missing"] == [vars(wanted)]
    assert folder.results().missing == (wanted,)


def test_messages_are_valid_a_little_longer_than_the_deadline(tmp_path):
    *_, grid = serve(tolerant(rounds=1), tmp_path / "run")
    assert set(grid.ttls) == {15.0}
    *_, grid = serve(rules(tolerant(rounds=1), deadline=0.0), tmp_path / "other")
    assert min(grid.ttls) > 3600


def test_more_clients_than_there_are_cannot_be_asked_for():
    with pytest.raises(SettingsError, match="min_clients is 5, but the scenario has 4"):
        varied(settings(FOUR), ["participation.min_clients=5"])


# ---- who is there ----------------------------------------------------------------------------------------------------


class Claiming(Clients):
    """Nodes that claim to be other clients than those at their place."""

    def __init__(self, run, claims):
        super().__init__(run)
        self.ids = claims


def test_nodes_that_come_later_are_waited_for(tmp_path):
    run = tolerant(least=0)
    time_of = {of(0): 0, of(1): 3, of(2): 20, of(3): 5}
    grids = []
    online = lambda: [node for node, at in time_of.items() if not grids or at <= grids[0].time.seconds]  # noqa: E731
    clients, time = Clients(run), FakeTime()
    grids.append(Unreliable(clients, time, at(4), online=online))
    folder = RunFolder.create(tmp_path / "run", run)
    progress = Server(grids[0], run, folder, wait=60.0, clock=time.clock).run()
    assert progress.missing == []
    assert 20 <= time.seconds < 21


def test_nodes_that_do_not_come_are_named_when_waiting_is_over(tmp_path):
    with pytest.raises(RunError, match=r"needs the clients \[0, 1, 2, 3\], but \[0, 2\] answered"):
        serve(tolerant(least=0), tmp_path / "run", online=lambda: [of(0), of(2)])


def test_two_nodes_that_claim_one_client_are_refused_by_name(tmp_path):
    run = tolerant(least=0)
    with pytest.raises(RunError, match=r"node 3: claims to be client 1, and so does node 6; node 6: claims"):
        serve(run, tmp_path / "run", clients=Claiming(run, [0, 1, 2, 3, 1]), nodes=5)


def test_where_every_node_is_refused_each_is_named(tmp_path):
    run = tolerant(least=0)
    with pytest.raises(RunError, match=r"but \[\] answered; node 2: claims to be client 8; .*; node 3: claims"):
        serve(run, tmp_path / "run", clients=Claiming(run, [8, 9, 10, 11]), nodes=4)


def hello(run, path, script, *, online=None, nodes=None, wait=600.0):
    """Gather on an unreliable engine; returns the time and what was said if it failed."""
    clients, time = Clients(run), FakeTime()
    there = (lambda: [node for node, at in online.items() if at <= time.seconds]) if online else None
    grid = Unreliable(clients, time, at(nodes or len(run.scenario.clients)), script, there)
    server = Server(grid, run, RunFolder.create(path, run), wait=wait, clock=time.clock)
    try:
        server._attendance.gather(wait)
    except RunError as error:
        return time.seconds, str(error)
    return time.seconds, ""


@pytest.mark.parametrize(("least", "nodes"), [(0, 4), (2, 2)])
def test_waiting_ends_when_every_connected_client_has_failed_and_each_reason_is_told(tmp_path, least, nodes):
    fails = lambda kind, *_: "raise" if kind == "query.hello" else ""  # noqa: E731
    seconds, said = hello(tolerant(least=least), tmp_path / "run", fails, nodes=nodes)
    assert seconds == 0
    assert all(f"; node {of(client)}: failed: ValueError" in said for client in range(nodes))


def test_clients_that_are_still_to_come_are_waited_for_though_all_before_have_failed(tmp_path):
    """Two nodes of somebody else's are there first, and a run that needs two clients could not know it."""
    times = {of(0): 0, of(1): 0, of(2): 30, of(3): 40}
    first = lambda kind, round_, node: "raise" if node in (of(0), of(1)) else ""  # noqa: E731
    seconds, said = hello(tolerant(least=3), tmp_path / "run", first, online=times, wait=60.0)
    assert seconds >= 60
    assert "[2, 3] answered" in said


def test_a_node_that_has_failed_is_asked_again_while_others_are_there(tmp_path):
    """Its process was killed, or somebody puts its configuration right meanwhile."""
    asked = []

    def script(kind, round_, node):
        asked.append(node)
        return "raise" if node == of(1) and asked.count(node) < 3 else ""

    seconds, said = hello(tolerant(least=0), tmp_path / "run", script)
    assert said == ""
    assert sorted(asked) == [of(0), *[of(1)] * 3, of(2), of(3)]
    assert 60 <= seconds < 62


def test_a_node_that_was_away_at_the_start_is_asked_again_when_it_is_back(tmp_path):
    """It was killed a moment ago and still counts as connected; with its key it comes back as the same node."""
    asked = []

    def script(kind, round_, node):
        asked.append(node)
        return "dead" if node == of(1) and asked.count(node) < 3 else ""

    seconds, said = hello(tolerant(least=0), tmp_path / "run", script)
    assert said == ""
    assert asked.count(of(1)) == 3
    assert asked.count(of(0)) == 1
    assert seconds < 600


def test_an_unknown_node_is_refused_by_name_and_the_run_goes_on(tmp_path):
    run = tolerant(least=0)
    _, progress, clients, heard, _ = serve(run, tmp_path / "run", clients=Claiming(run, [0, 1, 2, 3, 8]), nodes=5)
    assert heard.warnings == ["node 6 is refused: claims to be client 8; the scenario has [0, 1, 2, 3]"]
    assert {client for _, client in clients.trained} == set(FOUR)
    assert progress.missing == []


def test_a_client_may_come_in_a_later_round_and_on_another_node(tmp_path):
    """Client 3 is not there at the start; client 1's node dies in round 2, and another one speaks for it then."""
    run = tolerant(rounds=4)
    clients = Claiming(run, [0, 1, 2, 3, 1])
    now = {"round": 0}
    there = {0: [2, 3, 4], 1: [2, 3, 4], 2: [2, 3, 4, 5], 3: [2, 4, 5, 6], 4: [2, 4, 5, 6]}

    def script(kind, round_, node):
        return "" if kind == "query.hello" or (node != 3 or round_ < 2) else "dead"

    class Rounds(Heard):
        def on_round_start(self, record):
            now["round"] = record.round

    heard, time = Rounds(), FakeTime()
    grid = Unreliable(clients, time, at(5), script, lambda: there[now["round"]])
    progress = Server(grid, run, RunFolder.create(tmp_path / "run", run), heard, clock=time.clock).run()
    assert [(each.round, each.client, each.exchange, each.why) for each in progress.missing] == [
        (0, 3, "evaluation", "not there"),
        (1, 3, "training", "not there"),
        (1, 3, "evaluation", "not there"),
        (2, 1, "training", "failed: Node Unavailable"),
        (2, 1, "evaluation", "failed: Node Unavailable"),
    ]
    assert clients.trained[2, 3]["block.0.q_proj.P"].shape == (2, 2)  # what a newcomer gets
    assert (3, 1) in clients.trained
