from contextlib import contextmanager

import torch
import torch.nn.functional as F
from transformers import LlavaForConditionalGeneration

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.models.base import IGNORED
from fedmosaic.models.families import build_module
from fedmosaic.models.fingerprint import architecture_name
from fedmosaic.models.pixels import normalise
from fedmosaic.models.special_tokens import IMAGE_ID
from fedmosaic.registry import FAMILIES

SHAPES = {"tiny-llama": (4, 128), "tiny-qwen2": (6, 160), "tiny-gemma": (5, 112), "tiny-llama-small": (3, 96)}


def test_families_differ_in_kind_depth_and_width(tiny):
    config = tiny.module.config.text_config
    assert (config.num_hidden_layers, config.hidden_size) == SHAPES[tiny.name]
    assert type(tiny.module) is LlavaForConditionalGeneration
    assert len(tiny.decoder.layers) == config.num_hidden_layers
    assert len({type(FAMILIES.load(name).text_config(vocab_size=9)).__name__ for name in FAMILIES}) == 3


def test_model_is_frozen_and_counts_its_weights(tiny):
    assert not tiny.module.training
    assert not any(parameter.requires_grad for parameter in tiny.module.parameters())
    tower = sum(parameter.numel() for parameter in tiny.module.model.vision_tower.parameters())
    decoder = sum(parameter.numel() for parameter in tiny.decoder.parameters())
    assert tiny.parameter_count > tower + decoder > tower + 300_000


def test_samples_become_image_tokens_text_answer_and_end(tiny, samples):
    batch = tiny.collate(samples)
    assert (batch.input_ids == IMAGE_ID).sum(1).tolist() == [4, 8, 4, 0]
    assert batch.vision["features"].shape == (4, 4, 256)
    for row, sample in enumerate(samples):
        length = int(batch.attention_mask[row].sum())
        assert batch.attention_mask[row].tolist() == [1] * length + [0] * (batch.input_ids.shape[1] - length)
        answer = batch.labels[row][batch.labels[row] != IGNORED]
        assert tiny.tokenizer.decode(answer[:-1]).strip() == sample.answer
        assert answer[-1] == tiny.tokenizer.eos_token_id
        assert torch.equal(batch.input_ids[row, length - len(answer) : length], answer)
        assert batch.input_ids[row, 0] == tiny.tokenizer.bos_token_id


def test_prompts_are_the_same_without_their_answers(tiny, samples):
    full, prompts = tiny.collate(samples), tiny.collate(samples, with_answers=False)
    assert bool((prompts.labels == IGNORED).all())
    for row in range(len(samples)):
        end = int(prompts.last[row]) + 1
        assert torch.equal(prompts.input_ids[row, :end], full.input_ids[row, :end])
        assert full.labels[row, end] != IGNORED
        assert bool((full.labels[row, :end] == IGNORED).all())


@torch.no_grad()
def test_cached_features_give_the_pixels_logits(tiny, samples):
    batch = tiny.collate(samples)
    pixels = normalise([tiny.features.images.load(key) for sample in samples for key in sample.images])
    expected = tiny.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask, pixel_values=pixels).logits
    inside = batch.attention_mask.bool()
    # the store keeps fp16, so first with the tower's own numbers, then with the stored ones
    batch.vision["features"] = tiny.module.model.vision_tower(pixels).last_hidden_state
    exact = tiny.head(tiny.hidden_states(batch))
    torch.testing.assert_close(exact[inside], expected[inside], rtol=1e-5, atol=1e-5)
    stored = tiny.head(tiny.hidden_states(tiny.collate(samples)))
    torch.testing.assert_close(stored[inside], expected[inside], rtol=1e-2, atol=1e-2)


def test_answer_logits_and_loss_are_those_of_the_whole_head(tiny, samples):
    batch = tiny.collate(samples)
    logits = tiny.head(tiny.hidden_states(batch))
    result = tiny.answer_logits(batch)
    assert result.rows.tolist() == sorted(result.rows.tolist())
    assert torch.bincount(result.rows).tolist() == (batch.labels != IGNORED).sum(1).tolist()
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(F.cross_entropy(result.logits, result.targets), expected)
    torch.testing.assert_close(tiny.loss(batch), expected)
    theirs = tiny.module.loss_function(logits=logits, labels=batch.labels, vocab_size=logits.shape[-1])
    torch.testing.assert_close(tiny.loss(batch), theirs)


