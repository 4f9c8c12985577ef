"""FedMKT: knowledge on public samples both ways; nobody's weights travel."""

import pytest
import torch
from tests.methods.lab import Lab, distance, same, spied
from torch.testing import assert_close

from fedmosaic.errors import WireError
from fedmosaic.methods.fedmkt import Source, select
from fedmosaic.methods.uploads import Upload, Uploads
from fedmosaic.training import ClientState
from fedmosaic.training.top_k_predictions import TopKPredictions

MODELS = ("narrow", "narrow", "foreign")


def make(**settings):
    return Lab("fedmkt", {"public_samples": 8, "top": 12, **settings}, models=MODELS)


def trained(lab):
    """All clients after the first round, and their uploads."""
    clients = [lab.client(number) for number in range(len(MODELS))]
    return clients, Uploads([lab.train(client) for client in clients])


def own_weights(state):
    return state.slots["local"]


def test_only_knowledge_travels_in_the_shapes_that_were_announced():
    lab = make()
    clients, uploads = trained(lab)
    aggregation = lab.method.aggregate(uploads, lab.server())
    for client in clients:
        announced = lab.method.upload_shapes(client.adapter)
        assert set(announced) == {"public.probabilities", "public.tokens", "public.loss"}
        for tensors in (uploads[client.id].tensors, aggregation.downloads[client.id]):
            assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == announced
        assert lab.method.download_shapes(client.adapter) == announced
        # The knowledge is what the client would answer after its training, on this round's public samples.
        again = TopKPredictions.of(
            client, client.public_batches(8), mix="local", size=lab.method.size(lab.settings.training)
        )
        assert same(again.tensors(), dict(uploads[client.id].tensors))


def test_each_sample_is_taught_by_the_best_source_that_beats_the_student():
    lab = make()
    narrow, foreign = lab.client(0), lab.client(2)
    sources = []
    for client, losses in ((narrow, [1.0, 5, 2, 9, 1, 1, 1, 1]), (foreign, [2.0, 4, 3, 8, 2, 2, 2, 2])):
        batches = client.public_batches(8)
        probabilities = TopKPredictions.of(client, batches, mix="local", size=lab.method.size(lab.settings.training))
        sources.append(
            Source(
                client.base,
                batches,
                TopKPredictions(probabilities.probabilities, probabilities.tokens, torch.tensor(losses)),
            )
        )
    student_loss = torch.tensor([3.0, 4.5, 1.0, 8.0, 0, 0, 0, 0])
    expected = ([0], [1])  # sample 0 from narrow, 1 from foreign; at 2, 3 and further no one is better
    for prediction, source, samples in zip(select(sources, student_loss), sources, expected, strict=True):
        row = 0
        for batch, probabilities in zip(source.batches, prediction.probabilities, strict=True):
            rows = (batch.inputs.labels >= 0).nonzero()[:, 0]
            for index in range(len(batch.samples)):
                assert bool((probabilities[rows == index].sum(-1) > 0).all()) == (row in samples)
                row += 1


def test_the_loss_has_the_label_term_and_nothing_else_where_nobody_is_better():
    lab = make()
    client = lab.client(0)
    batches = client.public_batches(8)
    worse = TopKPredictions.of(client, batches, mix="local", size=lab.method.size(lab.settings.training))
    predictions = select([Source(client.base, batches, worse)], worse.loss - 1)
    expected = [0.9 * client.loss(batch, mix="local").item() for batch in batches[:1]]
    lab.method._learn(
        client, batches[:1], [type(predictions[0])(client.base, batches[:1], predictions[0].probabilities[:1])]
    )
    assert client.meter.loss == pytest.approx(expected[0], rel=1e-5)
    pure = make(lam=0.0)
    other = pure.client(0)
    before = other.snapshot("local")
    pure.method._learn(other, batches, predictions)
    assert same(other.snapshot("local"), before)


