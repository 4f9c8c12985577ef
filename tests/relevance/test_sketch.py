import pytest
import torch

from fedmosaic.relevance import TensorSketch, make_sketch


def gradient_parts(count, tokens, d_out, d_in, seed=0):
    random = torch.Generator().manual_seed(seed)
    rows = torch.randint(count, (tokens,), generator=random)
    return torch.randn(tokens, d_out, generator=random), torch.randn(tokens, d_in, generator=random), rows


def dense(left, right, rows, count):
    full = torch.zeros(count, left.shape[1], right.shape[1])
    for d, h, row in zip(left, right, rows, strict=True):
        full[row] += torch.outer(d, h)
    return full


def test_sketch_equals_hashing_the_dense_gradient_entry_by_entry():
    sketch = TensorSketch(d_out=6, d_in=5, size=16, seed=3)
    left, right, rows = gradient_parts(2, 7, 6, 5)
    expected = torch.zeros(2, 16)
    (b0, b1), (s0, s1) = sketch._buckets, sketch._signs
    full = dense(left, right, rows, 2)
    for i in range(6):
        for j in range(5):
            expected[:, (b0[i] + b1[j]) % 16] += s0[i] * s1[j] * full[:, i, j]
    torch.testing.assert_close(sketch(left, right, rows, 2), expected, atol=1e-5, rtol=1e-4)


def test_sketch_is_linear_in_the_gradient():
    sketch = TensorSketch(d_out=8, d_in=9, size=32, seed=0)
    left, right, _ = gradient_parts(1, 5, 8, 9)
    apart = sketch(left, right, torch.arange(5), 5).sum(0)
    together = sketch(left, right, torch.zeros(5, dtype=torch.long), 1)[0]
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=1e-4)


def test_inner_products_are_kept_on_average_over_seeds():
    left, right, rows = gradient_parts(2, 6, 20, 30, seed=1)
    full = dense(left, right, rows, 2).flatten(1)
    exact = full @ full.T
    estimates = []
    for seed in range(300):
        vectors = TensorSketch(d_out=20, d_in=30, size=256, seed=seed)(left, right, rows, 2)
        estimates.append(vectors @ vectors.T)
    error = (torch.stack(estimates).mean(0) - exact).abs() / exact.diagonal().mean()
    assert error.max() < 0.02


def test_equal_seeds_give_equal_sketches_and_other_seeds_others():
    left, right, rows = gradient_parts(1, 3, 8, 8)
    one, same, other = (TensorSketch(d_out=8, d_in=8, size=64, seed=s)(left, right, rows * 0, 1) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def build(kind, *, seed=0, ratio=0.3):
    return make_sketch(kind, d_out=20, d_in=30, size=64, ratio=ratio, seed=seed)


def test_full_is_the_gradient_and_a_subset_some_of_its_entries_the_same_for_all():
    left, right, rows = gradient_parts(3, 8, 20, 30)
    exact = dense(left, right, rows, 3).flatten(1)
    torch.testing.assert_close(build("full")(left, right, rows, 3), exact)
    subset = build("subset")
    assert subset.size == 180
    torch.testing.assert_close(subset(left, right, rows, 3), exact[:, subset._kept] / 0.3**0.5, atol=1e-5, rtol=1e-5)
    assert torch.equal(subset._kept, build("subset")._kept)
    assert not torch.equal(subset._kept, build("subset", seed=1)._kept)
    assert build("subset", ratio=1e-9).size == 1


@pytest.mark.parametrize("kind", ["projection", "subset", "full"])
def test_every_sketch_is_linear_and_gives_zero_for_a_gradient_without_tokens(kind):
    sketch = build(kind)
    left, right, rows = gradient_parts(1, 5, 20, 30)
    apart = sketch(left, right, torch.arange(5), 5)
    assert apart.shape == (5, sketch.size)
    torch.testing.assert_close(apart.sum(0), sketch(left, right, rows, 1)[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(sketch(left, right, rows, 2)[1], torch.zeros(sketch.size))


@pytest.mark.parametrize("kind", ["projection", "subset", "full"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_a_sample_whose_gradient_overflows_spoils_no_other_samples_sketch(kind, bad):
    sketch = make_sketch(kind, d_out=6, d_in=5, size=16, ratio=0.5, seed=3)
    left, right, rows = gradient_parts(4, 12, 6, 5)
    good = sketch(left, right, rows, 4)
    left[rows == 2], right[rows == 2] = bad, bad
    spoilt = sketch(left, right, rows, 4)
    rest = [0, 1, 3]
    torch.testing.assert_close(spoilt[rest], good[rest])
    assert not spoilt[2].isfinite().all()
