import dataclasses

import pytest
import torch
from transformers import LlamaConfig

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.alignment import Joint, Pivot, PositionWeights, align
from fedmosaic.alignment.cka import layer_similarity
from fedmosaic.errors import ModelError, SettingsError
from fedmosaic.models.fingerprint import architecture_name
from fedmosaic.models.tiny import TinyModel

from .conftest import make_model

pytestmark = pytest.mark.slow  # models are aligned

SHAPE = {"rank": 8, "blocks": 2}
LEAST = {"rank": 8, "blocks": 1}


def attach(model, seed=0):
    return Adapter.attach(
        model.module,
        model.decoder,
        slots=(Slot("local", communicated=True),),
        alpha=16.0,
        seed=seed,
        architecture=model.architecture,
        **SHAPE,
    )


@pytest.fixture(scope="module")
def joint(models, samples):
    return align(models, samples[:40], mode=Joint(rounds=1), **SHAPE)


def test_bases_have_the_adapters_names_and_shapes(models, joint):
    assert joint.architectures == {name: model.architecture for name, model in models.items()}
    for name, model in models.items():
        adapter = attach(model)
        try:
            adapter.load_basis(joint.bases[name])
            assert all(torch.equal(joint.bases[name][key], own) for key, own in adapter.colora_shared().items())
        finally:
            adapter.detach()


def test_the_same_call_gives_the_same_bases_and_leaves_the_models_alone(models, samples):
    pair = {name: models[name] for name in ("tiny-llama", "tiny-gemma")}
    before = {name: model.loss(model.collate(samples[:4])).item() for name, model in models.items()}
    one, again = (align(pair, samples[:20], mode="joint", **LEAST) for _ in range(2))
    for name in pair:
        assert all(torch.equal(again.bases[name][key], tensor) for key, tensor in one.bases[name].items())
    assert again.correlations == one.correlations
    assert before == {name: model.loss(model.collate(samples[:4])).item() for name, model in models.items()}
    assert not any(parameter.grad is not None for model in models.values() for parameter in model.module.parameters())


def test_little_memory_only_means_more_passes(models, samples):
    pair = {name: models[name] for name in ("tiny-llama", "tiny-gemma")}
    whole = align(pair, samples[:20], mode="pivot", **LEAST)
    parts = align(pair, samples[:20], mode="pivot", memory=1, **LEAST)
    for name in pair:
        for key, tensor in whole.bases[name].items():
            torch.testing.assert_close(parts.bases[name][key], tensor, atol=1e-6, rtol=1e-5)


def test_none_is_what_the_adapter_draws_by_itself(models, samples):
    alignment = align(models, samples, mode="none", seed=3, **SHAPE)
    for name, model in models.items():
        adapter = attach(model, seed=3)
        own = adapter.colora_shared()
        adapter.detach()
        assert all(torch.equal(alignment.bases[name][key], tensor) for key, tensor in own.items())


def test_joint_agrees_better_than_random_bases(models, samples, joint):
    random = align(models, samples, mode="none", **SHAPE)
    assert set(joint.correlations) == {key.rpartition(".")[0] for key in joint.bases["tiny-llama"]}
    assert len(joint.correlations) == 14
    assert abs(random.mean().inputs) < 0.15
    assert joint.mean().inputs > random.mean().inputs + 0.2


def permuted(model, home):
    """The same function in shuffled coordinates: every hidden feature of the residual stream has another place."""
    twin = make_model("tiny-llama", home)
    config: LlamaConfig = model.module.config.text_config
    order = torch.randperm(config.hidden_size, generator=torch.Generator().manual_seed(9))
    state = {}
    for key, tensor in model.module.state_dict().items():
        if "vision_tower" in key:
            state[key] = tensor
        elif key.endswith(("o_proj.weight", "down_proj.weight", "norm.weight", "layernorm.weight")) or (
            "multi_modal_projector.linear_2" in key
        ):
            state[key] = tensor[order]
        elif "language_model" in key or key == "lm_head.weight":
            state[key] = tensor[:, order]
        else:
            state[key] = tensor
    twin.module.load_state_dict(state)
    return TinyModel("twin", twin.module, twin.tokenizer, twin.features)


