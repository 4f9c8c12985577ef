"""Fed-SB: R in every layer between frozen bases, averaged exactly."""

import pytest
import torch
from tests.methods.lab import Lab, same

from fedmosaic.adapters import CoLoraLinear
from fedmosaic.methods.uploads import Uploads


def of(tensors, letter):
    return {name: tensor for name, tensor in tensors.items() if name.endswith(f".{letter}")}


def test_every_linear_of_every_layer_has_an_r_between_orthonormal_bases_that_stay():
    lab = Lab("fed-sb")
    client = lab.client()
    linears = client.adapter.linears()
    assert all(isinstance(adapted.linear, CoLoraLinear) for adapted in linears)
    assert {adapted.target.layer for adapted in linears} == {0, 1, 2}
    bases = client.adapter.colora_shared()
    upload = lab.train(client)
    assert same(client.adapter.colora_shared(), bases)
    assert not any(tensor.any() for tensor in of(client.snapshot("shared"), "Q").values())
    assert same(upload.tensors, of(client.snapshot("shared"), "P"))
    assert len(upload.tensors) == len(linears)
    assert all(tensor.any() for tensor in upload.tensors.values())


def test_the_mean_of_r_gives_the_mean_of_the_updates():
    lab = Lab("fed-sb")
    clients = [lab.client(number) for number in range(3)]
    uploads = Uploads([lab.train(client) for client in clients])

    def updates(client):
        with client.adapter.mixed("shared"):
            return [adapted.linear.folded().change for adapted in client.adapter.linears()]

    means = [torch.stack(each).mean(0) for each in zip(*map(updates, clients), strict=True)]
    lab.method.receive(clients[0], lab.method.aggregate(uploads, None).downloads[0])
    for found, mean in zip(updates(clients[0]), means, strict=True):
        torch.testing.assert_close(found, mean, atol=1e-6, rtol=1e-4)


def test_r_of_another_architecture_is_not_mixed_in_not_even_for_a_newcomer():
    """They have the same names and shapes there."""
    lab = Lab("fed-sb", models=("narrow", "wide", "narrow"))
    clients = [lab.client(number) for number in range(3)]
    uploads = Uploads([lab.train(client) for client in clients[:2]])
    assert uploads[0].tensors.keys() == uploads[1].tensors.keys()
    assert same(lab.method.aggregate(uploads, None).downloads[0], uploads[0].tensors)
    shapes = lab.method.upload_shapes(clients[2].adapter)
    assert same(lab.method.initial_download("narrow", shapes, uploads), uploads[0].tensors)


@pytest.mark.parametrize(("rank", "expected"), [(None, 4), (6, 6)])
def test_the_rank_is_a_setting_and_the_scale_does_not_depend_on_it(rank, expected):
    lab = Lab("fed-sb", {"rank": rank})
    adapter = lab.client().adapter
    assert adapter.shape.rank == expected
    assert {adapted.linear.scale for adapted in adapter.linears()} == {2.0}
