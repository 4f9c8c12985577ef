import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity as sklearn_cosine

from fedmosaic.relevance import cosine_similarity, mix, relevance_weights


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
    mixed = mix(weights, tensors)
    for i in range(5):
        torch.testing.assert_close(mixed[i], sum(weights[i, j] * tensors[j] for j in range(5)))
