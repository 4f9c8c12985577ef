import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity as sklearn_cosine

from fedmosaic.relevance import cosine_similarity, relevance_weights, weighted_sums
from fedmosaic.relevance.weights import centred, common_direction, largest_mask


def sketches(count, size=16, seed=0):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def test_similarity_equals_scikit_learns():
    rows = sketches(7)
    np.testing.assert_allclose(cosine_similarity(rows).numpy(), sklearn_cosine(rows.numpy()), atol=1e-6)


def test_a_zero_sketch_is_like_nobody_but_itself():
    rows = sketches(4)
    rows[2] = 0
    similarity = cosine_similarity(rows)
    assert torch.equal(similarity[2], torch.tensor([0.0, 0.0, 1.0, 0.0]))


def test_what_is_common_is_the_mean_of_the_directions_of_those_that_say_something():
    rows = torch.tensor([[3.0, 0.0], [0.0, 1e-3], [0.0, 0.0], [torch.nan, 1.0]])
    torch.testing.assert_close(common_direction(rows), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(centred(rows), torch.tensor([[0.5, -0.5], [-0.5, 0.5], [0.0, 0.0], [0.0, 0.0]]))
    assert common_direction(torch.zeros(3, 2)).tolist() == [0.0, 0.0]


@given(st.integers(2, 8), st.floats(0.02, 10), st.integers(0, 1000))
def test_rows_are_distributions_over_the_others(count, temperature, seed):
    weights = relevance_weights(cosine_similarity(sketches(count, seed=seed)), temperature=temperature)
    assert torch.all(weights >= 0)
    assert torch.equal(weights.diagonal(), torch.zeros(count))
    torch.testing.assert_close(weights.sum(1), torch.ones(count))


def test_temperature_goes_from_the_most_similar_peer_to_the_uniform_mean():
    similarity = cosine_similarity(sketches(5))
    hot = relevance_weights(similarity, temperature=1e6)
    torch.testing.assert_close(hot, (1 - torch.eye(5)) / 4, atol=1e-5, rtol=0)
    cold = relevance_weights(similarity, temperature=1e-4)
    assert torch.equal(cold.argmax(1), (similarity - 2 * torch.eye(5)).argmax(1))


def test_weights_equal_a_loop_over_the_definition():
    similarity = cosine_similarity(sketches(4)).double()
    weights = relevance_weights(similarity, temperature=0.5)
    for i in range(4):
        total = sum(np.exp(similarity[i, j].item() / 0.5) for j in range(4) if j != i)
        for j in range(4):
            expected = 0.0 if i == j else np.exp(similarity[i, j].item() / 0.5) / total
            assert weights[i, j].item() == pytest.approx(expected, rel=1e-12)


def test_only_peers_count_and_a_client_without_peers_gets_nothing():
    peers = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    weights = relevance_weights(cosine_similarity(sketches(3)), temperature=0.5, peers=peers)
    assert torch.equal(weights, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))


def test_a_single_client_gets_nothing():
    assert torch.equal(relevance_weights(torch.ones(1, 1), temperature=0.5), torch.zeros(1, 1))


def test_identical_sketches_give_the_uniform_mean():
    weights = relevance_weights(cosine_similarity(torch.ones(4, 8)), temperature=0.1)
    torch.testing.assert_close(weights, (1 - torch.eye(4)) / 3)


def test_mix_equals_a_naive_loop():
    weights = relevance_weights(cosine_similarity(sketches(5)), temperature=0.5)
    tensors = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(1))
    mixed = weighted_sums(weights, tensors)
    for i in range(5):
        torch.testing.assert_close(mixed[i], sum(weights[i, j] * tensors[j] for j in range(5)))


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 3e38])
def test_a_sketch_that_says_nothing_changes_no_other_pair_and_weighs_all_alike(value):
    rows = sketches(4)
    good = cosine_similarity(rows)
    rows[2] = value
    similarity = cosine_similarity(rows)
    assert torch.equal(similarity[2], torch.tensor([0.0, 0.0, 1.0, 0.0]))
    assert torch.equal(similarity[:, 2], similarity[2])
    rest = [0, 1, 3]
    assert torch.equal(similarity[rest][:, rest], good[rest][:, rest])
    weights = relevance_weights(similarity, temperature=0.5)
    torch.testing.assert_close(weights[2], torch.tensor([1 / 3, 1 / 3, 0.0, 1 / 3]))


