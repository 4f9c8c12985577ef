"""FedSim: one joint step on summed logits, and answers by summed logits."""

import pytest
import torch
import torch.nn.functional as F
from tests.methods.lab import Lab, distance, same, spied

from fedmosaic.errors import ModelError
from fedmosaic.federation import ClientRuntime
from fedmosaic.federation.final_model import final_model


def trained():
    lab = Lab("fedsim")
    client = lab.client()
    for seed, slot in enumerate(("shared", "personal")):
        client.adapter.load_slot(slot, lab.noise(client, slot, seed))
    return lab, client


def logits_of(client, batch, slot):
    """By hand, from the transformers model itself."""
    with torch.no_grad(), client.adapter.mixed({slot: 1.0}):
        return client.base.module(input_ids=batch.inputs.input_ids, attention_mask=batch.inputs.attention_mask).logits


def test_the_loss_is_the_cross_entropy_of_the_summed_logits():
    lab, client = trained()
    batch = lab.batch(client)
    total = logits_of(client, batch, "shared") + logits_of(client, batch, "personal")
    labels = batch.inputs.labels[:, 1:]
    expected = F.cross_entropy(total[:, :-1][labels != -100], labels[labels != -100])
    torch.testing.assert_close(lab.method._loss(client, batch), expected)


def test_both_slots_take_one_joint_step_per_batch():
    lab, client = trained()
    before = {slot: client.snapshot(slot) for slot in ("shared", "personal")}
    calls = spied(client, "descend")
    lab.train(client, before["shared"])
    assert [call["slots"] for call in calls] == [("shared", "personal")] * 3
    assert client.meter.steps == 3
    for slot, old in before.items():
        assert distance(client.snapshot(slot), old) > 0


def test_answers_are_by_summed_logits():
    lab, client = trained()
    batch = lab.batch(client)
    total = logits_of(client, batch, "shared") + logits_of(client, batch, "personal")
    with lab.method.answering(client) as model, torch.no_grad():
        torch.testing.assert_close(model.head(model.hidden_states(batch.inputs)), total)
        prompts = client.base.collate(batch.samples, with_answers=False)
        halves = model.hidden_states(prompts)[torch.arange(len(batch.samples)), prompts.last].chunk(2, -1)
        first = (client.base.head(halves[0]) + client.base.head(halves[1])).argmax(-1)
        expected = ["" if token == 1 else str(int(token)) for token in first]
        assert model.answer(batch.samples, max_tokens=1) == expected


def test_two_passes_are_no_adapter_to_export(tmp_path):
    with pytest.raises(ModelError, match="FedSim answers with more than one pass"):
        final_model(ClientRuntime(Lab("fedsim").assets(), tmp_path), 0)
    assert Lab("ditto").method.answers_by_mixing


def test_only_the_shared_slot_leaves_the_client_and_a_download_lands_there_only():
    lab, client = trained()
    personal = client.snapshot("personal")
    received = lab.noise(client, "shared", seed=9)
    lab.method.receive(client, received)
    assert same(client.snapshot("shared"), received)
    assert same(client.snapshot("personal"), personal)
    upload = lab.train(client)
    assert same(upload.tensors, client.snapshot("shared"))
