"""Ditto against its equations, on tiny clients."""

import pytest
import torch
from tests.methods.lab import Lab, distance, same, spied

from fedmosaic.methods import ditto
from fedmosaic.training import proximal


def test_each_batch_gives_one_step_of_each_slot_and_the_personal_one_answers():
    lab = Lab("ditto")
    client = lab.client()
    calls = spied(client, "step")
    lab.train(client)
    assert [call["slots"] for call in calls] == [("shared",), ("personal",)] * 3
    assert [call["mix"] for call in calls] == ["shared", "personal"] * 3
    with lab.method.answering(client) as model:
        assert model is client.base
        batch = lab.batch(client)
        assert torch.equal(model.answer_logits(batch.inputs).logits, client.predict(batch, mix="personal").logits)


def test_the_pull_has_the_gradient_of_the_paper_and_its_centre_is_what_was_received():
    """The gradient of the penalty is lambda (v - w_t), with w_t fixed while the shared slot trains on."""
    lab = Lab("ditto", {"pull": 0.7})
    client = lab.client()
    received = lab.noise(client, "shared")
    calls = spied(client, "step")
    lab.train(client, received)
    penalties = [call["penalty"] for call in calls if call["slots"] == ("personal",)]
    assert distance(client.snapshot("shared"), received) > 0
    client.adapter.train_only("personal")
    for penalty in penalties:
        slot = client.adapter.parameters("personal")
        gradients = torch.autograd.grad(penalty(client.adapter), list(slot.values()))
        for (name, value), gradient in zip(slot.items(), gradients, strict=True):
            torch.testing.assert_close(gradient, 0.7 * (value - received[name]))


@pytest.mark.slow
def test_what_was_received_survives_the_first_step_and_training_moves_on_from_there():
    """docs/method-facts.md#optimiser-restore-undoes-the-download."""
    lab = Lab("ditto")
    first = lab.client()
    lab.train(first)
    own, state = first.snapshot("shared"), first.state()
    received = lab.noise(first, "shared")
    client = lab.client(round_=2, state=state)
    lab.method.receive(client, received)
    client.adapter.train()
    for batch in list(client.batches(client.budget()))[:1]:
        client.step(batch, slots=("shared",), mix="shared")
    assert 0 < distance(client.snapshot("shared"), received) < distance(client.snapshot("shared"), own) / 5
    again = lab.client(round_=2, state=state)
    lab.train(again, received)
    alone = lab.client(round_=2, state=state)
    lab.train(alone)
    assert not same(again.snapshot("shared"), alone.snapshot("shared"))
    assert distance(again.snapshot("shared"), received) < distance(again.snapshot("shared"), own)


def test_the_two_slots_have_moments_of_their_own():
    """What does not train is not moved by old momentum, so without personal steps v stays."""
    lab = Lab("ditto")
    client = lab.client()
    lab.train(client)
    personal = client.snapshot("personal")
    client.step(lab.batch(client), slots=("shared",), mix="shared")
    assert same(client.snapshot("personal"), personal)


def test_only_the_shared_slot_leaves_the_client_and_a_download_does_not_touch_the_personal_one():
    """docs/method-facts.md#personal-adapters-are-averaged."""
    lab = Lab("ditto")
    client = lab.client()
    upload = lab.train(client)
    assert same(upload.tensors, client.snapshot("shared"))
    assert not same(upload.tensors, client.snapshot("personal"))
    personal = client.snapshot("personal")
    lab.method.receive(client, lab.noise(client, "shared"))
    assert same(client.snapshot("personal"), personal)


@pytest.mark.slow
def test_a_strong_pull_keeps_the_personal_slot_at_the_received_weights():
    found = {}
    for pull in (0.0, 100.0):
        lab = Lab("ditto", {"pull": pull}, steps=20, max_grad_norm=0.0)
        client = lab.client()
        received = client.snapshot("shared")
        lab.train(client, received)
        found[pull] = distance(client.snapshot("personal"), received)
    assert found[100.0] < 0.5 * found[0.0]


def test_the_default_is_the_papers():
    assert ditto.DittoSettings().pull == 0.1
    client = Lab("ditto").client()
    centre = client.snapshot("shared")
    assert proximal("shared", centre, 3.0)(client.adapter) == 0