@pytest.mark.slow
def test_server_models_learn_go_on_from_round_to_round_and_teach_each_architecture():
    lab = make()
    _, uploads = trained(lab)
    first = lab.method.aggregate(uploads, lab.server())
    assert same(first.downloads[0], first.downloads[1])
    start = lab.client(0).state()
    for architecture in ("narrow", "foreign"):
        mark = f"{architecture}|"
        kept = ClientState.from_tensors(
            {key.removeprefix(mark): tensor for key, tensor in first.state.items() if key.startswith(mark)}
        )
        begun = own_weights(start if architecture == "narrow" else lab.client(2).state())
        assert distance(begun, own_weights(kept)) > 0
        assert kept.moments
    again = lab.method.aggregate(uploads, lab.server(tensors=first.state))
    assert any(not torch.equal(tensor, first.state[key]) for key, tensor in again.state.items())
    assert (again.downloads[0]["public.loss"] < first.downloads[0]["public.loss"]).float().mean() > 0.5


@pytest.mark.slow
def test_the_server_uses_the_public_samples_of_the_uploads_round_and_only_fresh_uploads():
    lab = make()
    _, uploads = trained(lab)
    fresh = Uploads([uploads[0], uploads[2]])
    asked = []

    server = lab.server()
    original = server.trainee

    def watched(client, *, rate=1.0):
        trainee = original(client, rate=rate)
        asked.append(spied(trainee, "public_batches"))
        return trainee

    server.trainee = watched
    one = lab.method.aggregate(fresh, server)
    assert [call["round_"] for calls in asked for call in calls] == [1, 1]
    stale = type(uploads[1])(1, "narrow", uploads[1].tensors, 12, round=0)
    two = lab.method.aggregate(Uploads([*fresh.values(), stale]), lab.server())
    assert same(two.downloads[0], one.downloads[0])
    assert same(two.downloads[1], one.downloads[0])  # it receives, but its knowledge was of other samples


@pytest.mark.slow
def test_the_server_teaches_before_the_clients_own_training_on_the_samples_of_the_round_before():
    lab = make()
    clients, uploads = trained(lab)
    downloads = lab.method.aggregate(uploads, lab.server()).downloads
    state = clients[0].state()
    taught, alone = lab.client(0, 2, state), lab.client(0, 2, state)
    asked, descents = spied(taught, "public_batches"), []
    original = taught.descend

    def recording(objective, batch, **kwargs):
        descents.append(batch.samples[0].id)
        return original(objective, batch, **kwargs)

    taught.descend = recording
    lab.train(taught, downloads[0])
    lab.train(alone)
    assert [call["round_"] for call in asked] == [1, 2]
    public = alone.public_batches(1, round_=1)[0].samples[0].id.split("-")[0]
    assert [name.split("-")[0] for name in descents] == [public, public, "100", "100", "100"]
    assert distance(own_weights(taught.state()), own_weights(alone.state())) > 0.01
    assert not any(name.startswith("server.") for name in taught.state().memory)
    assert taught.meter.flops > alone.meter.flops


@pytest.mark.slow
def test_a_client_that_sat_out_compares_with_what_it_would_say_now():
    lab = make()
    clients, uploads = trained(lab)
    downloads = lab.method.aggregate(uploads, lab.server()).downloads
    late = lab.client(0, 3, clients[0].state())
    predicted = spied(late, "predict")
    lab.method.receive(late, downloads[0])
    lab.method._learn_from_server(late)
    assert len(predicted) == 2  # the loss it remembers is that of other samples
    on_time = lab.client(0, 2, clients[0].state())
    predicted = spied(on_time, "predict")
    lab.method.receive(on_time, downloads[0])
    lab.method._learn_from_server(on_time)
    assert predicted == []
    assert_close(
        clients[0].memory["public.loss"],
        TopKPredictions.of(
            clients[0], clients[0].public_batches(8), mix="local", size=lab.method.size(lab.settings.training)
        ).loss,
    )


@pytest.mark.parametrize(("client", "vocabulary"), [(0, 24), (2, 30)])
def test_token_ids_beyond_the_clients_vocabulary_are_refused_when_they_arrive(client, vocabulary):
    lab = make()
    tensors = {name: torch.zeros(shape) for name, shape in lab.method.size(lab.settings.training).shapes().items()}
    upload = Upload(client, MODELS[client], tensors, 12, round=1)
    tensors["public.tokens"][0, 0, 0] = vocabulary - 1
    lab.method.check_upload(upload)
    for wrong in (vocabulary, 10_000_000, -1, 0.5):
        tensors["public.tokens"][0, 0, 0] = wrong
        with pytest.raises(WireError, match=rf"client {client} .* 0 to {vocabulary - 1}"):
            lab.method.check_upload(upload)
