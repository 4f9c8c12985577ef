"""TAKFL: task vectors that are not zero, each from the mean anew; lam = 0 is FedAvg."""

import torch
from tests.methods.lab import Lab, Server, distance
from torch.testing import assert_close

from fedmosaic.methods.base import Upload, Uploads, mean_within_architecture
from fedmosaic.methods.ensemble import Classroom
from fedmosaic.training.distillation import divergence

MODELS = ("narrow", "narrow", "foreign")


def make(**settings):
    return Lab("takfl", {"public_samples": 8, **settings}, models=MODELS)


def noisy(lab):
    clients = [lab.client(number) for number in range(len(MODELS))]
    return Uploads(Upload(c.id, c.base.architecture, lab.noise(c, "shared", c.id), 1, 1) for c in clients)


def shifts(lab, uploads):
    """What is added to each client's mean."""
    downloads, means = lab.method.aggregate(uploads, Server(lab)).downloads, mean_within_architecture(uploads)
    return {c: {name: downloads[c][name] - mean for name, mean in means[c].items()} for c in downloads}


def test_lam_zero_is_fedavg():
    lab = make(lam=0.0)
    uploads = noisy(lab)
    for client, shift in shifts(lab, uploads).items():
        assert all(not tensor.any() for tensor in shift.values()), client


def task_vector(lab, batches, goal, mean):
    """tau_j by another loop: a student of its own, which starts from the mean."""
    student = lab.client(0)
    student.adapter.load_slot("shared", mean)
    own = [(student.predict(batch, mix="shared").logits / 20).softmax(-1) for batch in batches]
    for index, batch in enumerate(batches):

        def objective(index=index, batch=batch):
            logits = student.answers(batch, mix="shared").logits
            teacher = divergence(logits, goal.probabilities[index], goal.weights[index], 3.0)
            keep = torch.nn.functional.kl_div((logits / 20).log_softmax(-1), own[index], reduction="batchmean")
            return teacher + 0.01 * 400 * keep

        student.descend(objective, batch, slots=("shared",))
    return {name: tensor - mean[name] for name, tensor in student.snapshot("shared").items()}


def test_the_shift_is_the_mean_of_one_task_vector_per_group_each_from_theta_avg():
    lab = make()
    uploads = noisy(lab)
    found = shifts(lab, uploads)
    room = Classroom(uploads, Server(lab), lab.method.settings, "shared")
    mean = mean_within_architecture(uploads)[0]
    vectors = [
        task_vector(lab, room.batches["narrow"], room.targets("narrow", [lesson], temperature=3.0), mean)
        for lesson in room.lessons(temperature=3.0, pooled="logits").values()
    ]
    zero = {name: torch.zeros_like(tensor) for name, tensor in mean.items()}
    assert len(vectors) == 2
    assert all(distance(vector, zero) > 0.01 for vector in vectors)
    assert distance(*vectors) > 0.01
    expected = {name: (vectors[0][name] + vectors[1][name]) / 2 for name in mean}
    assert_close(found[0], expected, atol=1e-4, rtol=1e-3)


def test_the_shift_is_linear_in_lam():
    half, full = make(lam=0.5), make(lam=1.0)
    uploads = noisy(half)
    one, two = shifts(half, uploads), shifts(full, uploads)
    for client in one:
        for name in one[client]:
            assert_close(2 * one[client][name], two[client][name], atol=1e-5, rtol=1e-4)
    assert all(distance(two[c], one[c]) > 0.01 for c in one)


def test_clients_train_the_slot_that_travels():
    lab = make()
    client = lab.client(0)
    before = client.snapshot("shared")
    upload = lab.train(client)
    assert distance(upload.tensors, before) > 0
