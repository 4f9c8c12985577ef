"""FedSA-LoRA: A and B are trained, A is averaged, B never leaves."""

import torch
from tests.methods.lab import Lab, same

from fedmosaic.methods.uploads import Upload, Uploads


def of(tensors, letter):
    return {name: tensor for name, tensor in tensors.items() if name.endswith(f".{letter}")}


def test_both_are_trained_and_only_a_is_sent():
    lab = Lab("fedsa-lora")
    client = lab.client()
    client.adapter.load_slot("shared", lab.noise(client, "shared"))
    start = client.snapshot("shared")
    upload = lab.train(client)
    after = client.snapshot("shared")
    assert all(not torch.equal(after[name], start[name]) for name in start)
    assert same(upload.tensors, of(after, "A"))
    allowed = {**lab.method.upload_shapes(client.adapter), **lab.method.download_shapes(client.adapter)}
    assert set(allowed) == set(of(after, "A"))


def test_a_download_changes_a_and_leaves_b_and_a_newcomer_keeps_its_zeros():
    lab = Lab("fedsa-lora")
    clients = [lab.client(number) for number in range(2)]
    uploads = Uploads([lab.train(client) for client in clients])
    own = [client.snapshot("shared") for client in clients]
    lab.method.receive(clients[0], lab.method.aggregate(uploads, None).downloads[0])
    held = clients[0].snapshot("shared")
    assert same(of(held, "B"), of(own[0], "B"))
    for name, tensor in of(held, "A").items():
        torch.testing.assert_close(tensor, (own[0][name] + own[1][name]) / 2)
    newcomer = lab.client(2)
    shapes = lab.method.upload_shapes(newcomer.adapter)
    lab.method.receive(newcomer, lab.method.initial_download("narrow", shapes, uploads))
    assert same(of(newcomer.snapshot("shared"), "A"), of(held, "A"))
    assert not any(tensor.any() for tensor in of(newcomer.snapshot("shared"), "B").values())


def test_architectures_do_not_mix():
    tensors = {"layer.0.q_proj.A": torch.ones(2, 3)}
    uploads = Uploads([Upload(0, "x", tensors), Upload(1, "y", {name: 3 * each for name, each in tensors.items()})])
    assert same(Lab("fedsa-lora").method.aggregate(uploads, None).downloads[0], tensors)
