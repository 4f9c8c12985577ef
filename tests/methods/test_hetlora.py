"""HETLoRA: truncation, zero padding, weights by ||BA||, tail penalty and pruning."""

import pytest
import torch
from tests.methods.lab import Lab, distance, same

from fedmosaic.errors import SettingsError, WireError
from fedmosaic.methods.hetlora import product_norm, tail
from fedmosaic.methods.ranks import padded, truncated
from fedmosaic.methods.registry import make_method
from fedmosaic.methods.uploads import Upload, Uploads

A, B = "layer.0.q_proj.A", "layer.0.q_proj.B"


def upload(client, down, up, architecture="x"):
    return Upload(client, architecture, {A: torch.tensor(down), B: torch.tensor(up)})


def test_the_server_pads_weighs_by_the_norm_of_the_product_and_truncates():
    # ||B A||_F is 6 for client 0 (rank 1) and 2 for client 1 (rank 2): weights 3/4 and 1/4
    one = upload(0, [[3.0, 0.0]], [[2.0], [0.0]])
    two = upload(1, [[0.0, 0.0], [0.0, 1.0]], [[4.0, 0.0], [8.0, 2.0]])
    other = upload(2, [[9.0, 9.0]], [[9.0], [9.0]], architecture="y")
    downloads = make_method("hetlora", {}).aggregate(Uploads([one, two, other]), None).downloads
    torch.testing.assert_close(downloads[1][A], torch.tensor([[2.25, 0.0], [0.0, 0.25]]))
    torch.testing.assert_close(downloads[1][B], torch.tensor([[2.5, 0.0], [2.0, 0.5]]))
    torch.testing.assert_close(downloads[0][A], torch.tensor([[2.25, 0.0]]))
    torch.testing.assert_close(downloads[0][B], torch.tensor([[2.5], [2.0]]))
    assert same(downloads[2], other.tensors)


def test_before_anything_is_learned_the_weights_are_equal():
    uploads = Uploads([upload(0, [[3.0, 0.0]], [[0.0], [0.0]]), upload(1, [[1.0, 2.0]], [[0.0], [0.0]])])
    downloads = make_method("hetlora", {}).aggregate(uploads, None).downloads
    torch.testing.assert_close(downloads[0][A], torch.tensor([[2.0, 1.0]]))


def test_a_pair_of_two_ranks_is_refused():
    bad = upload(4, [[3.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]])
    with pytest.raises(WireError, match=r"client 4 .* rank 1 with a B of rank 2"):
        make_method("hetlora", {}).check_upload(bad)
    half = Upload(4, "one", {B: torch.ones(2, 1)})
    with pytest.raises(WireError, match=r"client 4 .* no A with a B of rank 1"):
        make_method("hetlora", {}).check_upload(half)


def test_a_newcomer_gets_each_element_from_those_who_have_it():
    uploads = Uploads(
        [upload(0, [[3.0, 0.0]], [[2.0], [0.0]]), upload(1, [[1.0, 2.0], [5.0, 6.0]], [[4.0, 7.0], [0.0, 8.0]])]
    )
    start = make_method("hetlora", {}).initial_download("x", {A: (4, 2), B: (2, 4)}, uploads)
    torch.testing.assert_close(start[A], torch.tensor([[2.0, 1.0], [5.0, 6.0]]))
    torch.testing.assert_close(start[B], torch.tensor([[3.0, 7.0], [0.0, 8.0]]))
    assert make_method("hetlora", {}).initial_download("y", {A: (4, 2), B: (2, 4)}, uploads) == {}


def test_the_norm_of_a_product_needs_no_large_product():
    torch.manual_seed(0)
    down, up = torch.randn(3, 7), torch.randn(5, 3)
    torch.testing.assert_close(product_norm(down, up), (up @ down).norm())


