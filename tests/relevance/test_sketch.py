import torch

from fedmosaic.relevance import TensorSketch


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
