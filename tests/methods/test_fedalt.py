"""FedALT: the rest of the world is everybody but oneself, frozen, and mixed in by the token."""

import pytest
import torch
from tests.methods.lab import Lab, same, spied

from fedmosaic.methods.uploads import Upload, Uploads

A, B = "layer.0.q_proj.A", "layer.0.q_proj.B"


def random_uploads(*architectures):
    torch.manual_seed(0)
    tensors = [{A: torch.randn(2, 5), B: torch.randn(3, 2)} for _ in architectures]
    return Uploads([Upload(i, name, tensors[i]) for i, name in enumerate(architectures)])


def test_the_rest_of_the_world_is_the_mean_of_the_others():
    uploads = random_uploads("x", "x", "y", "x")
    downloads = Lab("fedalt").method.aggregate(uploads, None).downloads
    for client, others in ((0, (1, 3)), (1, (0, 3)), (3, (0, 1))):
        for name in (A, B):
            torch.testing.assert_close(downloads[client][name], uploads.stack(name, others).mean(0))
    assert downloads[2] == {}


def test_a_newcomer_gets_the_mean_of_all_others():
    uploads = random_uploads("x", "x", "y")
    shapes = {name: tuple(tensor.shape) for name, tensor in uploads[0].tensors.items()}
    found = Lab("fedalt").method.initial_download("x", shapes, uploads)
    torch.testing.assert_close(found[A], uploads.stack(A, [0, 1]).mean(0))


def test_the_individual_lora_goes_on_and_the_rest_is_frozen():
    lab = Lab("fedalt")
    client = lab.client()
    own, received = lab.noise(client, "individual", 1), lab.noise(client, "individual", 2)
    client.adapter.load_slot("individual", own)
    calls = spied(client, "step")
    lab.method.receive(client, received)
    assert same(client.snapshot("individual"), own)
    upload = lab.train(client, received)
    assert same(client.snapshot("rest"), received)
    assert same(upload.tensors, client.snapshot("individual"))
    assert not same(upload.tensors, own)
    assert [(call["slots"], call["mix"], call["gate"]) for call in calls] == [(("individual",), "gate", True)] * 3
    assert all(tensor.any() for tensor in client.adapter.gate_tensors().values())


def test_the_mixer_is_a_softmax_over_both_by_the_tokens_input():
    lab = Lab("fedalt")
    client = lab.client()
    for slot in ("individual", "rest"):
        client.adapter.load_slot(slot, lab.noise(client, slot, len(slot)))
    adapted = client.adapter.linears()[0]
    linear, x = adapted.linear, torch.randn(5, adapted.target.in_features)
    rows = torch.randn(2, adapted.target.in_features)
    client.adapter.load_gate({**client.adapter.gate_tensors(), f"{adapted.target.by_layer}.w": rows[1] - rows[0]})
    weights = torch.softmax(x @ rows.T, -1)
    parts = [x @ linear.slot(slot)["A"].T @ linear.slot(slot)["B"].T for slot in ("individual", "rest")]
    expected = linear.base(x) + linear.scale * sum(weights[:, [i]] * part for i, part in enumerate(parts))
    with torch.no_grad(), client.adapter.mixed("gate"):
        torch.testing.assert_close(linear(x), expected.detach(), atol=1e-5, rtol=1e-4)


def test_at_the_start_both_weigh_the_same_and_the_rest_adds_nothing():
    lab = Lab("fedalt")
    client = lab.client()
    client.adapter.load_slot("individual", lab.noise(client, "individual"))
    batch = lab.batch(client)
    mixed, half = (client.predict(batch, mix=mix).logits for mix in ("gate", {"individual": 0.5}))
    assert mixed.detach().numpy() == pytest.approx(half.detach().numpy(), abs=1e-5)
