"""FedDAT: a frozen copy, a dual-adapter teacher, and three passes for two steps."""

import pytest
import torch
import torch.nn.functional as F
from tests.methods.lab import Lab, distance, same, spied

from fedmosaic.training.losses import distillation

DAT = {"local": 0.5, "received": 0.5}


def ready():
    lab = Lab("feddat")
    client = lab.client()
    lab.method.receive(client, lab.noise(client, "shared"))
    client.adapter.load_slot("local", lab.noise(client, "local", seed=1))
    client.adapter.load_slot("shared", lab.noise(client, "shared", seed=2))
    return lab, client


def test_distillation_is_the_kl_divergence_of_softened_probabilities_times_t_squared():
    torch.manual_seed(0)
    teacher, student = torch.randn(5, 7), torch.randn(5, 7)
    wanted, given = torch.softmax(teacher / 3, 1), torch.softmax(student / 3, 1)
    expected = 9 * (wanted * (wanted / given).log()).sum(1).mean()
    torch.testing.assert_close(distillation(teacher, student, 3.0), expected)
    assert distillation(student, student, 2.0).abs() < 1e-6
    assert not distillation(teacher.requires_grad_(), student, 3.0).requires_grad


def test_the_losses_are_those_of_the_paper_with_both_targets_from_before_the_steps():
    lab, client = ready()
    batch, logits, losses = lab.batch(client), {}, []
    for name, mix in (("shared", {"shared": 1.0}), ("dat", DAT)):
        with torch.no_grad(), client.adapter.mixed(mix):
            answers = client.base.answer_logits(batch.inputs)
        logits[name], targets = answers.logits, answers.targets
    soft = {name: torch.softmax(each / 3, 1) for name, each in logits.items()}
    expected = []
    for student, teacher in (("shared", "dat"), ("dat", "shared")):
        divergence = (soft[teacher] * (soft[teacher] / soft[student]).log()).sum(1).mean()
        expected.append(float((F.cross_entropy(logits[student], targets) + 9 * divergence) / 2))
    original = client.descend

    def recording(objective, batch, **kwargs):
        original(lambda: losses.append(objective()) or losses[-1], batch, **kwargs)

    client.descend, client.batches = recording, lambda budget: [batch]
    lab.method.train(client, client.budget())
    assert [loss.item() for loss in losses] == pytest.approx(expected, rel=1e-5)


def test_a_batch_takes_three_passes_and_the_dat_as_teacher_has_no_dropout_and_no_gradient():
    lab, client = ready()
    batch = lab.batch(client)
    answers, predictions = spied(client, "answers"), []
    predict = client.predict
    client.predict = lambda batch, *, mix: (predictions.append(predict(batch, mix=mix)), predictions[-1])[1]
    client.batches = lambda budget: [batch]
    before = predict(batch, mix=DAT).logits
    client.timed(lambda each: lab.method.train(each, each.budget()))
    assert [call["mix"] for call in answers[1:]] == [DAT, "shared", DAT]
    assert [torch.equal(each.logits, before) for each in predictions] == [True]
    assert not predictions[0].logits.requires_grad


def test_each_batch_trains_the_shared_slot_then_the_local_one_and_the_copy_stays():
    lab = Lab("feddat")
    client = lab.client()
    received = lab.noise(client, "shared")
    calls = spied(client, "descend")
    lab.train(client, received)
    assert [call["slots"] for call in calls] == [("shared",), ("local",)] * 3
    assert same(client.snapshot("received"), received)
    assert distance(client.snapshot("shared"), received) > 0


def test_the_first_round_copies_the_common_start_and_the_dat_answers():
    lab = Lab("feddat")
    client = lab.client()
    start = client.snapshot("shared")
    upload = lab.train(client)
    assert same(client.snapshot("received"), start)
    assert same(upload.tensors, client.snapshot("shared"))
    batch = lab.batch(client)
    with lab.method.answering(client) as model:
        assert torch.equal(model.answer_logits(batch.inputs).logits, client.predict(batch, mix=DAT).logits)


def test_a_later_download_is_kept_through_the_first_step():
    lab = Lab("feddat")
    first = lab.client()
    lab.train(first)
    received = lab.noise(first, "shared")
    own, local = first.snapshot("shared"), first.snapshot("local")
    client = lab.client(round_=2, state=first.state())
    lab.method.receive(client, received)
    assert same(client.snapshot("received"), received)
    assert same(client.snapshot("local"), local)
    client.step(lab.batch(client), slots=("shared",), mix="shared")
    assert distance(client.snapshot("shared"), received) < distance(client.snapshot("shared"), own) / 5
