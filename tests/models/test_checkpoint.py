"""Checkpoints of several libraries' families, tiny and random: what is tested is the plumbing, not the answers."""

import shutil

import pytest
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.base import IGNORED
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.models.pixels import pad_to_square, wants_squares
from fedmosaic.models.read import load_checkpoint
from fedmosaic.pretraining.tokenizers import fit_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }} : "
    "{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{{ '<image>' if c['type'] == 'image' else ' ' + c['text'] }}{% endfor %}"
    "{% endif %}"
    "{% if m['role'] == 'assistant' %} ;{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)
SMALL = {
    "vocab_size": 500,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture(scope="module")
def tokenizer():
    corpus = [
        "what kind of thing is this ? options : bird fish tool boat answer : first second odd one out green red"
    ] * 20
    return fit_tokenizer("bpe", corpus, vocabulary=400, whole_words=["user", "assistant"])


@pytest.fixture(scope="module")
def text_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SMALL)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["plain", "chat"])
def llava_folder(request, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=32,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=LlamaConfig(**SMALL), image_token_index=3, image_seq_length=4
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE if request.param == "chat" else None,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def llava(llava_folder, noise) -> CheckpointModel:
    return load_checkpoint("llava", llava_folder, images=noise)


@pytest.fixture
def text_model(text_folder, noise) -> CheckpointModel:
    return load_checkpoint("text", text_folder, images=noise)


@torch.no_grad()
def test_llava_gives_its_own_logits(llava, samples):
    batch = llava.collate(samples)
    ours = llava.head(llava.hidden_states(batch))
    theirs = llava.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **batch.vision).logits
    torch.testing.assert_close(ours, theirs)
    assert batch.vision["pixel_values"].shape == (4, 3, 28, 28)
    assert (batch.input_ids == 3).sum(1).tolist() == [4, 8, 4, 0]


def test_llava_labels_answer_and_end_only(llava, samples):
    batch = llava.collate(samples)
    for row, sample in enumerate(samples):
        answer = batch.labels[row][batch.labels[row] != IGNORED]
        assert llava.tokenizer.decode(answer[:-1]).split() == sample.answer.split()
        assert answer[-1] == llava.tokenizer.eos_token_id
        end = int(batch.last[row])
        assert torch.equal(batch.input_ids[row, end + 1 - len(answer) : end + 1], answer)


def test_prompts_follow_the_chat_template_or_stay_as_they_are(llava, samples):
    batch = llava.collate(samples[:1], with_answers=False)
    text = llava.tokenizer.decode(batch.input_ids[0]).replace("<image>", "")
    starts = (batch.input_ids[0] == llava.tokenizer.bos_token_id).sum()
    if llava.processor.chat_template:
        assert starts == 1
        assert text.split()[1:3] == ["user", ":"]
        assert text.split()[-2:] == ["assistant", ":"]
    else:
        assert text.split()[-2:] == ["answer", ":"]


@torch.no_grad()
def test_padding_and_neighbours_change_nothing(llava, samples):
    together = llava.answer_logits(llava.collate(samples))
    for row, sample in enumerate(samples):
        alone = llava.answer_logits(llava.collate([sample]))
        torch.testing.assert_close(together.logits[together.rows == row], alone.logits, rtol=1e-4, atol=1e-5)


def test_dialogues_label_every_answer(llava):
    turns = (("<image> what ? answer :", "bird"), ("fish ? answer :", "tool boat"))
    batch = llava.collate_dialogues([Dialogue(("000001",), turns)])
    labels = batch.labels[0]
    text = llava.tokenizer.decode(labels[labels != IGNORED], skip_special_tokens=True)
    assert text.split() == ["bird", "tool", "boat"]
    whole = llava.tokenizer.decode(batch.input_ids[0]).split()
    assert whole.index("tool") > whole.index("bird")


def test_text_model_answers_like_transformers(text_model, samples):
    chosen = [sample for sample in samples if not sample.images]
    batch = text_model.collate(chosen, with_answers=False)
    generated = text_model.module.generate(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, max_new_tokens=5, do_sample=False
    )
    expected = text_model.tokenizer.decode(generated[0, batch.input_ids.shape[1] :], skip_special_tokens=True).strip()
    assert text_model.answer(chosen, max_tokens=5) == [expected]


