"""Distillation on the server: how many public samples, the students' learning rate, and which weights are kept."""

import dataclasses

import pytest
import torch
from tests.methods.lab import Lab, distance, same

from fedmosaic.config import TrainingSettings
from fedmosaic.methods.ensemble_distillation import DistillationSettings, EnsembleDistiller
from fedmosaic.methods.uploads import Upload, Uploads


def distillation(steps=10, **settings):
    """Three clients of one architecture, of which the first's weights shall be learned from by the second's."""
    lab = Lab("feddistill", settings, steps=steps)
    clients = [lab.client(number) for number in range(3)]
    uploads = Uploads(Upload(c.id, c.base.architecture, lab.noise(c, "shared", c.id), 1, 1) for c in clients)
    server = lab.server()
    distiller = EnsembleDistiller(uploads, server, lab.method.settings, "shared")
    prediction = distiller.predictions("narrow", [uploads[0].tensors], temperature=1.0)
    return lab, server, distiller, uploads, [distiller.targets("narrow", [prediction], temperature=1.0)]


def held_out_loss(lab, samples, tensors):
    """Mean over samples of the mean over their answer tokens, without the distiller; batches count by their samples."""
    model = lab.client()
    model.adapter.load_slot("shared", tensors)
    with torch.no_grad(), model.adapter.mixed({"shared": 1.0}):
        answers = model.base.answer_logits(model.base.collate(samples))
    return float(torch.nn.functional.cross_entropy(answers.logits, answers.targets))


@pytest.mark.parametrize(("steps", "size", "count"), [(100, 4, 80), (20, 8, 32), (4, 8, 6), (1, 1, 1)])
def test_public_samples_are_a_fifth_of_what_a_client_trains_on(steps, size, count):
    training = TrainingSettings(steps=steps, batch_size=size)
    assert DistillationSettings().public_count(training) == count
    assert DistillationSettings(public_samples=7).public_count(training) == 7


@pytest.mark.slow
def test_what_is_held_out_is_a_quarter_as_much_and_not_learned_from():
    _, _, distiller, _, _ = distillation(steps=40)
    learned = {sample for batch in distiller.batches["narrow"] for sample in batch.samples}
    held_out = {sample for batch in distiller._held_out["narrow"] for sample in batch.samples}
    assert (len(learned), len(held_out)) == (32, 8)
    assert not learned & held_out


def test_the_weights_are_kept_that_answer_what_is_held_out_best(monkeypatch):
    lab, _, distiller, uploads, goals = distillation()
    samples = [sample for batch in distiller._held_out["narrow"] for sample in batch.samples]
    candidates = [upload.tensors for upload in uploads.values()]
    losses = [held_out_loss(lab, samples, tensors) for tensors in candidates]
    assert len(set(losses)) == 3
    assert same(distiller.best("narrow", candidates), candidates[losses.index(min(losses))])
    ways = []
    monkeypatch.setattr(distiller, "best", lambda architecture, way: ways.append(way) or way[-1])
    distiller.learn("narrow", candidates[1], goals)
    assert len(ways[0]) == 3  # at the start, half-way and at the end
    assert same(ways[0][0], candidates[1])
    assert 0 < distance(ways[0][1], candidates[1]) < distance(ways[0][2], candidates[1])


def test_a_student_that_only_gets_worse_stays_as_it_was():
    lab, _, distiller, _, goals = distillation(server_rate=100.0)  # steps that can only destroy
    start = lab.client().snapshot("shared")
    padding = [torch.zeros_like(each) for each in goals[0].probabilities]
    for each in padding:
        each[:, 0] = 1.0  # no answer has it
    wrong = [dataclasses.replace(goals[0], probabilities=padding)]
    assert same(distiller.learn("narrow", start, wrong), start)


@pytest.mark.slow
def test_students_learn_at_their_own_rate_which_decays_within_a_pass(keep_last):
    lab, server, distiller, uploads, goals = distillation(server_rate=0.01, steps=20)
    batches, rate = len(distiller.batches["narrow"]), 0.01 * lab.settings.training.learning_rate
    assert batches == 4
    learned = distiller.learn("narrow", uploads[1].tensors, goals)
    moved = max(float((learned[name] - tensor).abs().max()) for name, tensor in uploads[1].tensors.items())
    assert rate < moved <= rate * (1 + 3 / 4 + 2 / 4 + 1 / 4) * 1.01  # AdamW's steps are one rate each at most
    assert server.trainees[-1].optimiser._adamw.param_groups[0]["lr"] == pytest.approx(rate)
