"""Hetero-SSFL: Gram matrices of public samples travel, and CKA with their mean is raised by gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation.scenario import small
from tests.methods.lab import Lab, distance, same, spied
from torch.testing import assert_close

from fedmosaic.errors import SettingsError
from fedmosaic.methods.hetero_ssfl import cka, gram, unit
from fedmosaic.methods.registry import make_method
from fedmosaic.methods.uploads import Upload, Uploads

MODELS = ("narrow", "narrow", "foreign")


def make(*, steps=3, rate=1e-2, **settings_):
    own = {"public_samples": 8, **settings_}
    return Lab("hetero-ssfl", own, models=MODELS, steps=steps, learning_rate=rate)


def features(seed, rows=6, columns=4):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_formula(one, other):
    """tr(HKHL) / (||HKH|| ||HLH||) with H written out."""
    size = len(one)
    h = torch.eye(size, dtype=one.dtype) - torch.ones(size, size, dtype=one.dtype) / size
    norms = torch.linalg.matrix_norm(h @ one @ h) * torch.linalg.matrix_norm(h @ other @ h)
    return torch.trace(h @ one @ h @ other) / norms


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 8), st.floats(0.01, 100))
def test_cka_is_the_formula_and_ignores_scale_rotation_and_shift(seed, rows, scale):
    x, y = features(seed, rows, 3), features(seed + 1, rows, 5)
    one, other = x @ x.T, y @ y.T
    value = cka(one, other)
    assert_close(value, by_formula(one, other))
    rotation = torch.linalg.qr(features(seed, 5, 5))[0]
    turned = scale * (y @ rotation + 3)
    assert_close(cka(one, turned @ turned.T), value, atol=1e-6, rtol=1e-6)
    assert_close(cka(one, one), torch.ones((), dtype=one.dtype))


def test_ckas_gradient_is_not_zero_and_is_that_of_finite_differences():
    x, target = features(0).requires_grad_(), features(1) @ features(1).T
    (gradient,) = torch.autograd.grad(cka(x @ x.T, target), x)
    assert gradient.norm() > 1e-3
    assert torch.autograd.gradcheck(lambda rows: cka(rows @ rows.T, target), (x,))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.37])
def test_representations_that_are_all_alike_give_finite_numbers(value):
    rows = torch.full((4, 8), value, requires_grad=True)
    loss = cka(gram(rows), gram(features(1, 4, 8)))
    (gradient,) = torch.autograd.grad(loss, rows)
    assert loss.isfinite() and gradient.isfinite().all()
    assert unit(gram(rows)).isfinite().all()


def test_the_server_averages_at_unit_norm_over_the_clients_of_the_last_round():
    method = make().method
    grams = [torch.rand(8, 8, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    grams = [each @ each.T for each in grams]
    uploads = Uploads(Upload(n, f"a{n}", {"gram": each}, round=5) for n, each in enumerate(grams))
    h = torch.eye(8) - torch.ones(8, 8) / 8
    expected = sum(each / torch.linalg.matrix_norm(h @ each @ h) for each in grams) / 3
    downloads = method.aggregate(uploads, None).downloads
    assert_close(downloads[1]["gram"], expected)
    assert_close(method.initial_download("new", {}, uploads)["gram"], expected)
    late = Uploads([*uploads.values(), Upload(3, "a3", {"gram": 9 * torch.eye(8)}, round=4)])
    again = method.aggregate(late, None).downloads
    assert_close(again[3]["gram"], expected)


def test_the_first_round_is_plain_cross_entropy_and_only_a_gram_matrix_leaves():
    lab, plain = make(), Lab("sft", models=MODELS)
    client, other = lab.client(0), plain.client(0)
    upload = lab.train(client)
    plain.train(other)
    assert same(client.snapshot("local"), other.snapshot("local"))
    assert set(upload.tensors) == {"gram"}
    rows = torch.cat([client.predict(batch, mix="local").embeddings for batch in client.public_batches(8)])
    prompts = [sample for batch in client.public_batches(8) for sample in batch.samples]
    assert_close(rows, client.embed(prompts, mix="local"), atol=1e-5, rtol=1e-4)  # nothing of the answer is read yet
    assert_close(upload.tensors["gram"], rows @ rows.T)
    assert client.meter.flops > other.meter.flops


@pytest.mark.parametrize(("count", "sizes"), [(4, [4]), (8, [4, 4]), (9, [4, 5]), (6, [6]), (7, [4, 3]), (3, [3])])
def test_a_last_batch_of_two_or_one_is_compared_with_the_one_before_it(count, sizes):
    lab = make(public_samples=count)
    client = lab.client(0, 2)
    common = features(3, count, count).float()
    lab.method.receive(client, {"gram": common})
    references = lab.method._references(client)
    samples = [sample for batch in client.public_batches(count, round_=1) for sample in batch.samples]
    start = 0
    for reference, size in zip(references, sizes, strict=True):
        here = slice(start, start := start + size)
        assert list(reference.batch.samples) == samples[here]
        expected = client.base.collate(samples[here])
        assert torch.equal(reference.batch.inputs.input_ids, expected.input_ids)
        assert torch.equal(reference.batch.inputs.labels, expected.labels)
        assert torch.equal(reference.gram, common[here, here])
    assert start == count


def test_batches_and_public_samples_too_few_to_compare_are_refused():
    method = make().method
    for size in (1, 2):
        with pytest.raises(SettingsError, match=rf"training\.batch_size is {size}, .*set 3 or more"):
            method.check(small("hetero-ssfl", training={"batch_size": size}))
    method.check(small("hetero-ssfl", training={"batch_size": 3}))
    with pytest.raises(SettingsError, match=r"public_samples"):
        make_method("hetero-ssfl", {"public_samples": 2})


@pytest.mark.slow
def test_alignment_trains_on_the_last_rounds_public_samples_and_raises_cka():
    lab, without = (make(mu=mu, steps=12, rate=3e-3) for mu in (50.0, 0.0))
    clients = [lab.client(number) for number in (0, 2)]
    uploads = Uploads([lab.train(client) for client in clients])
    common = lab.method.aggregate(uploads, None).downloads
    state = clients[0].state()
    aligned, free = lab.client(0, 2, state), without.client(0, 2, state)
    asked = spied(aligned, "public_batches")
    lab.train(aligned, common[0])
    without.train(free, common[0])
    assert asked[0]["round_"] == 1
    assert distance(aligned.snapshot("local"), free.snapshot("local")) > 1e-3

    def likeness(client):
        batch = client.public_batches(4, round_=1)[0]
        return float(cka(gram(client.predict(batch, mix="local").embeddings), common[0]["gram"][:4, :4]))

    assert likeness(aligned) > likeness(lab.client(0, 2, state))
    assert likeness(aligned) > likeness(free)


def test_the_loss_is_cross_entropy_plus_mu_times_misalignment():
    lab = Lab("hetero-ssfl", {"public_samples": 4, "mu": 3.0}, models=MODELS, steps=1)
    client = lab.client(0, 2)
    target = features(3, 4, 4).float()
    common = target @ target.T
    batch, (public,) = lab.batch(client), client.public_batches(4, round_=1)
    client.adapter.train(False)
    expected = client.loss(batch, mix="local").item()
    own = client.predict(public, mix="local").embeddings
    expected += 3 * (1 - float(by_formula(own @ own.T, common)))
    lab.method.receive(client, {"gram": common})
    lab.method.train(client, client.budget())  # in evaluation mode: without dropout
    assert client.meter.loss == pytest.approx(expected, rel=1e-4)