def test_truncation_and_padding_are_inverse_on_the_prefix():
    full = {A: torch.arange(6.0).view(3, 2), B: torch.arange(6.0).view(2, 3)}
    cut = truncated(full, 2)
    assert torch.equal(cut[A], torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    assert torch.equal(cut[B], torch.tensor([[0.0, 1.0], [3.0, 4.0]]))
    again = padded(cut, {A: (3, 2), B: (2, 3)})
    assert torch.equal(again[A], torch.tensor([[0.0, 1.0], [2.0, 3.0], [0.0, 0.0]]))
    assert torch.equal(again[B], torch.tensor([[0.0, 1.0, 0.0], [3.0, 4.0, 0.0]]))


@pytest.mark.parametrize(
    ("settings", "expected"), [({"r_min": 2}, [2, 3, 4]), ({"ranks": (1, 4)}, [1, 4, 1]), ({"r_min": 9}, [4, 4, 4])]
)
def test_ranks_are_spread_over_the_clients_or_listed(settings, expected):
    lab = Lab("hetlora", settings, rank=4)
    assert [lab.method.rank(lab.client(number)) for number in range(3)] == expected


def test_a_rank_above_the_adapters_is_refused():
    lab = Lab("hetlora", {"ranks": (8,)}, rank=4)
    with pytest.raises(SettingsError, match=r"ranks has 8, but adapter.rank is 4"):
        lab.method.rank(lab.client())


@pytest.mark.parametrize("method", ["hetlora", "flexlora"])
def test_a_client_trains_and_sends_its_own_ranks_only(method):
    lab = Lab(method, {"ranks": (2,)}, rank=4)
    client = lab.client()
    sent = lab.train(client).tensors
    assert sum(tensor.numel() for tensor in sent.values()) * 2 == sum(
        tensor.numel() for tensor in client.snapshot("shared").values()
    )
    for name, tensor in client.snapshot("shared").items():
        outside = tensor[2:] if name.endswith(".A") else tensor[:, 2:]
        assert not outside.any()
    assert all(tensor.any() for tensor in sent.values())
    received = {name: torch.randn_like(tensor) for name, tensor in sent.items()}
    later = lab.client(round_=2, state=client.state())
    lab.method.receive(later, received)
    assert same(truncated(later.snapshot("shared"), 2), received)
    later.step(lab.batch(later), slots=("shared",), mix="shared")
    after = truncated(later.snapshot("shared"), 2)
    assert 0 < distance(after, received) < distance(after, sent) / 5


@pytest.mark.parametrize("method", ["hetlora", "flexlora"])
def test_ranks_that_nobody_has_begun_start_as_in_round_1_and_are_trained(method):
    lab = Lab(method, {"ranks": (2, 4)}, rank=4)
    peer, newcomer = lab.client(), lab.client(1, round_=2)
    own, shapes = newcomer.snapshot("shared"), lab.method.upload_shapes(newcomer.adapter)
    download = lab.method.initial_download("narrow", shapes, Uploads([lab.train(peer)]))
    lab.method.receive(newcomer, download)
    begun = newcomer.snapshot("shared")
    assert same(truncated(begun, 2), download)
    for name, tensor in begun.items():
        assert torch.equal(tensor[2:], own[name][2:]) if name.endswith(".A") else not tensor[:, 2:].any()
    newcomer.step(lab.batch(newcomer), slots=("shared",), mix="shared")
    for name, tensor in newcomer.snapshot("shared").items():
        assert (tensor.any(1) if name.endswith(".A") else tensor.any(0)).all()


def test_the_tail_is_the_product_of_norms_over_all_linears():
    lab = Lab("hetlora", rank=4)
    client = lab.client()
    slot = lab.noise(client, "shared")
    client.adapter.load_slot("shared", slot)
    names = {name[:-2] for name in slot}
    expected = sum(slot[f"{name}.B"][:, 3:].norm() * slot[f"{name}.A"][3:].norm() for name in names)
    torch.testing.assert_close(tail(client.adapter, 3).detach(), expected)


def pruned(penalty):
    lab = Lab("hetlora", {"ranks": (4,), "r_min": 1, "gamma": 0.75, "tail_penalty": penalty}, rank=4)
    client = lab.client()
    upload = lab.train(client, lab.noise(client, "shared"))
    return lab, client, upload


def test_a_tail_that_shrinks_is_pruned_for_good():
    lab, client, upload = pruned(penalty=100.0)
    assert lab.method.rank(client) == 3
    assert {tensor.shape[0] for name, tensor in upload.tensors.items() if name.endswith(".A")} == {3}
    later = lab.client(round_=2, state=client.state())
    lab.method.receive(later, upload.tensors)
    for batch in later.batches(later.budget()):
        later.step(batch, slots=("shared",), mix="shared")
    for name, tensor in later.snapshot("shared").items():
        assert not (tensor[3:] if name.endswith(".A") else tensor[:, 3:]).any()  # not even by old momentum
    assert lab.method.rank(later) == 3


def test_a_tail_that_does_not_shrink_stays():
    lab = Lab("hetlora", {"ranks": (4,), "r_min": 1, "gamma": 0.75}, rank=4)
    client = lab.client()
    lab.train(client)  # B starts at zero, so the tail can only grow
    assert lab.method.rank(client) == 4


def test_no_rank_falls_below_the_smallest():
    lab = Lab("hetlora", {"ranks": (4,), "r_min": 4, "gamma": 0.75, "tail_penalty": 100.0}, rank=4)
    client = lab.client()
    lab.train(client, lab.noise(client, "shared"))
    assert lab.method.rank(client) == 4
