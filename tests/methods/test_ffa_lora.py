"""FFA-LoRA: A never moves, so that the mean of B is the mean of the updates."""

import pytest
import torch
from tests.methods.lab import Lab, same

from fedmosaic.config import resolve
from fedmosaic.errors import SettingsError
from fedmosaic.methods.uploads import Uploads


def of(tensors, letter):
    return {name: tensor for name, tensor in tensors.items() if name.endswith(f".{letter}")}


def test_a_stays_at_its_draw_and_only_b_is_sent():
    lab = Lab("ffa-lora")
    client = lab.client()
    start = client.snapshot("shared")
    upload = lab.train(client)
    after = client.snapshot("shared")
    assert same(of(after, "A"), of(start, "A"))
    assert all(tensor.any() for tensor in of(after, "B").values())
    assert same(upload.tensors, of(after, "B"))
    assert {name: tuple(tensor.shape) for name, tensor in upload.tensors.items()} == lab.method.upload_shapes(
        client.adapter
    )
    assert not any(name.endswith(".A") for name in client.optimiser.moments())


def test_the_mean_of_b_gives_the_mean_of_the_updates():
    lab = Lab("ffa-lora")
    clients = [lab.client(number) for number in range(3)]
    uploads = Uploads([lab.train(client) for client in clients])
    ended = [client.snapshot("shared") for client in clients]
    download = lab.method.aggregate(uploads, None).downloads[0]
    lab.method.receive(clients[0], download)
    held = clients[0].snapshot("shared")
    for name in of(held, "A"):
        up = name.removesuffix("A") + "B"
        mean = torch.stack([each[up] @ each[name] for each in ended]).mean(0)
        torch.testing.assert_close(held[up] @ held[name], mean)


def test_training_b_alone_costs_less():
    costs = {}
    for name in ("fedavg", "ffa-lora"):
        lab = Lab(name)
        client = lab.client()
        lab.train(client)
        costs[name] = client.meter.flops
    assert costs["ffa-lora"] < costs["fedavg"]


def test_clients_of_one_model_must_start_with_the_same_a():
    lab = Lab("ffa-lora")
    lab.method.check(lab.settings)
    scenario = lab.settings.scenario.model_dump(mode="json")
    scenario["clients"][1]["start"] = "/somewhere"
    settings = resolve(type(lab.settings.scenario).model_validate(scenario), method="ffa-lora")
    with pytest.raises(SettingsError, match=r"clients 0 and 1 .* A must be the same"):
        lab.method.check(settings)
