import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from fedmosaic.relevance.sanitise import clipped_mean, gaussian, poisson_sample, subkey, unclipped_mean

KEY = b"k" * 32


def sketches(count, size=64, scale=1.0):
    return scale * torch.randn(count, size, generator=torch.Generator().manual_seed(0))


@given(st.floats(1e-3, 1e3), st.integers(0, 5))
def test_leaving_a_sample_out_moves_the_sum_by_at_most_the_clip(clip, left_out):
    rows = sketches(6)
    nothing = rows.clone()
    nothing[left_out] = 0
    means = [clipped_mean(each, clip=clip, noise_multiplier=0, count=1, key=KEY) for each in (rows, nothing)]
    assert (means[0] - means[1]).norm() <= clip * (1 + 1e-5)


ANY_VALUE = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
ANY_ROW = st.lists(ANY_VALUE, min_size=4, max_size=4) | ANY_VALUE.map(lambda value: [value] * 4)


@given(st.lists(ANY_ROW, min_size=1, max_size=6), st.floats(1e-12, 1e12), st.data())
def test_whatever_a_sample_says_it_moves_the_sum_by_at_most_the_clip_against_saying_nothing(rows, clip, data):
    """The bound that the noise is made for (zero-out), for every number that a computer holds."""
    index = data.draw(st.integers(0, len(rows) - 1))
    without = [row if i != index else [0.0] * 4 for i, row in enumerate(rows)]
    with_, nothing = (
        clipped_mean(torch.tensor(each), clip=clip, noise_multiplier=0, count=1, key=KEY) for each in (rows, without)
    )
    assert with_.isfinite().all()
    moved = (with_.double() - nothing.double()).norm().item()
    rounding = torch.finfo(torch.float32).eps * clip * len(rows)  # of the two sums, to float32
    assert moved <= clip * (1 + 1e-12) + rounding
    if not torch.tensor(rows[index]).isfinite().all():
        assert torch.equal(with_, nothing)


@given(st.lists(ANY_ROW, min_size=1, max_size=1), st.lists(ANY_ROW, min_size=1, max_size=1), st.floats(1e-12, 1e12))
def test_replacing_a_sample_by_any_other_moves_the_sum_by_at_most_two_clips(one, other, clip):
    a, b = (clipped_mean(torch.tensor(r), clip=clip, noise_multiplier=0, count=1, key=KEY) for r in (one, other))
    assert (a.double() - b.double()).norm().item() <= 2 * clip * (1 + 1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_sketch_that_is_not_finite_counts_as_zero_and_the_others_as_before(value):
    rows = sketches(5)
    without = rows.clone()
    without[2] = 0
    rows[2, 7] = value
    for mean in (
        lambda r: clipped_mean(r, clip=1.0, noise_multiplier=2.0, count=5, key=KEY),
        lambda r: unclipped_mean(r, noise=0.5, key=KEY),
    ):
        assert mean(rows).isfinite().all()
        assert torch.equal(mean(rows), mean(without))


@pytest.mark.parametrize("size", [1e-44, 1e-40, 1e-30, 1.0, 1e19, 1e25, 3e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_and_tiny_sketches_keep_their_direction(size, dtype):
    """Squares of values above 1e19 are infinite in float32, those of values below 1e-23 are zero."""
    row = torch.tensor([[3.0, 0.0, -4.0, 0.0]], dtype=torch.float64) / 5
    mean = clipped_mean((row * size).to(dtype), clip=1.0, noise_multiplier=0, count=1, key=KEY)
    assert mean.double().norm().item() == pytest.approx(min(size, 1.0), rel=0.2 if size < 1e-38 else 1e-6)
    torch.testing.assert_close(mean.double() / mean.double().norm(), row[0], atol=0.1 if size < 1e-38 else 1e-6, rtol=0)


def test_sketches_beyond_float32_are_clipped_too():
    rows = torch.full((1, 3), 1.7e308, dtype=torch.float64)
    mean = clipped_mean(rows, clip=0.5, noise_multiplier=0, count=1, key=KEY)
    torch.testing.assert_close(mean, torch.full((3,), 0.5 / 3**0.5))
    half = clipped_mean(torch.full((1, 3), 6e4, dtype=torch.float16), clip=0.5, noise_multiplier=0, count=1, key=KEY)
    torch.testing.assert_close(half, mean)


def test_short_sketches_stay_as_they_are_and_long_ones_keep_their_direction():
    rows = torch.stack([sketches(1)[0] * 0.01, sketches(1)[0] * 100])
    for row in rows:
        mean = clipped_mean(row[None], clip=1.0, noise_multiplier=0, count=1, key=KEY)
        torch.testing.assert_close(mean, row / max(1.0, row.norm().item()))


def test_noise_is_of_the_stated_size_and_repeats_with_its_key():
    rows = sketches(4, size=20_000)
    clean, noisy, again, other = (
        clipped_mean(rows, clip=0.5, noise_multiplier=sigma, count=4, key=key)
        for sigma, key in ((0.0, KEY), (2.0, KEY), (2.0, KEY), (2.0, b"o" * 32))
    )
    assert torch.equal(noisy, again)
    assert not torch.equal(noisy, other)
    # The sum of 4 samples gets noise of standard deviation 2 * 0.5, so the mean gets 0.25.
    assert (noisy - clean).std().item() == pytest.approx(0.25, rel=0.03)


def test_the_count_is_the_expected_one_whatever_was_found():
    rows = sketches(3)
    mean = clipped_mean(rows, clip=1e9, noise_multiplier=0, count=6.0, key=KEY)
    torch.testing.assert_close(mean, rows.sum(0) / 6)
    nobody = clipped_mean(rows[:0], clip=1.0, noise_multiplier=1.0, count=6.0, key=KEY)
    torch.testing.assert_close(nobody, gaussian(KEY, 64) / 6)


def test_the_papers_noise_is_on_the_unclipped_mean():
    rows = sketches(4, size=20_000, scale=100.0)
    difference = unclipped_mean(rows, noise=0.5, key=KEY) - rows.mean(0)
    assert difference.std().item() == pytest.approx(0.25, rel=0.03)


def test_noise_is_standard_normal():
    assert kstest(gaussian(KEY, 50_000).double().numpy(), "norm").pvalue > 0.01


def test_a_poisson_sample_takes_each_with_its_probability_and_all_at_one():
    assert poisson_sample(KEY, 1000, 1.0) == list(range(1000))
    taken = poisson_sample(KEY, 20_000, 0.3)
    assert len(taken) == pytest.approx(6000, rel=0.03)
    assert taken != poisson_sample(b"o" * 32, 20_000, 0.3)


def test_keys_of_different_purposes_differ():
    keys = {subkey(KEY, *purpose) for purpose in (("a", 1), ("a", 2), ("b", 1), ("a",), ("a1",))}
    assert len(keys) == 5
    assert subkey(KEY, "a", 1) == subkey(KEY, "a", 1)
