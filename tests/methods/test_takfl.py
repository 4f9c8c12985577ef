"""TAKFL: task vectors that are not zero, each from the mean anew; lam is chosen, and lam = 0 is FedAvg."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.methods.lab import Lab, distance, same
from torch.testing import assert_close

from fedmosaic.methods.base import mean_within_architecture
from fedmosaic.methods.ensemble_distillation import EnsembleDistiller
from fedmosaic.methods.takfl import mixtures
from fedmosaic.methods.uploads import Upload, Uploads
from fedmosaic.training.distillation import divergence

MODELS = ("narrow", "narrow", "foreign")


def make(**settings):
    return Lab("takfl", {"public_samples": 8, "server_rate": 0.1, **settings}, models=MODELS)


def noisy(lab):
    clients = [lab.client(number) for number in range(len(MODELS))]
    return Uploads(Upload(c.id, c.base.architecture, lab.noise(c, "shared", c.id), 1, 1) for c in clients)


def shifts(lab, uploads):
    """What is added to each client's mean."""
    downloads, means = lab.method.aggregate(uploads, lab.server()).downloads, mean_within_architecture(uploads)
    return {c: {name: downloads[c][name] - mean for name, mean in means[c].items()} for c in downloads}


def test_lam_zero_is_fedavg():
    lab = make(lam=0.0)
    uploads = noisy(lab)
    for client, shift in shifts(lab, uploads).items():
        assert all(not tensor.any() for tensor in shift.values()), client


def task_vector(lab, batches, goal, mean):
    """tau_j by another loop: a student of its own, which starts from the mean and has a tenth of the clients' rate."""
    student = lab.server().trainee(0, rate=0.1)
    student.adapter.load_slot("shared", mean)
    own = [(student.predict(batch, mix="shared").logits / 20).softmax(-1) for batch in batches]
    for index, batch in enumerate(batches):

        def objective(index=index, batch=batch):
            logits = student.answers(batch, mix="shared").logits
            teacher = divergence(logits, goal.probabilities[index], goal.weights[index], 3.0)
            keep = torch.nn.functional.kl_div((logits / 20).log_softmax(-1), own[index], reduction="batchmean")
            return teacher + 0.01 * 400 * keep

        student.optimiser.scale_rates(1 - index / len(batches))
        student.descend(objective, batch, slots=("shared",))
    return {name: tensor - mean[name] for name, tensor in student.snapshot("shared").items()}


@pytest.mark.slow
def test_the_shift_is_lam_times_the_sum_of_one_task_vector_per_group_each_from_theta_avg(keep_last):
    lab = make(lam=0.4)
    uploads = noisy(lab)
    found = shifts(lab, uploads)
    distiller = EnsembleDistiller(uploads, lab.server(), lab.method.settings, "shared")
    mean = mean_within_architecture(uploads)[0]
    vectors = [
        task_vector(lab, distiller.batches["narrow"], distiller.targets("narrow", [prediction], temperature=3.0), mean)
        for prediction in distiller.predictions_by_architecture(temperature=3.0, mean_of="logits").values()
    ]
    zero = {name: torch.zeros_like(tensor) for name, tensor in mean.items()}
    assert len(vectors) == 2
    assert all(distance(vector, zero) > 0.01 for vector in vectors)
    assert distance(*vectors) > 0.01
    expected = {name: 0.4 * (vectors[0][name] + vectors[1][name]) for name in mean}
    assert_close(found[0], expected, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_without_lam_the_mixture_that_answers_held_out_samples_best_is_chosen(monkeypatch):
    lab, seen = make(), []
    original = EnsembleDistiller.best

    def best(self, architecture, candidates):
        chosen = original(self, architecture, candidates)
        seen.append((architecture, candidates, chosen))
        return chosen

    monkeypatch.setattr(EnsembleDistiller, "best", best)
    uploads = noisy(lab)
    downloads = lab.method.aggregate(uploads, lab.server()).downloads
    choices = [each for each in seen if len(each[1]) > 3]  # the others are a student's way
    assert [architecture for architecture, _, _ in choices] == ["narrow", "foreign"]
    for client, (_, candidates, chosen) in zip((0, 2), choices, strict=True):
        assert len(candidates) == len(mixtures(2))
        assert same(downloads[client], chosen)


@given(groups=st.integers(1, 20))
def test_mixtures_are_the_finest_lattice_of_few_points_with_sum_one_and_hold_the_middle(groups):
    points = mixtures(groups)
    assert len(set(points)) == len(points) <= max(16, groups + 1)
    assert (1 / groups,) * groups in points
    assert all(sum(point) == pytest.approx(1) and min(point) >= 0 for point in points)
    corners = [tuple(float(i == j) for i in range(groups)) for j in range(groups)]
    assert set(corners) <= set(points)
    if groups == 3:
        quarters = {point for point in itertools.product((0, 0.25, 0.5, 0.75, 1), repeat=3) if sum(point) == 1}
        assert set(points) == {*quarters, (1 / 3,) * 3}


@pytest.mark.slow
def test_the_shift_is_linear_in_lam(keep_last):
    half, full = make(lam=0.5), make(lam=1.0)
    uploads = noisy(half)
    one, two = shifts(half, uploads), shifts(full, uploads)
    for client in one:
        for name in one[client]:
            assert_close(2 * one[client][name], two[client][name], atol=1e-5, rtol=1e-4)
    assert all(distance(two[c], one[c]) > 1e-3 for c in one)


def test_clients_train_the_communicated_slot():
    lab = make()
    client = lab.client(0)
    before = client.snapshot("shared")
    upload = lab.train(client)
    assert distance(upload.tensors, before) > 0
