"""Whether a client answers as at the start, as trained or as the last exchange left it: its state says so, no round."""

import pytest
from tests.methods.lab import Lab

from fedmosaic.errors import SettingsError
from fedmosaic.experiments.rescoring import examine
from fedmosaic.federation import ClientRuntime
from fedmosaic.federation.client_node import ClientNode
from fedmosaic.federation.final_model import answering
from fedmosaic.federation.input_digests import InputDigests
from fedmosaic.federation.participation import participants

LAST = 4


@pytest.fixture(autouse=True)
def without_digests(monkeypatch):
    """The numbers' models and data are no files."""
    for name in ("keep", "check"):
        monkeypatch.setattr(InputDigests, name, lambda self, **_: None)


@pytest.fixture
def runtime(tmp_path):
    """Makes the runtime of a method, always in the same folder for the same method, as after a resume."""

    def make(method, participation, **options):
        lab = Lab(method, models=("narrow", "wide"), learning_rate=0.5)
        rules = lab.settings.participation.model_copy(update=participation)
        settings = lab.settings.model_copy(update={"participation": rules})
        return ClientRuntime(lab.assets(settings), tmp_path / method, **options)

    return make


@pytest.mark.parametrize("least", [0, 1])
def test_an_untrained_proxy_has_no_part_in_answers_in_whichever_round(runtime, least):
    rules = {"fraction": 0.5, "min_clients": least}
    first = runtime("fedmosaic-proxy", rules)
    (busy,) = participants(first.assets.settings, 1)
    idle = 1 - busy
    tasks = first.assets.settings.scenario.task_names
    alone = {
        client: ClientNode(runtime("sft", rules), client).score(0, tasks, count=0) for client in (busy, idle)
    }  # adapters that compute nothing yet
    ClientNode(first, busy).train_round(1, {})
    for again in (first, runtime("fedmosaic-proxy", rules)):
        assert ClientNode(again, idle).score(1, tasks, count=0) == alone[idle]
        for client, is_alone in ((idle, True), (busy, False)):
            node = ClientNode(again, client)
            with again.states.model_of(node.client_after(1), 1) as model:
                assert (model is node.base) == is_alone
        again.adapters.detach()


def test_a_client_that_only_received_answers_with_what_it_received(runtime):
    rules = {"min_clients": 1}  # it may have been missing in all rounds
    first = runtime("fedmosaic-proxy", rules)
    upload, _ = ClientNode(first, 1).train_round(LAST, {})
    received = ClientNode(first, 0).exchange(LAST, dict(upload))
    first.adapters.detach()
    after = runtime("fedmosaic-proxy", rules)
    with answering(after, 0, "final") as model:
        assert model is after.assets.pool.known("narrow")
    with answering(after, 0, "exchanged") as model:
        assert model is not after.assets.pool.known("narrow")
    after.adapters.detach()
    tasks = first.assets.settings.scenario.task_names
    exchanged = runtime("fedmosaic-proxy", rules, after_exchange=True)
    assert ClientNode(exchanged, 0).score(LAST, tasks, count=0) == received


def test_who_missed_the_last_exchange_is_left_out_of_scores_from_after_it(runtime):
    first = runtime("fedavg", {"min_clients": 1})
    tasks = first.assets.settings.scenario.task_names
    nodes = [ClientNode(first, client) for client in (0, 1)]
    uploads = [node.train_round(LAST, {})[0] for node in nodes]
    told = nodes[0].exchange(LAST, dict(uploads[0]))
    after = runtime("fedavg", {"min_clients": 1}, after_exchange=True, unexchanged={1})
    summary, measured = examine(after, tasks, rounds=LAST)
    assert measured.scores == {0: {task: pytest.approx(sum(each) / len(each)) for task, each in told.items()}}
    assert [score is None for score in summary.per_client] == [False, True]
    with pytest.raises(SettingsError, match="client 1 was missing in the last exchange of this run"):
        after.states.answering(after.assets.settings.scenario.client(1), LAST)
    every = runtime("fedavg", {"min_clients": 1}, unexchanged={1})  # as training has left them
    assert set(examine(every, tasks, rounds=LAST)[1].scores) == {0, 1}
    with pytest.raises(SettingsError, match="client 1 was missing"):
        every.states.exchanged.answering(every.assets.settings.scenario.client(1), LAST)
