"""FedProx: the gradient of the penalised loss, about what was received."""

import pytest
import torch
from tests.methods.lab import Lab, distance, spied

from fedmosaic.methods.fedprox import FedProxSettings


def test_a_step_descends_on_the_loss_of_the_paper():
    """What the optimiser is given has the gradient of F(w) + mu / 2 ||w - w_t||², by autograd."""
    lab = Lab("fedprox", {"mu": 0.7}, steps=1)
    client = lab.client()
    received = lab.noise(client, "shared")
    calls, given = spied(client, "step"), []
    client.optimiser.step = given.append
    lab.train(client, received)
    away = lab.noise(client, "shared", seed=1)
    client.adapter.load_slot("shared", away)
    client.adapter.train(False)
    client.adapter.train_only("shared")
    batch, slot = lab.batch(client), client.adapter.parameters("shared")
    loss = client.loss(batch, mix="shared")
    plain = torch.autograd.grad(loss, list(slot.values()), retain_graph=True)
    written = loss + 0.7 / 2 * sum((tensor - received[name]).square().sum() for name, tensor in slot.items())
    expected = torch.autograd.grad(written, list(slot.values()))
    client.step(batch, slots=("shared",), mix="shared", penalty=calls[0]["penalty"])
    found = torch.autograd.grad(given[-1], list(slot.values()))
    for name, before, wanted, gradient in zip(slot, plain, expected, found, strict=True):
        torch.testing.assert_close(gradient, wanted)
        torch.testing.assert_close(gradient, before + 0.7 * (away[name] - received[name]))


@pytest.mark.slow
def test_without_a_pull_it_is_fedavg_and_a_strong_one_holds():
    ended = {}
    for name, settings in (("fedavg", {}), ("fedprox", {"mu": 0.0}), ("fedprox", {"mu": 100.0})):
        lab = Lab(name, settings, steps=10, max_grad_norm=0.0)
        client = lab.client()
        received = lab.noise(client, "shared")
        ended[name, settings.get("mu")] = distance(lab.train(client, received).tensors, received)
    assert ended["fedprox", 0.0] == ended["fedavg", None]
    assert ended["fedprox", 100.0] < 0.5 * ended["fedavg", None]


def test_the_default_is_one_of_the_papers():
    assert FedProxSettings().mu in (0.001, 0.01, 0.1, 1)
