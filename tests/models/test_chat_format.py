"""End marks, padding, chat templates and lengths of checkpoints: used where that is sound, else one line."""

import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fedmosaic.data.sample import Sample
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.base import IGNORED
from fedmosaic.models.positions import position_limit
from fedmosaic.models.read import load_checkpoint
from fedmosaic.pretraining.tokenizers import fit_tokenizer

SHAPE = {
    "vocab_size": 500, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
WORDS = (
    "what kind of thing is this ? options : bird fish tool boat answer : first second user assistant red and green a"
)
CHAT = (
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


@pytest.fixture
def save(tmp_path):
    def make(*, template=None, generation=None, model=LlamaForCausalLM, config=None, **marks):
        torch.manual_seed(0)
        module = model(config or LlamaConfig(**SHAPE, bos_token_id=1, eos_token_id=2, max_position_embeddings=64))
        module.save_pretrained(tmp_path)
        fitted = fit_tokenizer("bpe", [WORDS] * 20, vocabulary=300, whole_words=[])
        own = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"} | marks
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=fitted.backend_tokenizer, **{name: token for name, token in own.items() if token}
        )
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path)
        if generation is not None:
            (tmp_path / "generation_config.json").write_text(json.dumps(generation))
        return tmp_path

    return make


def load(folder, noise):
    return load_checkpoint("it", folder, images=noise)


def ask(length=1, name="d"):
    return Sample(name, (), " ".join(["what kind of thing is this ?"] * length) + " answer :", "a fish tool")


# ---- marks


@pytest.mark.parametrize("marks", [{"pad_token": None}, {"pad_token": "<eos>"}], ids=["none", "end token"])
@pytest.mark.parametrize("template", [None, CHAT], ids=["plain", "chat"])
def test_the_end_mark_pads_and_still_ends_answers(save, noise, marks, template):
    """In the labels, in the template's own text, and for the model's eyes."""
    model = load(save(template=template, **marks), noise)
    short, long = ask(1, "short"), ask(3, "long")
    batch, end = model.collate([short, long]), model.tokenizer.eos_token_id
    assert model.tokenizer.pad_token_id == end
    for row, sample in enumerate((short, long)):
        alone = model.collate([sample])
        length = int(alone.attention_mask.sum())
        assert int(batch.attention_mask[row].sum()) == length
        assert torch.equal(batch.input_ids[row, :length], alone.input_ids[0])
        answer = batch.labels[row][batch.labels[row] != IGNORED]
        assert answer[-1] == end
        assert model.tokenizer.decode(answer[:-1]).strip() == "a fish tool"
        inside = batch.input_ids[row, :length] == end
        assert int(inside.sum()) == (2 if template else 1)  # the user's turn ends, too
        losses = model.answer_logits(batch).logits[model.answer_logits(batch).rows == row]
        torch.testing.assert_close(losses, model.answer_logits(alone).logits, rtol=1e-4, atol=1e-5)


def test_an_end_mark_is_taken_from_the_generation_settings_if_it_is_a_special_token(save, noise):
    model = load(
        save(eos_token=None, generation={"eos_token_id": [299, 2]}, additional_special_tokens=["<eos>"]), noise
    )
    assert model.tokenizer.eos_token == "<eos>"
    assert model.collate([ask()]).labels[0, -1] == 2


@pytest.mark.parametrize("generation", [{}, {"eos_token_id": 250}, {"eos_token_id": 10_000}])
def test_without_an_end_mark_a_checkpoint_is_refused(save, noise, generation):
    """Token 250 is a part of words: to end answers with it would be wrong."""
    config = LlamaConfig(**SHAPE, bos_token_id=1, eos_token_id=250)
    with pytest.raises(ModelError, match=r"^base model 'it' .*no end token.*set eos_token in tokenizer_config"):
        load(save(eos_token=None, config=config, generation=generation), noise)


def test_marks_that_the_model_does_not_know(save, noise):
    config = LlamaConfig(**SHAPE | {"vocab_size": 300}, eos_token_id=2)
    model = load(save(config=config, pad_token="[PAD]"), noise)  # added without resizing, as is often done
    assert model.tokenizer.pad_token == "<eos>"
    config = LlamaConfig(**SHAPE | {"vocab_size": 300}, eos_token_id=2)
    with pytest.raises(ModelError, match=r"'\[END\]' is token 3\d\d, but the model has only 300 embeddings"):
        load(save(config=config, eos_token="[END]"), noise)