@torch.no_grad()
def test_padding_and_neighbours_change_nothing(tiny, samples):
    together = tiny.answer_logits(tiny.collate(samples))
    for row, sample in enumerate(samples):
        alone = tiny.answer_logits(tiny.collate([sample]))
        torch.testing.assert_close(together.logits[together.rows == row], alone.logits, rtol=1e-4, atol=1e-4)


def test_a_different_image_changes_the_prediction(tiny, samples):
    batch = tiny.collate(samples[:1])
    before = tiny.answer_logits(batch).logits
    batch.vision["features"] = tiny.features.get(["000009"])
    assert not torch.allclose(tiny.answer_logits(batch).logits, before, atol=1e-4)


def test_a_one_turn_dialogue_is_its_sample(tiny, samples):
    dialogues = [Dialogue(sample.images, ((sample.prompt, sample.answer),)) for sample in samples]
    from_samples, from_dialogues = tiny.collate(samples), tiny.collate_dialogues(dialogues)
    assert torch.equal(from_samples.input_ids, from_dialogues.input_ids)
    assert torch.equal(from_samples.labels, from_dialogues.labels)


def test_dialogues_label_every_answer(tiny):
    turns = (("<image> what ? answer :", "bird"), ("fish ? answer :", "tool boat"))
    batch = tiny.collate_dialogues([Dialogue(("000001",), turns)])
    labels = batch.labels[0]
    text = tiny.tokenizer.decode(labels[labels != IGNORED], skip_special_tokens=True)
    assert text.split() == ["bird", "tool", "boat"]
    assert labels[-1] == tiny.tokenizer.eos_token_id


def test_gradients_reach_the_decoder_through_frozen_weights(tiny, samples):
    weight = tiny.decoder.layers[0].self_attn.q_proj.weight
    weight.requires_grad_(True)
    try:
        tiny.loss(tiny.collate(samples)).backward()
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
    finally:
        weight.requires_grad_(False)
        weight.grad = None


def test_greedy_answers_are_those_of_transformers(tiny, samples):
    chosen = samples[:1]
    batch = tiny.collate(chosen, with_answers=False)
    pixels = normalise([tiny.features.images.load(key) for key in chosen[0].images])
    generated = tiny.module.generate(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=pixels,
        max_new_tokens=4,
        do_sample=False,
    )
    expected = tiny.tokenizer.decode(generated[0, batch.input_ids.shape[1] :], skip_special_tokens=True).strip()
    assert tiny.answer(chosen, max_tokens=4) == [expected]
    assert len(tiny.answer(samples, max_tokens=4)) == len(samples)


def test_architecture_names_weights_and_shapes(tiny):
    depth, width = SHAPES[tiny.name]
    assert f"{depth}x{width}" in tiny.architecture
    assert architecture_name(tiny.module) == tiny.architecture
    family = FAMILIES.load(tiny.name)
    vocabulary = tiny.module.config.text_config.vocab_size
    other = architecture_name(build_module(family, vocabulary, seed=1))
    assert other != tiny.architecture
    assert other == architecture_name(build_module(family, vocabulary, seed=1).to(torch.bfloat16))


def test_an_adapter_is_told_the_prompts_of_an_answer_once(tiny, samples, monkeypatch):
    read = []

    class Recorder:
        @contextmanager
        def reading(self, batch):
            read.append([row.nonzero()[:, 0].tolist() for row in batch.prompt])
            yield

    monkeypatch.setattr(tiny, "adapter", Recorder())
    full, prompts = tiny.collate(samples), tiny.collate(samples, with_answers=False)
    expected = [list(range(int(last) + 1)) for last in prompts.last]
    tiny.loss(full)
    assert read == [expected]
    tiny.answer(samples, max_tokens=3)
    gap = [prompts.input_ids.shape[1] - len(row) for row in expected]
    assert read[1] == [[before + place for place in row] for before, row in zip(gap, expected, strict=True)]
    assert len(read) > 2
    assert all(each == [[]] * len(samples) for each in read[2:])  # what the prompts gave is kept


def test_the_smallest_models_do_not_see_the_spaces_between_texts(tiny):
    tokenizer = tiny.tokenizer
    for text in ("bird", "is this red ? answer :", "5", "a fish tool", "<image> what is this ?"):
        alone = tokenizer.encode(text, add_special_tokens=False)
        assert alone
        assert [tokenizer.encode(f"{before}{text}", add_special_tokens=False) for before in (" ", "\n")] == [alone] * 2
