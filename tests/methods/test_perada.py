"""PerAda: a personal slot near the received one, and a shared slot that is distilled."""

import pytest
import torch
from tests.methods.lab import Lab, distance, same, spied
from torch.testing import assert_close

from fedmosaic.methods.base import mean_within_architecture
from fedmosaic.methods.uploads import Upload, Uploads


def make(models=("narrow", "narrow"), **settings):
    return Lab("perada", {"public_samples": 8, "server_rate": 0.1, **settings}, models=models)


def test_the_personal_slot_answers_and_never_leaves():
    lab = make()
    client = lab.client(0)
    upload = lab.train(client)
    assert same(upload.tensors, client.snapshot("shared"))
    assert distance(upload.tensors, client.snapshot("personal")) > 0
    assert lab.method.answers_with == "personal"


def test_a_download_reaches_the_shared_slot_only_and_both_slots_train_on_every_batch():
    lab = make()
    client = lab.client(0)
    before = client.snapshot("personal")
    received = lab.noise(client, "shared")
    lab.method.receive(client, received)
    assert same(client.snapshot("shared"), received)
    assert same(client.snapshot("personal"), before)
    steps = spied(client, "step")
    lab.method.train(client, client.budget())
    assert [call["slots"] for call in steps] == [("shared",), ("personal",)] * 3


def test_the_pull_is_lam_times_the_squared_distance_to_the_received_weights():
    lab = make(lam=0.7)
    client = lab.client(0)
    received = lab.noise(client, "shared", 1)
    lab.method.receive(client, received)
    steps = spied(client, "step")
    lab.method.train(client, client.budget())
    personal = lab.noise(client, "shared", 2)
    client.adapter.load_slot("personal", personal)
    expected = 0.7 * distance(personal, received) ** 2  # theta^t stays where it was, though the shared slot moved
    assert float(steps[1]["penalty"](client.adapter).detach()) == pytest.approx(expected, rel=1e-4)
    assert steps[0].get("penalty") is None


@pytest.mark.slow
def test_received_weights_survive_the_first_step():
    lab = Lab("perada", {}, models=("narrow", "narrow"), steps=1)
    first = lab.client(0)
    lab.train(first)
    client = lab.client(0, round_=2, state=first.state())
    received = lab.noise(client, "shared", 5)
    upload = lab.train(client, received)
    moved = max(float((upload.tensors[name] - tensor).abs().max()) for name, tensor in received.items())
    assert 0 < moved < 2 * 1e-2  # about one learning rate


def test_teachers_speak_with_theta_and_the_target_is_the_softmax_of_their_mean_logits(keep_last):
    lab = make(temperature=3.0)
    clients = [lab.client(number) for number in (0, 1)]
    uploads = Uploads(Upload(c.id, "narrow", lab.noise(c, "shared", c.id), 1, 1) for c in clients)
    server = lab.server()
    downloads = lab.method.aggregate(uploads, server).downloads
    student = lab.server().trainee(0, rate=0.1)
    batches = student.public_batches(8)
    wanted = []
    for batch in batches:
        logits = []
        for upload in uploads.values():
            student.adapter.load_slot("shared", upload.tensors)
            logits.append(student.predict(batch, mix="shared").logits)
        wanted.append((sum(logits) / 2 / 3).softmax(-1))
    student.adapter.load_slot("shared", mean_within_architecture(uploads)[0])
    for batch, probabilities, rate in zip(batches, wanted, (1, 0.5), strict=True):  # the loss by another formula

        def objective(batch=batch, probabilities=probabilities):
            logits = student.answers(batch, mix="shared").logits / 3
            return 9 * torch.nn.functional.kl_div(logits.log_softmax(-1), probabilities, reduction="batchmean")

        student.optimiser.scale_rates(rate)
        student.descend(objective, batch, slots=("shared",))
    assert_close(downloads[0], student.snapshot("shared"), atol=1e-4, rtol=1e-3)
    assert same(downloads[0], downloads[1])


def test_two_architectures_both_learn(keep_last):
    lab = make(models=("narrow", "foreign"))
    clients = [lab.client(number) for number in (0, 1)]
    uploads = Uploads(Upload(c.id, c.base.architecture, lab.noise(c, "shared", c.id), 1, 1) for c in clients)
    downloads = lab.method.aggregate(uploads, lab.server()).downloads
    for client in (0, 1):
        assert distance(downloads[client], uploads[client].tensors) > 1e-3