@given(st.integers(2, 9), st.integers(1, 10), st.integers(0, 1000), st.booleans())
def test_only_the_most_similar_peers_count_and_as_much_as_if_there_were_no_others(count, most, seed, grouped):
    similarity = cosine_similarity(sketches(count, seed=seed))
    group = torch.arange(count) % 2 if grouped else torch.zeros(count)
    peers = group[:, None] == group
    weights = relevance_weights(similarity, temperature=0.5, peers=peers, most=most)
    for i in range(count):
        others = [j for j in range(count) if j != i and peers[i, j]]
        nearest = sorted(others, key=lambda j: -similarity[i, j].item())[:most]
        assert set(weights[i].nonzero().flatten().tolist()) == set(nearest)
        if nearest:
            expected = torch.softmax(similarity[i, nearest] / 0.5, 0)
            torch.testing.assert_close(weights[i, nearest], expected)


def test_of_equally_similar_peers_the_first_count():
    weights = relevance_weights(cosine_similarity(torch.ones(5, 3)), temperature=0.5, most=2)
    assert torch.equal(weights[0], torch.tensor([0.0, 0.5, 0.5, 0.0, 0.0]))
    assert torch.equal(weights[4], torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0]))


@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(1, 4))
def test_largest_equals_a_stable_sort(rows, most):
    mask = largest_mask(torch.tensor(rows).float(), most)
    for row, found in zip(rows, mask, strict=True):
        assert found.nonzero().flatten().tolist() == sorted(sorted(range(4), key=lambda j: -row[j])[:most])


@pytest.mark.parametrize("size", [1e-43, 1e-30, 1e-20, 1e18])
def test_cosines_do_not_depend_on_how_long_sketches_are(size):
    """Squares of values below 1e-23 vanish in float32; cosines must not."""
    rows = torch.randint(1, 9, (4, 8), generator=torch.Generator().manual_seed(0)).float()
    signs = torch.tensor([1.0, -1.0]).repeat(4)
    rows *= signs.roll(1) * torch.tensor([[1.0], [-1.0], [1.0], [1.0]])
    held = (rows * size).double() / size  # what float32 has kept of them
    np.testing.assert_allclose(cosine_similarity(rows * size).numpy(), sklearn_cosine(held.numpy()), atol=1e-5)


@given(
    st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=2, max_size=6),
    st.floats(min_value=5e-324, max_value=1.7e308),
    st.integers(0, 3),
)
def test_no_upload_however_odd_leaves_a_client_without_a_proper_mixture(rows, temperature, most):
    similarity = cosine_similarity(torch.tensor(rows))
    assert ((similarity >= -1) & (similarity <= 1)).all()
    weights = relevance_weights(similarity, temperature=temperature, most=most)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(rows)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_similarity_that_is_no_number_counts_as_none(value):
    similarity = cosine_similarity(sketches(4))
    nothing = similarity.clone()
    similarity[1, 2], nothing[1, 2] = value, 0.0
    similarity[3], nothing[3] = value, 0.0
    weights = relevance_weights(similarity, temperature=0.5)
    assert torch.equal(weights, relevance_weights(nothing, temperature=0.5))
    torch.testing.assert_close(weights.sum(1), torch.ones(4))


def test_the_arguments_are_left_as_they_are():
    similarity = cosine_similarity(sketches(3))
    before = similarity.clone()
    relevance_weights(similarity, temperature=0.5, peers=torch.ones(3, 3).bool(), most=1)
    assert torch.equal(similarity, before)
