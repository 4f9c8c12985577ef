"""What each method makes of a download that it does not train on."""

import pytest
import torch
from tests.methods.every import marked
from tests.methods.lab import Lab, same

from fedmosaic.methods.registry import method_classes
from fedmosaic.methods.uploads import Uploads
from fedmosaic.models.product_of_experts import ProductOfExperts

CHANGED = {
    "fed-sb", "fedalt", "fedavg", "feddat", "feddistill", "feddpa", "fedmosaic", "fedmosaic-proxy", "fedprox",
    "fedsa-lora", "fedsim", "ffa-lora", "flexlora", "flora", "hetlora", "nefl", "takfl",
}  # fmt: skip
UNCHANGED = {"ditto", "fedmkt", "fedproto", "hetero-ssfl", "perada", "proxyfl", "sft"}
OWN = ("local", "personal")
"""Slots that nobody else has a part in."""


def answers(lab, client):
    batch = lab.batch(client)
    with lab.method.answering(client) as model, torch.inference_mode():
        experts = (model.inner, model.second) if isinstance(model, ProductOfExperts) else (model,)
        return torch.cat([each.answer_logits(each.collate(batch.samples)).logits.flatten() for each in experts])


@pytest.mark.slow
@pytest.mark.parametrize("name", marked(CHANGED | UNCHANGED))
def test_answers_change_where_the_method_says_so_and_what_is_private_stays(name):
    lab = Lab(name)
    clients = [lab.client(number) for number in (0, 1, 2)]
    uploads = Uploads([lab.train(client) for client in clients])
    download = lab.server().aggregate(uploads, {}, 2).downloads.get(0, {})
    me, names = clients[0], [slot.name for slot in lab.method.slots]
    before, own = answers(lab, me), {slot: me.snapshot(slot) for slot in OWN if slot in names}
    lab.method.receive_final(me, download)
    assert torch.equal(answers(lab, me), before) == (name in UNCHANGED)
    assert lab.method.exchange_changes_answers == (name in CHANGED)
    assert all(same(me.snapshot(slot), tensors) for slot, tensors in own.items())


def test_every_method_of_this_package_is_here():
    own = {name for name, kind in method_classes().items() if kind.__module__.startswith("fedmosaic.")}
    assert own == CHANGED | UNCHANGED


def test_fedavg_answers_with_the_mean():
    lab = Lab("fedavg")
    clients = [lab.client(number) for number in (0, 1, 2)]
    uploads = [lab.train(client) for client in clients]
    download = lab.method.aggregate(Uploads(uploads), lab.server()).downloads[1]
    lab.method.receive_final(clients[1], download)
    for name, tensor in clients[1].snapshot("shared").items():
        torch.testing.assert_close(tensor, torch.stack([upload.tensors[name] for upload in uploads]).mean(0))


@pytest.mark.parametrize("restart", [0.0, 0.5])
def test_fedmosaic_answers_with_its_local_slot_and_the_fresh_mixture(restart):
    """L does not move towards G, as at the start of a round; what is not received is a copy of L, as it is there."""
    lab = Lab("fedmosaic", {"restart": restart})
    client = lab.client()
    lab.train(client)
    own, gates = client.snapshot("local"), client.adapter.gate_tensors()
    fresh = lab.noise(client, "local")
    left_out = sorted(fresh)[0]
    received = {name: tensor for name, tensor in fresh.items() if name != left_out}
    lab.method.receive_final(client, received)
    assert same(client.snapshot("local"), own)
    assert same(client.snapshot("personal_global"), {**received, left_out: own[left_out]})
    assert same(client.adapter.gate_tensors(), gates)


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"share": 0.0}, False),
        ({"share": 0.75}, True),
        ({"gate": False}, True),
        ({"share": 0.0, "answers": "familiarity"}, True),
    ],
)
def test_fedmosaic_without_any_part_of_the_mixture_answers_as_before(settings, changed):
    assert Lab("fedmosaic", settings).method.exchange_changes_answers is changed


def test_feddat_answers_with_the_received_adapter_and_its_own():
    lab = Lab("feddat")
    client = lab.client()
    lab.train(client)
    own, received = client.snapshot("local"), lab.noise(client, "shared")
    lab.method.receive_final(client, received)
    assert same(client.snapshot("received"), received)
    assert same(client.snapshot("local"), own)


def test_feddpa_weighs_instances_as_before():
    """The weights come from the local slot alone, which the exchange does not touch."""
    lab = Lab("feddpa")
    client = lab.client()
    lab.train(client)
    samples = lab.batch(client).samples
    before = lab.method._weights(client, samples)
    lab.method.receive_final(client, lab.noise(client, "shared"))
    assert same(lab.method._weights(client, samples), before)


@pytest.mark.parametrize("name", ["hetlora", "flexlora"])
def test_ranks_of_a_download_are_the_clients_own(name):
    lab = Lab(name, {"ranks": [2, 4, 4]})
    clients = [lab.client(number) for number in (0, 1, 2)]
    uploads = Uploads([lab.train(client) for client in clients])
    download = lab.method.aggregate(uploads, lab.server()).downloads[0]
    lab.method.receive_final(clients[0], download)
    for tensor_name, tensor in clients[0].snapshot("shared").items():
        beyond = tensor[2:] if tensor_name.endswith(".A") else tensor[:, 2:]
        assert not beyond.any()