def test_p_and_q_give_the_same_model_in_a_twin_with_shuffled_features(models, samples, features_home):
    model = models["tiny-llama"]
    twin = permuted(model, features_home)
    assert architecture_name(twin.module) != model.architecture
    batch = model.collate(samples[:6])
    torch.testing.assert_close(twin.answer_logits(batch).logits, model.answer_logits(batch).logits)
    alignment = align({"one": model, "twin": twin}, samples, mode="joint", **SHAPE)
    assert alignment.mean().inputs > 0.999
    assert alignment.mean().effects > 0.999
    assert alignment.mean().updates > 0.999
    plain = model.answer_logits(batch).logits
    logits, apart = {}, {}
    for name, base in (("one", model), ("twin", twin)):
        adapter = attach(base)
        draw = torch.Generator().manual_seed(4)
        given = {
            key: 0.5 * torch.randn(tensor.shape, generator=draw) if key.startswith("block") else tensor
            for key, tensor in adapter.slot_tensors("local").items()
        }
        adapter.load_slot("local", given)
        apart[name] = base.answer_logits(batch).logits.detach()
        adapter.load_basis(alignment.bases[name])
        logits[name] = base.answer_logits(batch).logits.detach()
        adapter.detach()
    moved = float((logits["one"] - plain).norm())
    assert float((logits["twin"] - logits["one"]).norm()) < 0.01 * moved
    assert float((apart["twin"] - apart["one"]).norm()) > 0.1 * moved  # random bases: another function


def test_positions_without_weight_are_not_read(models, samples):
    pair = {name: models[name] for name in ("tiny-llama", "tiny-gemma")}
    only_answers = align(pair, samples, mode="a", positions=PositionWeights(image=0, text=0), **SHAPE)
    doubled = align(pair, samples, mode="a", positions=PositionWeights(image=0, text=0, answer=4), **SHAPE)
    everywhere = align(pair, samples, mode="a", **SHAPE)
    key = "block.0.q_proj.A"
    torch.testing.assert_close(only_answers.bases["tiny-llama"][key], doubled.bases["tiny-llama"][key])
    assert not torch.allclose(only_answers.bases["tiny-llama"][key], everywhere.bases["tiny-llama"][key])


def test_models_of_one_architecture_share_their_bases(models, samples):
    three = {"a": models["tiny-llama"], "b": models["tiny-llama"], "c": models["tiny-gemma"]}
    alignment = align(three, samples[:20], mode="pivot", **SHAPE)
    assert alignment.bases["a"] is alignment.bases["b"]
    assert alignment.basis(models["tiny-gemma"].architecture) is alignment.bases["c"]


def test_what_cannot_be_aligned_is_refused(models, samples):
    one = {"tiny-llama": models["tiny-llama"]}
    with pytest.raises(SettingsError, match=r"tiny-llama is 1 architecture.*at least two"):
        align(one, samples, **SHAPE)
    with pytest.raises(SettingsError, match="alignment from 3 samples: give at least 10"):
        align(models, samples[:3], **SHAPE)
    with pytest.raises(SettingsError, match="rank=300"):
        align(models, samples, rank=300, blocks=2, mode="pivot")
    with pytest.raises(SettingsError, match="blocks=5"):
        align(models, samples, rank=8, blocks=5)
    adapter = attach(models["tiny-llama"])
    try:
        with pytest.raises(ModelError, match="already carries an adapter"):
            align(models, samples, **SHAPE)
    finally:
        adapter.detach()


def test_layers_of_a_model_are_most_like_themselves(models, samples):
    model = models["tiny-llama"]
    similarity = layer_similarity(model, model, samples[:20])
    assert similarity.shape == (4, 4)
    torch.testing.assert_close(similarity.diagonal(), torch.ones(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(similarity, similarity.T, atol=1e-5, rtol=0)
    other = layer_similarity(model, models["tiny-gemma"], samples[:20])
    assert other.shape == (4, 5)
    assert 0 <= float(other.min()) <= float(other.max()) < 1


def test_a_mode_can_be_given_other_values(models, samples):
    pair = {name: models[name] for name in ("tiny-llama", "tiny-gemma")}
    usual, changed = (
        align(pair, samples[:20], mode=mode, **SHAPE) for mode in ("pivot", dataclasses.replace(Pivot(), ridge=1.0))
    )
    assert changed.mode == usual.mode == "pivot"
    key = "block.0.q_proj.A"
    assert not torch.allclose(changed.bases["tiny-llama"][key], usual.bases["tiny-llama"][key])
