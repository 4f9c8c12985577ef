"""FedDistill: averages within architectures, then learning from all clients on fresh public samples."""

import pytest
from tests.methods.lab import Lab, distance, same, spied
from torch.testing import assert_close

from fedmosaic.methods.base import mean_within_architecture
from fedmosaic.methods.ensemble_distillation import EnsembleDistiller
from fedmosaic.methods.uploads import Upload, Uploads
from fedmosaic.training.distillation import divergence

MODELS = ("narrow", "narrow", "foreign")


def noisy(lab):
    """Uploads as if the clients had trained."""
    clients = [lab.client(number) for number in range(len(MODELS))]
    slot = lab.method.communicated
    return Uploads(Upload(c.id, c.base.architecture, lab.noise(c, slot, 10 + c.id), 1, 1) for c in clients)


def make(**settings):
    return Lab("feddistill", {"public_samples": 24, **settings}, models=MODELS, learning_rate=3e-3)


def test_with_no_learning_it_is_fedavg():
    lab = make(server_rate=1e-30)
    uploads = noisy(lab)
    downloads = lab.method.aggregate(uploads, lab.server()).downloads
    for client, tensors in mean_within_architecture(uploads).items():
        for name, mean in tensors.items():
            assert_close(downloads[client][name], mean)


@pytest.mark.slow
def test_every_architecture_comes_closer_to_what_all_clients_predict_in_its_own_tokens(keep_last):
    lab = make()
    uploads = noisy(lab)
    server = lab.server()
    downloads = lab.method.aggregate(uploads, server).downloads
    assert same(downloads[0], downloads[1])
    means, distiller = (
        mean_within_architecture(uploads),
        EnsembleDistiller(uploads, server, lab.method.settings, "shared"),
    )
    predictions = list(distiller.predictions_by_architecture(temperature=2.0, mean_of="probabilities").values())
    for client in (0, 2):
        model = server.trainee(client)
        goal = distiller.targets(model.base.architecture, predictions, temperature=2.0)
        gaps = []
        for tensors in (means[client], downloads[client]):
            model.adapter.load_slot("shared", tensors)
            logits = [model.predict(b, mix="shared").logits for b in distiller.batches[model.base.architecture]]
            each = zip(logits, goal.probabilities, goal.weights, strict=True)
            gaps.append(float(sum(divergence(*one, 2.0) for one in each)))
        assert gaps[1] < gaps[0]


def test_targets_are_the_mean_distribution_of_the_clients_of_one_architecture():
    lab = Lab("feddistill", {"public_samples": 6}, models=("narrow", "narrow"))
    uploads = Uploads(
        Upload(c.id, "narrow", lab.noise(c, "shared", c.id), 1, 1) for c in (lab.client(0), lab.client(1))
    )
    distiller = EnsembleDistiller(uploads, lab.server(), lab.method.settings, "shared")
    (prediction,) = distiller.predictions_by_architecture(temperature=2.0, mean_of="probabilities").values()
    goal = distiller.targets("narrow", [prediction], temperature=2.0)
    teacher = lab.client(0)
    each = []
    for upload in uploads.values():
        teacher.adapter.load_slot("shared", upload.tensors)
        each.append((teacher.predict(distiller.batches["narrow"][0], mix="shared").logits / 2).softmax(-1))
    assert_close(goal.probabilities[0], sum(each) / 2)


@pytest.mark.slow
def test_other_public_samples_in_every_round_and_their_cost_is_metered(keep_last):
    lab = make()
    uploads = noisy(lab)
    server = lab.server(round_=2)
    one = lab.method.aggregate(uploads, server).downloads
    assert sum(trainee.meter.flops for trainee in server.trainees) > 0
    assert sum(trainee.meter.steps for trainee in server.trainees) == 2 * 24 // 4  # what is held out is no step
    assert same(one[0], lab.method.aggregate(uploads, lab.server(round_=2)).downloads[0])
    assert distance(one[0], lab.method.aggregate(uploads, lab.server(round_=3)).downloads[0]) > 0


@pytest.mark.slow
def test_only_architectures_that_receive_are_students_but_all_are_teachers():
    lab = make()
    uploads = noisy(lab)
    everyone = lab.method.aggregate(uploads, lab.server()).downloads
    some = lab.method.aggregate(uploads.towards([2]), lab.server()).downloads
    assert set(some) == {2}
    assert same(some[2], everyone[2])


def test_a_client_trains_from_what_it_received():
    lab = make()
    client = lab.client(0)
    received = lab.noise(client, "shared")
    steps = spied(client, "step")
    upload = lab.train(client, received)
    assert [call["slots"] for call in steps] == [("shared",)] * 3
    assert set(upload.tensors) == set(client.adapter.schema("shared"))
    moved = max(float((upload.tensors[name] - received[name]).abs().max()) for name in received)
    assert 0 < moved < 3 * 2 * 3e-3  # three AdamW steps; restored own weights would be much further away