def test_tokens_that_the_model_does_not_know_are_found_before_a_run(save, noise):
    config = LlamaConfig(**SHAPE | {"vocab_size": 150}, eos_token_id=2)
    model = load(save(config=config), noise)
    with pytest.raises(ModelError, match=r"sample 'd' has the token .* only 150 embeddings"):
        model.prepare([ask()])


# ---- chat templates

RAISING = {
    "always": "{{ raise_exception('System role first') }}",
    "no system": "{% if messages[0]['role'] != 'system' %}{{ raise_exception('System role first') }}{% endif %}",
    "unknown filter": "{{ messages | nothing }}",
    "syntax": "{% for m in messages %}",
    "undefined": "{{ messages[0]['content']['text']['x'] + 1 }}",
    "no number": "{{ messages[0]['content'] + 1 }}",
    "recursion": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "zero": "{{ 1 // 0 }}",
    "silent": "hello",
}


@pytest.mark.parametrize("kind", RAISING)
def test_a_template_that_cannot_word_a_question_is_found_when_the_model_is_loaded(save, noise, kind):
    words = "System role first" if "raise" in RAISING[kind] else "template"
    with pytest.raises(ModelError, match=rf"^base model 'it' .*{words}") as caught:
        load(save(template=RAISING[kind]), noise)
    assert "\n" not in str(caught.value)


def test_a_template_that_raises_on_one_text_is_found_before_a_run(save, noise):
    template = CHAT.replace(
        "{{ m['role'] }}", "{% if 'this' in m['content'] %}{{ raise_exception('no this') }}{% endif %}"
    )
    model = load(save(template=template), noise)
    model.prepare([Sample("fine", (), "what kind ? answer :", "fish")])
    with pytest.raises(ModelError, match="no this"):
        model.prepare([ask()])


# ---- lengths


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (LlamaForCausalLM, LlamaConfig(**SHAPE, max_position_embeddings=64)),
        (GPT2LMHeadModel, GPT2Config(vocab_size=500, n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=2)),
    ],
    ids=["rotary", "learned"],
)
def test_a_sample_that_does_not_fit_is_named_before_a_run_and_never_cut(save, noise, model, config):
    model = load(save(model=model, config=config), noise)
    assert model.limit == 64
    lengths = [model.collate([ask(count)]).input_ids.shape[1] for count in (1, 2, 3)]
    step = lengths[1] - lengths[0]
    fits = (64 - lengths[0]) // step + 1
    model.prepare([ask(fits)])
    long = ask(fits + 1, "too long")
    for refuse in (model.prepare, model.collate):
        with pytest.raises(ModelError, match=rf"'too long' is {lengths[0] + step * fits} tokens.*'it'.*at most 64"):
            refuse([ask(1), long])


def test_the_answer_counts(save, noise):
    model = load(save(), noise)
    prompt = ask(1).prompt
    with pytest.raises(ModelError, match="'d' is"):
        model.prepare([Sample("d", (), prompt, " ".join(["fish"] * 60))])
    model.collate([Sample("d", (), prompt, " ".join(["fish"] * 60))], with_answers=False)


def test_an_answer_ends_at_the_last_position(save, noise):
    config = GPT2Config(vocab_size=500, n_embd=32, n_layer=2, n_head=2, n_positions=16, eos_token_id=2)
    model = load(save(model=GPT2LMHeadModel, config=config), noise)
    sample = Sample("d", (), "what kind ? answer :", "a")
    free = 16 - model.collate([sample], with_answers=False).input_ids.shape[1]
    (answer,) = model.answer([sample], max_tokens=100)
    assert 0 < len(model.tokenizer(answer, add_special_tokens=False)["input_ids"]) <= free


@pytest.mark.slow
def test_images_count_with_the_tokens_that_they_become(tiny, samples):
    length = tiny.collate(samples[:1]).input_ids.shape[1]
    before = tiny.limit
    try:
        tiny.limit = length
        tiny.prepare(samples[:1])
        tiny.limit = length - 1
        for refuse in (tiny.prepare, tiny.collate):
            with pytest.raises(ModelError, match=rf"'a' is {length} tokens long .* at most {length - 1}"):
                refuse(samples[:1])
    finally:
        tiny.limit = before


def test_text_models_refuse_images_before_a_run(save, noise, samples):
    with pytest.raises(DataError, match="text model"):
        load(save(), noise).prepare(samples)


@pytest.mark.parametrize(
    ("rope", "limit"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 64),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}, 256),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32, "rope_theta": 1e4}, 64),
        ({"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}, 64),
    ],
)
def test_stretched_positions_reach_as_far_as_the_configuration_says(rope, limit):
    assert position_limit(LlamaConfig(**SHAPE, max_position_embeddings=64, rope_parameters=rope)) == limit
