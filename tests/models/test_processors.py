"""Processors that take images differently: one list per text (Gemma 3), padded blocks (Idefics 3, as in SmolVLM)."""

import pytest
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)

from fedmosaic.models.read import load_checkpoint
from fedmosaic.pretraining.tokenizers import fit_tokenizer

SMALL = {
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 14,
}
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }} : {% for c in m['content'] %}"
    "{{ 'MARK' if c['type'] == 'image' else ' ' + c['text'] }}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant :\n{% endif %}"
)


def tokenizer_with(*marks, **named):
    corpus = [
        "what kind of thing is this ? options : bird fish tool boat answer : first second odd one out green red"
    ] * 20
    fitted = fit_tokenizer("bpe", corpus, vocabulary=400, whole_words=["user", "assistant"])
    fitted.add_special_tokens({"additional_special_tokens": ["<image>", *marks]})
    return PreTrainedTokenizerFast(
        tokenizer_object=fitted.backend_tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens=named,
    )


def save_gemma3(folder):
    begin, end, soft = "<start_of_image>", "<end_of_image>", "<image_soft_token>"
    tokenizer = tokenizer_with(begin, end, soft, image_token=soft, boi_token=begin, eoi_token=end)
    config = Gemma3Config(
        text_config=Gemma3TextConfig(**SMALL, head_dim=16, sliding_window=64).to_dict(),
        vision_config=SiglipVisionConfig(**VISION, image_size=28, vision_use_head=False).to_dict(),
        mm_tokens_per_image=4,
        image_token_index=tokenizer.convert_tokens_to_ids(soft),
        boi_token_index=tokenizer.convert_tokens_to_ids(begin),
        eoi_token_index=tokenizer.convert_tokens_to_ids(end),
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    images = Gemma3ImageProcessor(size={"height": 28, "width": 28}, do_pan_and_scan=False)
    template = TEMPLATE.replace("MARK", begin)
    Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=4).save_pretrained(folder)


def save_idefics3(folder):
    tokenizer = tokenizer_with("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    config = Idefics3Config(
        text_config=LlamaConfig(**SMALL),
        vision_config={**VISION, "image_size": 56},
        image_token_id=3,
        scale_factor=2,
        pad_token_id=0,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    edge = {"longest_edge": 56}
    images = Idefics3ImageProcessor(size=edge, max_image_size=edge, do_image_splitting=False)
    template = TEMPLATE.replace("MARK", "<image>")
    Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=template).save_pretrained(folder)


@pytest.fixture(scope="module", params=[save_gemma3, save_idefics3], ids=["gemma3", "idefics3"])
def folder(request, tmp_path_factory):
    target = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    request.param(target)
    return target


@torch.no_grad()
def test_any_mixture_of_images_gives_each_sample_its_own_logits(folder, noise, samples):
    model = load_checkpoint("checkpoint", folder, images=noise)
    together = model.answer_logits(model.collate(samples))  # one, two, one and no images
    for row, sample in enumerate(samples):
        alone = model.answer_logits(model.collate([sample]))
        torch.testing.assert_close(together.logits[together.rows == row], alone.logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_hidden_states_and_head_make_the_models_logits(folder, noise, samples):
    model = load_checkpoint("checkpoint", folder, images=noise)
    batch = model.collate(samples)
    expected = model.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **batch.vision).logits
    torch.testing.assert_close(model.head(model.hidden_states(batch)), expected)


def test_answers_grow_every_input_that_stands_beside_the_tokens(folder, noise, samples):
    model = load_checkpoint("checkpoint", folder, images=noise)
    answers = model.answer(samples, max_tokens=3)
    assert answers == [model.answer([sample], max_tokens=3)[0] for sample in samples]
