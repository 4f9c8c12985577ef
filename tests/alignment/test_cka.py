"""Depth correspondence against the kernel definition of CKA, on hidden states that transformers itself returns."""

import pytest
import torch

from fedmosaic.alignment import PositionWeights, compare_layers
from fedmosaic.alignment.cka import LayerSimilarity, layer_similarity

from .conftest import make_model


def kernel_cka(x, y):
    """``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))`` of linear kernels (Kornblith et al., 2019, equations 3 and 4)."""
    centre = torch.eye(len(x), dtype=torch.float64) - 1 / len(x)
    k, m = (centre @ (rows.double() @ rows.double().T) @ centre for rows in (x, y))
    return float((k * m).sum() / ((k * k).sum() * (m * m).sum()).sqrt())


def layer_inputs(model, samples):
    """What each decoder layer reads where the answer is predicted: (samples, width) per layer."""
    batch = model.collate(samples)
    tower = model.module.model.multi_modal_projector(batch.vision["features"])
    embeddings = model.module.get_input_embeddings()(batch.input_ids)
    embeddings[batch.input_ids == 3] = tower.flatten(0, 1)
    output = model.decoder(
        inputs_embeds=embeddings, attention_mask=batch.attention_mask, output_hidden_states=True, use_cache=False
    )
    last = model.collate(samples, with_answers=False).last
    states = output.hidden_states[: len(model.decoder.layers)]
    return [state[torch.arange(len(samples)), last].detach() for state in states]


@pytest.mark.slow
def test_layers_are_compared_by_what_they_read(features_home, samples):
    one, other = make_model("tiny-llama", features_home), make_model("tiny-qwen2", features_home, seed=3)
    found = layer_similarity(one, other, samples, positions=PositionWeights(image=0, text=0), batch_size=7)
    mine, others = layer_inputs(one, samples), layer_inputs(other, samples)
    expected = torch.tensor([[kernel_cka(x, y) for y in others] for x in mine])
    # All prompts end with the same word, so the first layers read a constant there, of which CKA is not defined.
    torch.testing.assert_close(found[1:, 1:], expected[1:, 1:], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_all_pairs_are_compared(models, samples):
    found = compare_layers(models, samples[:10])
    assert [(one.one, one.other) for one in found] == [
        ("tiny-llama", "tiny-qwen2"), ("tiny-llama", "tiny-gemma"), ("tiny-qwen2", "tiny-gemma")
    ]  # fmt: skip
    assert [tuple(one.cka.shape) for one in found] == [(4, 6), (4, 5), (6, 5)]


def test_the_distance_in_depth_is_between_a_layer_and_its_most_similar_one():
    diagonal = LayerSimilarity("a", "b", torch.eye(5))
    assert diagonal.depth_distance() == 0
    assert LayerSimilarity("a", "b", torch.eye(5).flip(1)).depth_distance() == pytest.approx(
        (1 + 0.5 + 0 + 0.5 + 1) / 5
    )
    stretched = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])  # two layers, three layers: ends match
    assert LayerSimilarity("a", "b", stretched).depth_distance() == 0
