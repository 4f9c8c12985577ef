"""FlexLoRA: the mean of BA, cut by SVD."""

import pytest
import torch
from tests.methods.lab import Lab, same
from torch.testing import assert_close

from fedmosaic.methods.registry import make_method
from fedmosaic.methods.uploads import Upload, Uploads

A, B = "layer.0.q_proj.A", "layer.0.q_proj.B"


def random_uploads(ranks, width_in=7, width_out=5):
    torch.manual_seed(0)
    return Uploads(
        [
            Upload(client, "x", {A: torch.randn(rank, width_in), B: torch.randn(width_out, rank)})
            for client, rank in enumerate(ranks)
        ]
    )


def mean_product(uploads):
    return torch.stack([each.tensors[B] @ each.tensors[A] for each in uploads.values()]).mean(0)


@pytest.mark.parametrize(("ranks", "widths"), [((5, 5, 5), (7, 5)), ((4, 4), (4, 9)), ((2, 3), (8, 8))])
def test_where_the_rank_can_hold_it_the_mean_of_the_products_is_exact(ranks, widths):
    """docs/method-facts.md#flexlora. Averaging A and B apart, as FedAvg does, misses it."""
    uploads = random_uploads(ranks, *widths)
    if widths == (8, 8):  # the mean of ranks 2 and 3 has rank 5: give both clients a fifth-rank slot, padded
        padding = {A: lambda t: torch.nn.functional.pad(t, (0, 0, 0, 5 - t.shape[0])),
                   B: lambda t: torch.nn.functional.pad(t, (0, 5 - t.shape[1]))}  # fmt: skip
        uploads = Uploads(
            [Upload(c, "x", {n: padding[n](t) for n, t in each.tensors.items()}) for c, each in uploads.items()]
        )
    expected = mean_product(uploads)
    for download in make_method("flexlora", {}).aggregate(uploads, None).downloads.values():
        assert_close(download[B] @ download[A], expected, atol=1e-5, rtol=1e-4)
    apart = uploads.stack(B).mean(0) @ uploads.stack(A).mean(0)
    assert (apart - expected).norm() > 0.1 * expected.norm()


def test_each_client_gets_the_best_approximation_of_its_own_rank():
    uploads = random_uploads((1, 2, 4))
    u, s, vt = torch.linalg.svd(mean_product(uploads))
    downloads = make_method("flexlora", {}).aggregate(uploads, None).downloads
    for client, rank in enumerate((1, 2, 4)):
        assert downloads[client][A].shape == (rank, 7)
        assert downloads[client][B].shape == (5, rank)
        best = u[:, :rank] * s[:rank] @ vt[:rank]
        assert_close(downloads[client][B] @ downloads[client][A], best, atol=1e-5, rtol=1e-4)
        assert_close(downloads[client][A] @ downloads[client][A].T, torch.eye(rank), atol=1e-5, rtol=0)


def test_ranks_that_a_narrow_linear_cannot_use_are_zero():
    uploads = random_uploads((6, 6), width_in=3, width_out=4)
    download = make_method("flexlora", {}).aggregate(uploads, None).downloads[0]
    assert download[A].shape == (6, 3)
    assert not download[A][3:].any()
    assert_close(download[B] @ download[A], mean_product(uploads), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("ranks", "rank"), [((1, 2), 3), ((2, 3), 4)])
def test_a_newcomer_gets_the_mean_update_in_the_ranks_that_it_needs_and_the_adapter_has(ranks, rank):
    uploads = random_uploads(ranks)
    start = make_method("flexlora", {}).initial_download("x", {A: (4, 7), B: (5, 4)}, uploads)
    assert (start[A].shape, start[B].shape) == ((rank, 7), (5, rank))
    u, s, vt = torch.linalg.svd(mean_product(uploads))
    assert_close(start[B] @ start[A], u[:, :rank] * s[:rank] @ vt[:rank], atol=1e-5, rtol=1e-4)


def test_architectures_do_not_mix():
    first, second = random_uploads((5, 5)).values()
    other = Upload(1, "y", second.tensors)
    downloads = make_method("flexlora", {}).aggregate(Uploads([first, other]), None).downloads
    assert_close(downloads[0][B] @ downloads[0][A], first.tensors[B] @ first.tensors[A], atol=1e-5, rtol=1e-4)


def test_moments_are_kept_as_with_every_method():
    lab = Lab("flexlora", {"ranks": (2,)})
    client = lab.client()
    upload = lab.train(client)
    before = client.optimiser.moments()
    lab.method.receive(client, upload.tensors)
    assert before
    assert same(client.optimiser.moments(), before)
