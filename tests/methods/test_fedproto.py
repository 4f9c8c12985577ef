"""FedProto: prototypes of answers, gathered in training, averaged by counts, and pulled towards."""

import pytest
import torch
from tests.methods.lab import Lab, distance, same
from torch.testing import assert_close

from fedmosaic.methods.fedproto import Prototypes, class_of, pull
from fedmosaic.methods.uploads import Upload, Uploads

MODELS = ("narrow", "narrow", "wide")


def make(**settings):
    return Lab("fedproto", {"dimension": 8, "classes": 16, **settings}, models=MODELS)


def test_the_server_averages_each_class_over_its_owners_by_their_samples():
    method = make().method
    rows = {0: {7: ([1.0] * 8, 3), 9: ([2.0] * 8, 1)}, 1: {7: ([5.0] * 8, 1)}, 2: {4: ([6.0] * 8, 2)}}
    uploads = Uploads(
        Upload(
            client,
            "any",
            Prototypes({c: torch.tensor(m) for c, (m, _) in own.items()}, {c: n for c, (_, n) in own.items()}).tensors(
                16, 8
            ),
        )
        for client, own in rows.items()
    )
    downloads = method.aggregate(uploads, None).downloads
    common = Prototypes.read(downloads[0])
    assert same(downloads[0], downloads[2])
    assert common.counts == {7: 4, 4: 2, 9: 1}
    assert common.means[7].tolist() == [(3 * 1 + 1 * 5) / 4] * 8
    assert common.means[9].tolist() == [2.0] * 8
    assert common.means[4].tolist() == [6.0] * 8
    assert same(method.initial_download("new", {}, uploads), downloads[0])


def test_only_the_most_frequent_classes_travel_and_absent_ones_stay_absent():
    own = Prototypes({c: torch.full((2,), float(c)) for c in range(5)}, {0: 1, 1: 9, 2: 5, 3: 9, 4: 1})
    back = Prototypes.read(own.tensors(3, 2))
    assert back.counts == {1: 9, 3: 9, 2: 5}
    assert back.means[3].tolist() == [3.0, 3.0]
    assert Prototypes.read(own.tensors(8, 2)).counts.keys() == own.counts.keys()


def test_the_pull_is_the_mean_squared_distance_to_known_prototypes_and_has_a_gradient():
    embeddings = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    common = Prototypes({1: torch.tensor([0.0, 0.0]), 3: torch.tensor([4.0, 8.0])}, {1: 1, 3: 1})
    value = pull(embeddings, [1, 2, 3], common)
    assert float(value) == (1 + 4 + 1 + 4) / 4
    value.backward()
    assert_close(embeddings.grad, torch.tensor([[0.5, 1.0], [0.0, 0.0], [0.5, -1.0]]))
    assert pull(embeddings, [2, 2, 2], common) == 0


def test_the_first_round_is_plain_cross_entropy():
    lab, plain = make(), Lab("sft", models=MODELS)
    client, other = lab.client(0), plain.client(0)
    upload = lab.train(client)
    plain.train(other)
    assert same(client.snapshot("local"), other.snapshot("local"))
    shapes = lab.method.upload_shapes(client.adapter)
    assert {name: tuple(tensor.shape) for name, tensor in upload.tensors.items()} == shapes
    assert client.meter.flops == other.meter.flops  # prototypes are gathered on the way


@pytest.mark.slow
def test_prototypes_are_class_means_of_the_rounds_samples_each_counted_once_as_it_was_drawn_last():
    lab = make(classes=64)
    client = lab.client(2)
    client.optimiser.scale_rates(0.0)  # so that every step sees the same weights
    client.adapter.train = lambda mode=True: None  # and no dropout
    own = Prototypes.read(lab.train(client).tensors)
    drawn = [sample for samples in lab.stream(client).batches(1, 3, 4) for sample in samples]
    samples = list(dict.fromkeys(drawn))
    assert len(samples) < len(drawn)
    embeddings = []
    for sample in samples:
        inputs = client.base.collate([sample], with_answers=False)
        with client.adapter.mixed({"local": 1.0}), torch.no_grad():
            embeddings.append(client.base.hidden_states(inputs)[0, -1])
    project, answers = lab.method._projection(client), [sample.answer for sample in samples]
    for answer in set(answers):
        mine = torch.stack([e for e, other in zip(embeddings, answers, strict=True) if other == answer])
        label = class_of(answer, lab.settings.seed)
        assert own.counts[label] == len(mine)
        assert_close(own.means[label], project(mine).mean(0), atol=1e-5, rtol=1e-4)
    assert len(own.means) == len(set(answers))


@pytest.mark.slow
def test_received_prototypes_change_training_by_lam():
    lab = make(classes=64)
    first = lab.client(0)
    upload = lab.train(first)
    moved = {**upload.tensors, "prototypes": upload.tensors["prototypes"] + 1}
    states = {}
    for lam in (0.0, 1.0, 4.0):
        changed = make(classes=64, lam=lam)
        client = changed.client(0, 1)
        changed.train(client, moved)
        states[lam] = client.snapshot("local")
    assert same(states[0.0], first.snapshot("local"))
    assert distance(states[1.0], states[0.0]) > 1e-3
    assert distance(states[4.0], states[0.0]) > 1e-3


def test_clients_agree_on_classes_and_on_the_projection_of_equal_widths():
    lab = make()
    probe = torch.eye(16)
    assert torch.equal(lab.method._projection(lab.client(0))(probe), lab.method._projection(lab.client(1))(probe))
    assert lab.method._projection(lab.client(2))(torch.eye(24)).shape == (24, 8)
    assert class_of("yes", 0) == class_of("yes", 0) != class_of("no", 0)
    assert class_of("yes", 0) != class_of("yes", 1)
    assert all(0 <= class_of(str(n), 0) == float(torch.tensor(float(class_of(str(n), 0)))) < 2**24 for n in range(99))


def test_no_weights_leave():
    lab = make()
    client = lab.client(0)
    upload = lab.train(client)
    assert set(upload.tensors) == {"prototypes", "classes", "counts"}
    assert lab.method.communicated is None
    drawn = {sample for samples in lab.stream(client).batches(1, 3, 4) for sample in samples}
    assert upload.tensors["counts"].sum() == len(drawn)