def test_decoder_is_found_and_everything_is_frozen(llava, text_model):
    for model in (llava, text_model):
        assert len(model.decoder.layers) == 2
        assert hasattr(model.decoder.layers[0], "mlp")
        assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert llava.architecture != text_model.architecture


def test_text_model_refuses_images(text_model, samples):
    with pytest.raises(DataError, match="text model"):
        text_model.collate(samples)


def test_capped_logits_are_known(tokenizer, noise, tmp_path, samples):
    Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=16, final_logit_softcapping=0.05)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load_checkpoint("gemma2", tmp_path, images=noise)
    logits = model.answer_logits(model.collate([s for s in samples if not s.images])).logits
    assert logits.abs().max() < 0.05


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
def test_a_checkpoint_has_one_architecture_in_every_dtype(text_folder, noise, tmp_path, stored):
    """Also where float16 rounds values that bfloat16 holds: too small, or between two of its steps."""
    module = LlamaForCausalLM.from_pretrained(text_folder, dtype=stored)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1e-3)
    module.save_pretrained(tmp_path)
    shutil.copy(text_folder / "tokenizer.json", tmp_path)
    shutil.copy(text_folder / "tokenizer_config.json", tmp_path)
    found = {}
    for dtype in ("float32", "bfloat16", "float16", "auto"):
        model = load_checkpoint("text", tmp_path, images=noise, dtype=dtype)
        assert model.module.dtype == getattr(torch, stored if dtype == "auto" else dtype)
        found[dtype] = model.architecture
    assert len(set(found.values())) == 1


def test_a_head_that_is_not_understood_is_refused(text_folder, noise, monkeypatch):
    monkeypatch.setattr(CheckpointModel, "head", lambda self, hidden: 2 * self.module.lm_head(hidden))
    with pytest.raises(ModelError, match="override `head`"):
        load_checkpoint("text", text_folder, images=noise)


def test_a_folder_without_weights_says_what_is_expected(text_folder, noise, tmp_path):
    (tmp_path / "config.json").write_text((text_folder / "config.json").read_text())
    with pytest.raises(ModelError, match="safetensors"):
        load_checkpoint("empty", tmp_path, images=noise)


@pytest.mark.slow
def test_images_count_before_a_run_starts(llava, samples):
    """Exactly, by what the processor makes of them; only where they could matter they are opened."""
    lengths = [llava.collate([sample]).input_ids.shape[1] for sample in samples]
    llava.images.loaded.clear()
    llava.prepare(samples)
    assert not llava.images.loaded
    longest = max(range(len(samples)), key=lengths.__getitem__)
    llava.limit = lengths[longest]
    llava.prepare(samples)
    assert llava.images.loaded
    llava.limit -= 1
    with pytest.raises(ModelError, match=f"'{samples[longest].id}' is {lengths[longest]} tokens"):
        llava.prepare(samples)


def test_a_text_models_template_gets_one_text_with_the_image_marks(llava_folder, noise, samples, tmp_path):
    """A tokenizer's own template that prints parts as Python does, or fails on them."""
    for index, content in enumerate(("m['content']", "m['content'] + ''")):
        folder = tmp_path / str(index)
        shutil.copytree(llava_folder, folder)
        (folder / "chat_template.jinja").write_text(
            "{% for m in messages %}{{ m['role'] }} : {{ CONTENT }}\n{% endfor %}assistant :".replace(
                "CONTENT", content
            )
        )
        model = load_checkpoint("llava", folder, images=noise)
        batch = model.collate(samples)
        assert (batch.input_ids == 3).sum(1).tolist() == [4, 8, 4, 0]
        text = model.tokenizer.decode(batch.input_ids[0])
        assert "type" not in text
        assert "user" in text


def test_squares_are_wanted_by_processors_that_crop():
    assert wants_squares(type("P", (), {"image_processor": CLIPImageProcessor()}))
    dynamic = type("I", (), {"size": {"longest_edge": 900, "shortest_edge": 200}})
    assert not wants_squares(type("P", (), {"image_processor": dynamic}))
    assert pad_to_square(Image.new("L", (10, 4), 9)).getpixel((5, 5)) == (9, 9, 9)
    assert pad_to_square(Image.new("RGB", (10, 4))).size == (10, 10)
