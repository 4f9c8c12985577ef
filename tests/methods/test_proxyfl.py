"""ProxyFL: mutual distillation between a private slot and a proxy, of which only the proxy is sent."""

import pytest
import torch
from tests.methods.lab import Lab, same
from torch import nn

from fedmosaic.methods.proxyfl import ProxyFlSettings


def ready(settings=None):
    lab = Lab("proxyfl", settings)
    client = lab.client()
    for seed, slot in enumerate(("private", "proxy")):
        client.adapter.load_slot(slot, lab.noise(client, slot, seed))
    client.adapter.train(False)  # no dropout, so that passes can be compared
    return lab, client, lab.batch(client)


def test_both_gradients_are_those_of_the_authors_losses():
    """CE and KLDivLoss of torch, each with the other's predictions detached."""
    lab, client, batch = ready({"alpha": 0.3, "beta": 0.6})
    given = []
    client.optimiser.step = given.append
    client.batches = lambda budget: [batch]
    lab.method.train(client, client.budget())
    slots = {slot: list(client.adapter.parameters(slot).values()) for slot in ("private", "proxy")}
    found = torch.autograd.grad(given[0], slots["private"] + slots["proxy"])
    private, proxy = client.answers(batch, mix="private"), client.answers(batch, mix="proxy")
    kl = nn.KLDivLoss(reduction="batchmean")
    expected = []
    for student, teacher, share, slot in ((private, proxy, 0.3, "private"), (proxy, private, 0.6, "proxy")):
        hard = nn.functional.cross_entropy(student.logits, student.targets)
        soft = kl(student.logits.log_softmax(-1), teacher.logits.detach().softmax(-1))
        expected += torch.autograd.grad((1 - share) * hard + share * soft, slots[slot])
    for gradient, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-4)


def test_two_passes_train_both_slots_on_every_batch():
    lab, client, batch = ready()
    before = {slot: client.snapshot(slot) for slot in ("private", "proxy")}
    mixes, answers = [], client.answers
    client.answers = lambda batch, *, mix: (mixes.append(mix), answers(batch, mix=mix))[1]
    client.batches = lambda budget: [batch]
    lab.method.train(client, client.budget())
    assert sorted(mixes) == ["private", "proxy"]
    assert all(not same(client.snapshot(slot), before[slot]) for slot in before)


def test_only_the_proxy_leaves_and_is_received_and_the_private_slot_answers():
    lab, client, batch = ready()
    upload = lab.train(client)
    assert same(upload.tensors, client.snapshot("proxy"))
    private, received = client.snapshot("private"), lab.noise(client, "proxy", 9)
    lab.method.receive(client, received)
    assert same(client.snapshot("private"), private)
    assert same(client.snapshot("proxy"), received)
    with lab.method.answering(client) as model, torch.no_grad():
        answers = model.answer_logits(batch.inputs).logits
    assert answers.numpy() == pytest.approx(client.predict(batch, mix="private").logits.numpy(), abs=1e-5)


def test_the_defaults_are_the_papers():
    assert (ProxyFlSettings().alpha, ProxyFlSettings().beta) == (0.5, 0.5)
