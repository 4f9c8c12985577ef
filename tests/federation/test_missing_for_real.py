"""Real clients that miss rounds: their states, their samples, their answers, and what is said of it."""

import pytest
import torch
from tests.federation.scenario import small
from tests.federation.unreliable import FIRST_NODE, FakeTime, Unreliable

from fedmosaic.errors import RunError
from fedmosaic.federation import Assets, ClientRuntime, RunFolder, client_app, server_app
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.engines import in_process
from fedmosaic.federation.results import Missing
from fedmosaic.io import load_tensors
from fedmosaic.report import write_report

pytestmark = pytest.mark.slow  # a whole run

LATE, DEAD = 1, 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Client 1's answer of round 2 is lost on its way, and client 2 never hears of the rounds 2 and 3."""
    overrides = ["participation.min_clients=2", "participation.deadline=10", "evaluation.samples_per_task=2"]
    overrides += ["training.averaged_rounds=2", "evaluation.milestones=1"]
    settings = small(rounds=4, overrides=overrides)
    folder = RunFolder.create(tmp_path_factory.mktemp("missing") / "run", settings)

    def script(kind, round_, node):
        if kind == "train" and round_ == 2 and node == FIRST_NODE + LATE:
            return "hang"
        return "dead" if kind != "query.hello" and round_ in (2, 3) and node == FIRST_NODE + DEAD else ""

    config, nodes = in_process.local_run_config(settings, folder), in_process.local_nodes(settings, folder)
    grid = Unreliable(client_app.make_app(), FakeTime(), nodes, script, **config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedmosaic.federation.post.Clock", lambda: grid.time.clock)
        server_app.serve(grid, settings, folder)
    return folder


def stored(folder, client):
    paths = sorted((folder.client_folder / f"client-{client:03d}").glob("round-*.safetensors"))
    return {int(path.stem.removeprefix("round-")): load_tensors(path) for path in paths}


def test_results_and_report_say_who_was_missing(finished):
    lost, dead = "no answer within 10 s", "failed: Node Unavailable"
    assert set(finished.results().missing) == {
        Missing(2, LATE, "training", lost),
        *(Missing(round_, DEAD, exchange, dead) for round_ in (2, 3) for exchange in ("training", "evaluation")),
    }
    assert None not in finished.results().self_.per_client  # all were back at the end
    assert "Node Unavailable" in write_report(finished.path).read_text(encoding="utf-8")


def test_clients_go_on_from_the_last_state_that_they_have_and_note_what_they_missed(finished):
    assert {client: list(stored(finished, client)) for client in range(4)} == {
        0: [2, 3, 4], LATE: [2, 3, 4], DEAD: [1, 4], 3: [2, 3, 4],
    }  # fmt: skip
    missed = {client: stored(finished, client)[4].get("missed|rounds") for client in range(4)}
    assert missed.pop(DEAD).tolist() == [2, 3]
    assert set(missed.values()) == {None}


def test_samples_of_rounds_that_were_missed_are_not_taken_for_drawn(finished):
    runtime = ClientRuntime(Assets(finished.settings), finished.client_folder)
    node = ClientNode(runtime, DEAD)
    client = node.client(4, runtime.states.after(node.spec, 3, known=1))
    assert client._own_stream.idle == {2, 3}
    drawn = client._own_stream.batches(4, 2, 4)
    planned = node.stream.with_idle([2, 3]).batches(4, 2, 4)
    assert [[sample.id for sample in batch] for batch in drawn] == [[s.id for s in batch] for batch in planned]


def test_a_repeated_message_is_answered_as_before_and_a_lost_state_is_told(finished, tmp_path):
    runtime = ClientRuntime(Assets(finished.settings), finished.client_folder)
    node = ClientNode(runtime, DEAD)
    before = stored(finished, DEAD)[4]
    node.train_round(4, {}, known=1)
    once = stored(finished, DEAD)[4]
    node.train_round(4, {}, known=1)
    again = stored(finished, DEAD)[4]
    assert once.keys() == again.keys() == before.keys()
    assert all(torch.equal(once[name], again[name]) for name in once)
    with pytest.raises(RunError, match=r"client-002\S+round-0003"):
        node.train_round(4, {}, known=3)
    elsewhere = ClientNode(ClientRuntime(Assets(finished.settings), tmp_path / "clients"), DEAD)
    with pytest.raises(RunError, match=r"round-0001"):
        elsewhere.evaluate(4, others=False, count=1, known=1)


def test_it_answers_with_the_mean_of_the_states_that_it_has(finished):
    runtime = ClientRuntime(Assets(finished.settings), finished.client_folder)
    kept = stored(finished, DEAD)
    now = runtime.states.answering(finished.settings.scenario.client(DEAD), 4).tensors()
    for name, tensor in now.items():
        if name.startswith("slot."):
            torch.testing.assert_close(tensor, (kept[1][name] + kept[4][name]) / 2)
