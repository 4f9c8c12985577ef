"""FedDPA: halves of a round, and slots weighed by test instance."""

import pytest
import torch
import torch.nn.functional as F
from tests.methods.lab import Lab, distance, same, spied

HALF = {"shared": 0.5, "local": 0.5}


@pytest.mark.parametrize(("steps", "shared"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_the_first_half_trains_the_shared_slot_alone_and_the_second_the_local_one_inside_the_mean(steps, shared):
    """docs/method-facts.md#feddpa-switch: with an odd number of steps the published code never switches."""
    lab = Lab("feddpa", steps=steps)
    client = lab.client()
    start = {slot: client.snapshot(slot) for slot in ("shared", "local")}
    calls = spied(client, "step")
    lab.train(client)
    first, second = calls[:shared], calls[shared:]
    assert all(call["slots"] == ("shared",) and call["mix"] == "shared" for call in first)
    assert all(call["slots"] == ("local",) and call["mix"] == HALF for call in second)
    assert len(second) == steps - shared
    assert (distance(client.snapshot("local"), start["local"]) > 0) == bool(second)


def test_the_second_half_leaves_the_shared_slot_as_the_first_left_it():
    lab = Lab("feddpa", steps=6)
    client = lab.client()
    before = []
    step = client.step

    def watching(batch, *, slots, mix):
        step(batch, slots=slots, mix=mix)
        before.append(client.snapshot("shared"))

    client.step = watching
    lab.train(client)
    assert not same(before[1], before[2])
    assert same(before[2], client.snapshot("shared"))


def ready(**settings):
    lab = Lab("feddpa", settings, steps=4)
    client = lab.client()
    lab.train(client, lab.noise(client, "shared"))
    client.adapter.load_slot("local", lab.noise(client, "local", seed=1))
    client.memory["instances"] = client.embed(lab.batch(client).samples[:3], mix="local")
    return lab, client


def share_by_hand(client, sample):
    """0.5 * mean cosine of last hidden states with the local slot alone, one sample at a time."""
    ids = torch.tensor([[int(word) for word in sample.prompt.split()]])
    with torch.no_grad(), client.adapter.mixed({"local": 1.0}):
        asked = client.base.module.model(input_ids=ids).last_hidden_state[0, -1]
    cosines = [F.cosine_similarity(asked, known, dim=0) for known in client.memory["instances"]]
    return max(0.0, 0.5 * float(sum(cosines)) / len(cosines))


@pytest.mark.parametrize("answers", [True, False])
def test_answers_are_weighed_by_the_instance(answers):
    lab, client = ready()
    samples = lab.stream(client).tasks[0].train[10:15]
    with lab.method.answering(client) as model, torch.inference_mode():
        batch = model.collate(samples, with_answers=answers)
        found = model.hidden_states(batch)
    shares = [share_by_hand(client, sample) for sample in samples]
    assert len(set(shares)) > 3  # one is cut off at 0
    assert all(0 <= share <= 0.5 for share in shares)
    for row, (sample, share) in enumerate(zip(samples, shares, strict=True)):
        one = client.base.collate([sample], with_answers=answers)
        with torch.no_grad(), client.adapter.mixed({"local": share, "shared": 1 - share}):
            expected = client.base.hidden_states(one)[0]
        torch.testing.assert_close(found[row, : len(expected)], expected, atol=1e-4, rtol=1e-4)


def test_decoding_keeps_the_weight_of_the_prompt():
    lab, client = ready()
    samples = lab.stream(client).tasks[0].train[10:13]
    shares = []
    mixed = client.adapter.mixed_by_sample
    client.adapter.mixed_by_sample = lambda weights: (shares.append(weights["local"]), mixed(weights))[1]
    with lab.method.answering(client) as model:
        model.answer(samples, max_tokens=3)
    assert len(shares) > 1
    assert all(torch.equal(share, shares[0]) for share in shares)


def test_without_instance_weights_the_mean_answers():
    lab, client = ready(by_instance=False)
    assert lab.method.answers_by_mixing
    assert not Lab("feddpa").method.answers_by_mixing
    client.memory.clear()  # as of a client that has not trained yet
    batch = lab.batch(client)
    with lab.method.answering(client) as model:
        assert torch.equal(model.answer_logits(batch.inputs).logits, client.predict(batch, mix=HALF).logits)


def test_five_embeddings_stay_on_the_client_and_only_the_shared_slot_leaves():
    lab = Lab("feddpa")
    client = lab.client()
    upload = lab.train(client)
    assert client.memory["instances"].shape == (5, 16)
    assert "instances" in client.state().memory
    assert same(upload.tensors, client.snapshot("shared"))
    local = client.snapshot("local")
    lab.method.receive(client, lab.noise(client, "shared"))
    assert same(client.snapshot("local"), local)
